"""What stores tell of uploads, whatever their form: which object of which bucket came or went.

Every form is known by its shape, because one address may be given to several stores:

* ``Records`` of Amazon, MinIO, Ceph and others that speak this form, alone or inside an SNS message;
* events of Amazon's EventBridge;
* the webhook of SeaweedFS, which tells of files of its filer instead of objects;
* ``s3:TestEvent``, by which Amazon tries an address out;
* messages of SQS that hold one of these, as Amazon's Lambda and Pipes pass them on.

What is broken in a known form is passed over, and the log tells: the rest of the message counts, and a
store that is answered with an error would send the same again, and nothing else.

A notice is a hint to look into the bucket, so it holds nothing that a listing would tell better.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import unquote_plus

from services.events.fields import NotANoticeError, kind_of, object_of, shown, text_of
from services.events.rate_limited_log import Seldom

__all__ = ["NotANoticeError", "Notice", "decode", "opaque_data", "parse", "parse_text", "shown"]

#: Bytes of one message: the most that SQS holds, and four times what SNS does.
MAX_BYTES: Final = 1024 * 1024
#: How deep objects and lists may lie in each other; the deepest of real stores goes to eight.
MAX_DEPTH: Final = 32
#: Records, or messages, in one message; stores send one, or a small batch after a pause.
MAX_RECORDS: Final = 1000
#: Bytes of a key in UTF-8, S3's own limit.
MAX_KEY_BYTES: Final = 1024
#: Characters of a bucket's name; buckets older than S3's rule of 63 may have so many.
MAX_BUCKET_LENGTH: Final = 255

#: Each store's own name comes before it: aws:s3, minio:s3, ceph:s3, sgws:s3, rustfs:s3.
_S3: Final = ":s3"
# ObjectSynced: a copy of Ceph's in another place. Ceph's first releases give no more than the first part.
_CREATED: Final = ("ObjectCreated:", "ObjectSynced:Create")
_REMOVED: Final = (
    "ObjectRemoved:",
    "LifecycleExpiration:",
    "ObjectLifecycle:Expiration:",
    "ObjectSynced:Delete",
)
#: What MinIO files under ObjectCreated and ObjectRemoved although no picture came or went.
_UNCHANGED: Final = frozenset(
    {"PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold", "NoOP"}
)
_EVENTBRIDGE: Final = {"Object Created": True, "Object Deleted": False}
_FILER_ROOT: Final = "/buckets/"
_BROKEN: Final = Seldom()


@dataclass(frozen=True)
class Notice:
    """One object that came or went.

    Attributes:
        bucket: The store's own name of the bucket.
        key: Key of the object, decoded.
        created: Whether it was written; else it was removed.
    """

    bucket: str
    key: str
    created: bool


def parse(raw: bytes) -> object:
    """Read a message as it came.

    Where a name stands twice in an object, the last one counts, as for the senders' own libraries.

    Raises:
        NotANoticeError: It is too large or too deep, or not JSON in UTF-8.
    """
    if len(raw) > MAX_BYTES:
        raise NotANoticeError(f"the message has {len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotANoticeError(f"the message is not UTF-8: byte {error.start} is none") from error
    return parse_text(text)


def parse_text(text: str) -> object:
    """Read a message that came as text; see :func:`parse`.

    Raises:
        NotANoticeError: It is too large or too deep, or not JSON.
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
    except ValueError as error:  # among them, a whole number of thousands of digits
        raise NotANoticeError("the message holds a number that is none of JSON's") from error
    _check_depth(body)
    return body


def decode(body: object) -> list[Notice]:
    """What one message tells.

    Messages that a store sends beside its notices (tests of the address, events of directories,
    of tags, of reads) give an empty list. What is broken in a known form is passed over.

    Args:
        body: The message as :func:`parse` gives it; a list holds several messages.

    Raises:
        NotANoticeError: It, or all that it holds, has none of the known forms.
    """
    if not isinstance(body, list):
        return list(_told(body))
    if len(body) > MAX_RECORDS:
        raise NotANoticeError(f"{len(body)} messages came at once; at most {MAX_RECORDS} are read")
    return _known(body, _told)


def opaque_data(body: object) -> str | None:
    """The text that Ceph was told to send along, where every record carries the same; else None."""
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
    """The notices of all parts that have a known form.

    Raises:
        NotANoticeError: None of them has.
    """
    found: list[Notice] = []
    strange: list[NotANoticeError] = []
    for part in parts:
        try:
            found += read(part)
        except NotANoticeError as error:
            strange.append(error)
    if strange and len(strange) == len(parts):
        raise strange[0]
    for each in strange:
        _BROKEN.warn("passed over a part of a message: %s", each)
    return found


def _sound(notices: Iterator[Notice]) -> Iterator[Notice]:
    """What a part of a known form gives, up to where it is broken."""
    try:
        yield from notices
    except NotANoticeError as error:
        _BROKEN.warn("passed over a notice: %s", error)


def _told(body: object) -> Iterator[Notice]:
    """The notices of one message, whose form is found here."""
    message = object_of(body, "the message")
    records = message.get("Records")
    # Only out here: a message in a message in a message could go on for long.
    if _is_queued(message):
        yield from _from_queue(message)
    elif isinstance(records, list) and any(_is_queued(each) for each in records[:1]):
        yield from _known(_few(records), _from_queue)
    else:
        yield from _from_topic(message)


def _is_queued(message: object) -> bool:
    return isinstance(message, dict) and message.get("eventSource") == "aws:sqs"


