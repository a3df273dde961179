"""Notices of storage in all known forms: which object of which bucket was written or removed.

Each form is recognised by its shape, because several stores may send to one address:

* `Records` of Amazon, MinIO, Ceph and others that use this form, alone or inside an SNS message;
* events of Amazon's EventBridge;
* the webhook of SeaweedFS, which reports files of its filer instead of objects;
* `s3:TestEvent`, with which Amazon tries an address;
* messages of SQS that hold one of these, as Amazon's Lambda and Pipes pass them on.

A broken part of a known form is passed over with a line in the log, and the rest of the message counts: a store that
got an error as the answer would send the same message again, and nothing else.

A notice is a hint to list the bucket, so it holds nothing that the listing shows better.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote_plus

from services.events.fields import NotANoticeError, kind_of, object_of, shown, text_of
from services.events.rate_limited_log import RateLimitedLog

#: Bytes of one message: the most that SQS allows, and four times what SNS does.
MAX_BYTES: Final = 1024 * 1024
#: How deep objects and lists may be nested; the deepest message of a real store has eight levels.
MAX_DEPTH: Final = 32
#: Records, or messages, in one message; stores send one, or a small batch after a pause.
MAX_RECORDS: Final = 1000
#: Bytes of a key in UTF-8, S3's own limit.
MAX_KEY_BYTES: Final = 1024
#: Characters of a bucket's name; buckets older than S3's limit of 63 may have this many.
MAX_BUCKET_LENGTH: Final = 255

# The name of the store stands before it: aws:s3, minio:s3, ceph:s3, sgws:s3, rustfs:s3.
_S3: Final = ":s3"
# ObjectSynced: a copy that Ceph made in another zone. The first releases of Ceph give only the part before the colon.
_CREATED: Final = ("ObjectCreated:", "ObjectSynced:Create")
_REMOVED: Final = (
    "ObjectRemoved:",
    "LifecycleExpiration:",
    "ObjectLifecycle:Expiration:",
    "ObjectSynced:Delete",
)
# What MinIO reports as ObjectCreated or ObjectRemoved although no object was written or removed.
_UNCHANGED: Final = frozenset(
    {"PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold", "NoOP"}
)
_EVENTBRIDGE: Final = {"Object Created": True, "Object Deleted": False}
_FILER_ROOT: Final = "/buckets/"
_BROKEN: Final = RateLimitedLog()


@dataclass(frozen=True)
class Notice:
    """One object that was written or removed.

    Attributes:
        bucket: Name of the bucket in the store.
        key: Key of the object, decoded.
        created: Whether the object was written; otherwise it was removed.
    """

    bucket: str
    key: str
    created: bool


def parse(raw: bytes) -> object:
    """Parse the bytes of a message.

    If a name occurs twice in an object, the last one counts, as in the libraries of the senders.

    Raises:
        NotANoticeError: If the message is too large or too deep, or not JSON in UTF-8.
    """
    if len(raw) > MAX_BYTES:
        raise NotANoticeError(f"the message has {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotANoticeError(
            f"the message is not UTF-8: byte {error.start} can't be decoded"
        ) from error
    return parse_text(text)


def parse_text(text: str) -> object:
    """Parse the text of a message; see `parse`.

    Raises:
        NotANoticeError: If the message is too large or too deep, or not JSON.
    """
    if len(text) > MAX_BYTES:
        raise NotANoticeError(
            f"the message has {len(text)} characters; at most {MAX_BYTES} are read"
        )
    try:
        body: object = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise NotANoticeError(f"the message is nested deeper than {MAX_DEPTH} levels") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise NotANoticeError(f"the message is not JSON: {error.msg} at {where}") from error
    except ValueError as error:  # also for an integer of thousands of digits
        raise NotANoticeError("the message has a number that JSON does not allow") from error
    _check_depth(body)
    return body


def decode(body: object) -> list[Notice]:
    """Return the notices of one message.

    Messages that a store sends besides notices (tests of the address; events of directories, tags or reads) give an
    empty list. A broken part of a known form is passed over.

    Args:
        body: The message as `parse` returns it; a list holds several messages.

    Raises:
        NotANoticeError: If the message, or everything in it, has none of the known forms.
    """
    if not isinstance(body, list):
        return list(_from_message(body))
    if len(body) > MAX_RECORDS:
        raise NotANoticeError(f"the list has {len(body)} messages; at most {MAX_RECORDS} are read")
    return _known(body, _from_message)


def opaque_data(body: object) -> str | None:
    """Return the text that Ceph sends along for its topic, or None unless every record has the same one."""
    records = body.get("Records") if isinstance(body, dict) else None
    if not isinstance(records, list):
        return None
    found = [each.get("opaqueData") if isinstance(each, dict) else None for each in records]
    first = found[0] if found else None
    return first if isinstance(first, str) and all(each == first for each in found) else None


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)


def _check_depth(body: object) -> None:
    level = [body]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise NotANoticeError(f"the message is nested deeper than {MAX_DEPTH} levels")


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _known(parts: Sequence[object], read: Callable[[object], Iterator[Notice]]) -> list[Notice]:
    """Return the notices of all parts that have a known form.

    Raises:
        NotANoticeError: If there are parts and none of them has a known form.
    """
    found: list[Notice] = []
    unknown: list[NotANoticeError] = []
    for part in parts:
        try:
            found += read(part)
        except NotANoticeError as error:
            unknown.append(error)
    if unknown and len(unknown) == len(parts):
        raise unknown[0]
    for each in unknown:
        _BROKEN.warn("passed over a part of a message: %s", each)
    return found


def _unbroken(notices: Iterator[Notice]) -> Iterator[Notice]:
    """Yield the notices of a part that has a known form, up to the point where it is broken."""
    try:
        yield from notices
    except NotANoticeError as error:
        _BROKEN.warn("passed over a notice: %s", error)


def _from_message(body: object) -> Iterator[Notice]:
    """Yield the notices of one message, by its form."""
    message = object_of(body, "the message")
    records = message.get("Records")
    # Only at this level: otherwise messages could be nested without end.
    if _is_queued(message):
        yield from _from_queue(message)
    elif isinstance(records, list) and any(_is_queued(each) for each in records[:1]):
        yield from _known(_few(records), _from_queue)
    else:
        yield from _from_topic(message)


def _is_queued(message: object) -> bool:
    return isinstance(message, dict) and message.get("eventSource") == "aws:sqs"


def _from_queue(value: object) -> Iterator[Notice]:
    """Yield the notices of an SQS message, which holds JSON as text."""
    message = object_of(value, "the SQS message")
    body = parse_text(text_of(message, "body", "the SQS message"))
    yield from _from_topic(object_of(body, "the message inside the SQS message"))


def _from_topic(message: Mapping[str, object]) -> Iterator[Notice]:
    if message.get("Type") == "Notification" and "TopicArn" in message:
        yield from _plain(object_of(_unwrapped(message), "the message inside the SNS message"))
    else:
        yield from _plain(message)


def _unwrapped(message: Mapping[str, object]) -> object:
    """Return the content of an SNS message, which is JSON as text."""
    return parse_text(text_of(message, "Message", "the SNS message"))


def _plain(message: Mapping[str, object]) -> Iterator[Notice]:
    if "Records" in message:
        yield from _from_records(message["Records"])
    elif "detail-type" in message:
        yield from _from_eventbridge(message)
    elif "event_type" in message and "key" in message:
        yield from _from_filer(message)
    elif message.get("Event") != "s3:TestEvent":
        raise NotANoticeError(_unknown(message))


def _unknown(message: Mapping[str, object]) -> str:
    kind = message.get("Type")
    # In a tuple, not in a set: the value of a foreign message may not be hashable.
    if kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return f"an SNS message of type {kind} is not a notice: confirm the subscription, which then sends notices"
    names = ", ".join(shown(name) for name in list(message)[:5]) or "none"
    return (
        f"the message has no known form (its fields are {names}): expected S3's Records, an event of EventBridge, "
        "an SNS notification, or SeaweedFS's event_type and key"
    )


def _from_records(records: object) -> Iterator[Notice]:
    if not isinstance(records, list):
        raise NotANoticeError(f"Records is {kind_of(records)}; expected a list")
    yield from _known(_few(records), _from_record)


def _few(records: list[object]) -> list[object]:
    if len(records) > MAX_RECORDS:
        raise NotANoticeError(f"Records has {len(records)} entries; at most {MAX_RECORDS} are read")
    return records


def _from_record(value: object) -> Iterator[Notice]:
    record = object_of(value, "a record")
    source = text_of(record, "eventSource", "a record")
    if not source.endswith(_S3):
        raise NotANoticeError(
            f"a record's eventSource is {shown(source)}; expected aws:s3, minio:s3, ceph:s3 or another of S3"
        )
    yield from _unbroken(_from_s3(record, source))


def _from_s3(record: Mapping[str, object], source: str) -> Iterator[Notice]:
    created = _is_creation(text_of(record, "eventName", "a record"))
    if created is not None:
        s3 = object_of(record.get("s3"), "a record's s3")
        yield _notice(s3, created, encoded=_is_encoded(source, record))


def _is_creation(name: str) -> bool | None:
    """Return whether an event is a creation (True), a removal (False), or neither (None), by its name."""
    name = f"{name.removeprefix('s3:')}:"
    if name.split(":")[1] in _UNCHANGED:
        return None
    if name.startswith(_CREATED):
        return True
    return False if name.startswith(_REMOVED) else None


def _is_encoded(source: str, record: Mapping[str, object]) -> bool:
    """Return whether the key is percent-encoded as in a web form, as S3 does it.

    Ceph does not encode keys; decoding one would turn `+` into a space and `%41` into A.
    """
    # Early releases of Ceph call themselves aws:s3, but only Ceph gives each event an id.
    return source != "ceph:s3" and not (source == "aws:s3" and "eventId" in record)


def _from_eventbridge(message: Mapping[str, object]) -> Iterator[Notice]:
    if message.get("source") != "aws.s3":
        raise NotANoticeError(
            f"the source of an event of EventBridge is {shown(message.get('source'))}; expected aws.s3"
        )
    yield from _unbroken(_from_bridged(message))


def _from_bridged(message: Mapping[str, object]) -> Iterator[Notice]:
    created = _EVENTBRIDGE.get(text_of(message, "detail-type", "an event of EventBridge"))
    if created is not None:
        detail = object_of(message.get("detail"), "the event's detail")
        yield _notice(detail, created, encoded=False)


def _from_filer(message: Mapping[str, object]) -> Iterator[Notice]:
    """Yield the notices of SeaweedFS, which reports an old file by its path and a new one by folder and name."""
    kind = text_of(message, "event_type", "SeaweedFS's message")
    path = text_of(message, "key", "SeaweedFS's message")
    if not path.startswith("/"):
        raise NotANoticeError("the key of SeaweedFS's message is not a path of its filer")
    yield from _unbroken(_from_change(message.get("message"), kind, path))


def _from_change(value: object, kind: str, path: str) -> Iterator[Notice]:
    change = object_of({} if value is None else value, "SeaweedFS's message")
    if _is_directory(change.get("old_entry")) or _is_directory(change.get("new_entry")):
        return
    if kind in {"update", "rename"}:
        new = _new_path(change, path)
        if new != path:
            yield from _at_path(path, created=False)
        yield from _at_path(new, created=True)
    elif kind in {"create", "delete"}:
        yield from _at_path(path, created=kind == "create")


def _is_directory(entry: object) -> bool:
    return isinstance(entry, dict) and entry.get("is_directory") is True


def _new_path(change: Mapping[str, object], path: str) -> str:
    folder, entry = change.get("new_parent_path"), change.get("new_entry")
    name = entry.get("name") if isinstance(entry, dict) else None
    if not (isinstance(folder, str) and folder and isinstance(name, str) and name):
        return path
    return f"{folder.rstrip('/')}/{name}"


def _at_path(path: str, *, created: bool) -> Iterator[Notice]:
    """Yield the notice of the object at a path of the filer, unless the path is internal to SeaweedFS."""
    bucket, _, key = path.removeprefix(_FILER_ROOT).partition("/")
    # SeaweedFS keeps data about owners in a folder with a dot, which no bucket's name begins with.
    is_bucket = path.startswith(_FILER_ROOT) and not bucket.startswith(".")
    if is_bucket and key and not _is_internal(key):
        yield _checked(bucket, key, created)


def _is_internal(key: str) -> bool:
    """Return whether a key belongs to an unfinished upload, or is a version kept beside an object."""
    *folders, _name = key.split("/")
    return ".uploads" in folders[:1] or any(each.endswith(".versions") for each in folders)


def _notice(holder: Mapping[str, object], created: bool, *, encoded: bool) -> Notice:
    bucket = text_of(object_of(holder.get("bucket"), "the bucket"), "name", "the bucket")
    key = text_of(object_of(holder.get("object"), "the object"), "key", "the object")
    return _checked(bucket, _decoded(key) if encoded else key, created)


def _decoded(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as error:
        raise NotANoticeError(f"the key {shown(key)} is not UTF-8 when decoded") from error


def _checked(bucket: str, key: str, created: bool) -> Notice:
    if not bucket or len(bucket) > MAX_BUCKET_LENGTH or not bucket.isascii():
        raise NotANoticeError(f"{shown(bucket)} can't be the name of a bucket")
    try:
        length = len(key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise NotANoticeError(f"the key {shown(key)} has half of a surrogate pair") from error
    if not 0 < length <= MAX_KEY_BYTES:
        raise NotANoticeError(f"a key has {length} bytes; S3 allows 1 to {MAX_KEY_BYTES}")
    if "\0" in key:
        raise NotANoticeError(f"the key {shown(key)} has a zero byte, which tables can't hold")
    return Notice(bucket, key, created)