def _from_queue(value: object) -> Iterator[Notice]:
    """What a message of SQS holds: JSON that travels as text."""
    message = object_of(value, "the SQS message")
    body = parse_text(text_of(message, "body", "the SQS message"))
    yield from _from_topic(object_of(body, "the message inside the SQS message"))


def _from_topic(message: Mapping[str, object]) -> Iterator[Notice]:
    if message.get("Type") == "Notification" and "TopicArn" in message:
        yield from _plain(object_of(_unwrapped(message), "the message inside the SNS message"))
    else:
        yield from _plain(message)


def _unwrapped(message: Mapping[str, object]) -> object:
    """What S3 gave to SNS: JSON that travels as text."""
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
    # A tuple: in a set, what came must be hashable.
    if kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        return (
            f"an SNS message of type {kind} came where notices are read: confirm the subscription where it was "
            "made; a subscription that is confirmed sends notices"
        )
    names = ", ".join(shown(name) for name in list(message)[:5]) or "nothing"
    return (
        f"the message has no form that is known (it holds {names}): expected S3's Records, an event of EventBridge, "
        "an SNS notification, or SeaweedFS's event_type and key"
    )


def _from_records(records: object) -> Iterator[Notice]:
    if not isinstance(records, list):
        raise NotANoticeError(f"Records is {kind_of(records)}; expected a list")
    yield from _known(_few(records), _from_record)


def _few(records: list[object]) -> list[object]:
    if len(records) > MAX_RECORDS:
        raise NotANoticeError(f"Records holds {len(records)}; at most {MAX_RECORDS} are read")
    return records


def _from_record(value: object) -> Iterator[Notice]:
    record = object_of(value, "a record")
    source = text_of(record, "eventSource", "a record")
    if not source.endswith(_S3):
        raise NotANoticeError(
            f"a record's eventSource is {shown(source)}; expected aws:s3, minio:s3, ceph:s3 or another of S3"
        )
    yield from _sound(_from_s3(record, source))


def _from_s3(record: Mapping[str, object], source: str) -> Iterator[Notice]:
    created = _is_creation(text_of(record, "eventName", "a record"))
    if created is not None:
        s3 = object_of(record.get("s3"), "a record's s3")
        yield _notice(s3, created, encoded=_is_encoded(source, record))


def _is_creation(name: str) -> bool | None:
    """Whether an event's name tells of an object that came, that went (False), or neither (None)."""
    name = f"{name.removeprefix('s3:')}:"
    if name.split(":")[1] in _UNCHANGED:
        return None
    if name.startswith(_CREATED):
        return True
    return False if name.startswith(_REMOVED) else None


def _is_encoded(source: str, record: Mapping[str, object]) -> bool:
    """Whether the key is percent-encoded as in a form, which S3 asks for.

    Ceph writes it as it is; decoding that would turn ``+`` into a space and ``%41`` into A.
    """
    # Early releases of Ceph call themselves aws:s3, but only Ceph gives every event an id.
    return source != "ceph:s3" and not (source == "aws:s3" and "eventId" in record)


def _from_eventbridge(message: Mapping[str, object]) -> Iterator[Notice]:
    if message.get("source") != "aws.s3":
        raise NotANoticeError(
            f"an event of EventBridge comes from {shown(message.get('source'))}; expected aws.s3"
        )
    yield from _sound(_from_bridged(message))


def _from_bridged(message: Mapping[str, object]) -> Iterator[Notice]:
    created = _EVENTBRIDGE.get(text_of(message, "detail-type", "an event of EventBridge"))
    if created is not None:
        detail = object_of(message.get("detail"), "the event's detail")
        yield _notice(detail, created, encoded=False)


def _from_filer(message: Mapping[str, object]) -> Iterator[Notice]:
    """SeaweedFS tells of files: the old one by its path, the new one by its folder and its name."""
    kind = text_of(message, "event_type", "SeaweedFS's message")
    path = text_of(message, "key", "SeaweedFS's message")
    if not path.startswith("/"):
        raise NotANoticeError("the key of SeaweedFS's message is no path of its filer")
    yield from _sound(_from_change(message.get("message"), kind, path))


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
    """The object at a path of the filer; none where it is something of SeaweedFS's own."""
    bucket, _, key = path.removeprefix(_FILER_ROOT).partition("/")
    # SeaweedFS keeps what it knows of owners in a folder whose name can't be a bucket's.
    is_bucket = path.startswith(_FILER_ROOT) and not bucket.startswith(".")
    if is_bucket and key and not _is_internal(key):
        yield _checked(bucket, key, created)


def _is_internal(key: str) -> bool:
    """Parts of unfinished uploads, and the versions that a bucket keeps beside an object."""
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
        raise NotANoticeError(f"the key {shown(key)} does not decode to UTF-8") from error


def _checked(bucket: str, key: str, created: bool) -> Notice:
    if not bucket or len(bucket) > MAX_BUCKET_LENGTH or not bucket.isascii():
        raise NotANoticeError(f"{shown(bucket)} can't be the name of a bucket")
    try:
        length = len(key.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise NotANoticeError(f"the key {shown(key)} holds half a character") from error
    if not 0 < length <= MAX_KEY_BYTES:
        raise NotANoticeError(f"a key has {length} bytes; S3 allows 1 to {MAX_KEY_BYTES}")
    if "\0" in key:
        raise NotANoticeError(f"the key {shown(key)} holds a zero byte, which no table can")
    return Notice(bucket, key, created)
