"""Every form of notice that a store sends, and everything that only looks like one."""

import copy
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events import notices, rate_limited_log
from services.events.fields import NotANoticeError, shown
from services.events.notices import Notice, decode, opaque_data, parse

#: What encodings can spoil: a blank, a plus, a percent sign with two digits, letters beyond ASCII.
PICTURE = "lab/detect_images/žluť 1+a%41.png"
ENCODED = "lab/detect_images/%C5%BElu%C5%A5+1%2Ba%2541.png"
CAME = Notice("pictures", PICTURE, created=True)
WENT = Notice("pictures", PICTURE, created=False)


def record(source: str, name: str, key: str, **more: object) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": source,
        "awsRegion": "eu-central-1",
        "eventTime": "2026-11-23T10:00:00.000Z",
        "eventName": name,
        "userIdentity": {"principalId": "someone"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "uploads",
            "bucket": {"name": "pictures", "arn": "arn:aws:s3:::pictures"},
            "object": {"key": key, "size": 5, "eTag": "5d41402a"},
        },
        **more,
    }


def records(*each: object, **more: object) -> dict[str, Any]:
    return {**more, "Records": list(each)}


def eventbridge(kind: str, source: str = "aws.s3") -> dict[str, Any]:
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": kind,
        "source": source,
        "account": "111122223333",
        "detail": {"bucket": {"name": "pictures"}, "object": {"key": PICTURE, "size": 5}},
    }


def filer(kind: str, path: str, **message: object) -> dict[str, Any]:
    return {"event_type": kind, "key": path, "message": message}


def sns(message: object, kind: str = "Notification") -> dict[str, Any]:
    return {
        "Type": kind,
        "MessageId": "d5a4a0b2-0000-5f9e-9d5e-000000000000",
        "TopicArn": "arn:aws:sns:eu-central-1:111122223333:uploads",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(message),
    }


def queued(message: object) -> dict[str, Any]:
    """A message of SQS as Lambda and Pipes pass it on."""
    return {
        "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
        "receiptHandle": "a handle to delete it by",
        "body": json.dumps(message),
        "attributes": {"ApproximateReceiveCount": "1"},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:111122223333:uploads",
    }


PATH = f"/buckets/pictures/{PICTURE}"
NAME = PICTURE.rpartition("/")[2]
FOLDER = PATH.rpartition("/")[0]
TEST_EVENT = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "pictures"}
PUT = records(record("aws:s3", "ObjectCreated:Put", ENCODED))

FORMS: dict[str, tuple[object, list[Notice]]] = {
    "AWS put": (records(record("aws:s3", "ObjectCreated:Put", ENCODED)), [CAME]),
    "AWS post": (records(record("aws:s3", "ObjectCreated:Post", ENCODED)), [CAME]),
    "AWS copy": (records(record("aws:s3", "ObjectCreated:Copy", ENCODED)), [CAME]),
    "AWS multipart": (
        records(record("aws:s3", "ObjectCreated:CompleteMultipartUpload", ENCODED)),
        [CAME],
    ),
    "AWS delete": (records(record("aws:s3", "ObjectRemoved:Delete", ENCODED)), [WENT]),
    "AWS delete marker": (
        records(record("aws:s3", "ObjectRemoved:DeleteMarkerCreated", ENCODED)),
        [WENT],
    ),
    "AWS expired": (records(record("aws:s3", "LifecycleExpiration:Delete", ENCODED)), [WENT]),
    "AWS restored": (records(record("aws:s3", "ObjectRestore:Completed", ENCODED)), []),
    "AWS tagged": (records(record("aws:s3", "ObjectTagging:Put", ENCODED)), []),
    "AWS lost a copy": (
        records(record("aws:s3", "ReducedRedundancyLostObject", ENCODED)),
        [],
    ),
    "AWS several": (
        records(
            record("aws:s3", "ObjectCreated:Put", ENCODED),
            record("aws:s3", "ObjectAcl:Put", ENCODED),
            record("aws:s3", "ObjectRemoved:Delete", ENCODED),
        ),
        [CAME, WENT],
    ),
    "AWS none": (records(), []),
    "AWS test": (TEST_EVENT, []),
    "moto, which encodes slashes": (
        records(record("aws:s3", "ObjectCreated:Put", ENCODED.replace("/", "%2F"))),
        [CAME],
    ),
    "MinIO put": (
        records(
            record("minio:s3", "s3:ObjectCreated:Put", ENCODED.replace("/", "%2F")),
            EventName="s3:ObjectCreated:Put",
            Key=f"pictures/{PICTURE}",
        ),
        [CAME],
    ),
    "MinIO delete": (records(record("minio:s3", "s3:ObjectRemoved:Delete", ENCODED)), [WENT]),
    "MinIO read": (records(record("minio:s3", "s3:ObjectAccessed:Get", ENCODED)), []),
    "MinIO tagged": (records(record("minio:s3", "s3:ObjectCreated:PutTagging", ENCODED)), []),
    "Ceph put": (
        records(record("ceph:s3", "ObjectCreated:Put", PICTURE, eventId="1.2.3", opaqueData="abc")),
        [CAME],
    ),
    "Ceph Octopus put": (
        records(record("ceph:s3", "s3:ObjectCreated:Put", PICTURE, eventId="1.2.3")),
        [CAME],
    ),
    "Ceph Nautilus": (records(record("aws:s3", "ObjectCreated", PICTURE, eventId="1.2.3")), [CAME]),
    "Ceph expired": (
        records(record("ceph:s3", "ObjectLifecycle:Expiration:Current", PICTURE)),
        [WENT],
    ),
    "Ceph synced": (records(record("ceph:s3", "ObjectSynced:Create", PICTURE)), [CAME]),
    "EventBridge": (eventbridge("Object Created"), [CAME]),
    "EventBridge delete": (eventbridge("Object Deleted"), [WENT]),
    "EventBridge tags": (eventbridge("Object Tags Added"), []),
    "SNS": (sns(records(record("aws:s3", "ObjectCreated:Put", ENCODED))), [CAME]),
    "SNS test": (sns(TEST_EVENT), []),
    "SNS EventBridge": (sns(eventbridge("Object Created")), [CAME]),
    "SeaweedFS create": (
        filer("create", PATH, new_entry={"name": NAME}, new_parent_path=FOLDER),
        [CAME],
    ),
    "SeaweedFS overwrite": (
        filer(
            "update",
            PATH,
            old_entry={"name": NAME},
            new_entry={"name": NAME},
            new_parent_path=FOLDER,
        ),
        [CAME],
    ),
    "SeaweedFS delete": (filer("delete", PATH, old_entry={"name": NAME}), [WENT]),
    "SeaweedFS rename": (
        filer(
            "rename",
            PATH,
            old_entry={"name": NAME},
            new_entry={"name": "b.png"},
            new_parent_path="/buckets/pictures/other",
        ),
        [WENT, Notice("pictures", "other/b.png", created=True)],
    ),
    "SeaweedFS without details": ({"event_type": "create", "key": PATH}, [CAME]),
    "SeaweedFS folder": (
        filer("create", "/buckets/pictures/lab", new_entry={"name": "lab", "is_directory": True}),
        [],
    ),
    "SeaweedFS bucket": (filer("create", "/buckets/pictures"), []),
    "SeaweedFS owners": (filer("create", "/buckets/.system/owners/admin/pictures"), []),
    "SeaweedFS elsewhere": (filer("create", "/etc/iam/identity.json"), []),
    "SeaweedFS part": (filer("create", "/buckets/pictures/.uploads/5f_8a/0001_77.part"), []),
    "SeaweedFS version": (filer("create", "/buckets/pictures/a/x.png.versions/v_67153f"), []),
    "StorageGRID": (records(record("sgws:s3", "ObjectCreated:Put", ENCODED)), [CAME]),
    "RustFS": (records(record("rustfs:s3", "s3:ObjectCreated:Put", ENCODED)), [CAME]),
    "Pipes": ([queued(PUT)], [CAME]),
    "Lambda": (records(queued(PUT), queued(sns(PUT))), [CAME, CAME]),
    "Pipes, one message": (queued(eventbridge("Object Deleted")), [WENT]),
    "Pipes test": ([queued(TEST_EVENT)], []),
    "several at once": ([eventbridge("Object Created"), TEST_EVENT], [CAME]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_right_keys(form: str) -> None:
    body, expected = FORMS[form]

    assert decode(parse(json.dumps(body).encode())) == expected
    assert decode(parse(json.dumps(body, ensure_ascii=False).encode())) == expected


def without(*path: str) -> dict[str, Any]:
    """A record of Amazon's that lacks something."""
    made = record("aws:s3", "ObjectCreated:Put", ENCODED)
    inner = made
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return records(made)


def keyed(key: str, source: str = "ceph:s3") -> dict[str, Any]:
    return records(record(source, "ObjectCreated:Put", key))


STRANGE: dict[str, tuple[object, str]] = {
    "text": ("hello", "the message is text; expected an object"),
    "nothing": (None, "the message is missing"),
    "an empty object": ({}, "its fields are none"),
    "another form": ({"hello\n": 1, "b": 2}, r"its fields are 'hello\\n', 'b'"),
    "no list": ({"Records": {}}, "Records is an object; expected a list"),
    "no record": ({"Records": [5]}, "a record is a number; expected an object"),
    "another store": (records(record("gcp:gcs", "x", "k")), "eventSource is 'gcp:gcs'"),
    "no source": (without("eventSource"), "eventSource of a record is missing"),
    "too many": ({"Records": [{}] * 1001}, "Records has 1001 entries; at most 1000"),
    "too many messages": ([TEST_EVENT] * 1001, "the list has 1001 messages"),
    "another service": (
        eventbridge("Object Created", "aws.ec2"),
        "the source of an event of EventBridge is 'aws.ec2'",
    ),
    "no path": (filer("create", "relative"), "not a path of its filer"),
    "SNS without a message": ({"Type": "Notification", "TopicArn": "t"}, "Message of the SNS"),
    "SNS with text": (sns("hello"), "the message inside the SNS message is text"),
    "SQS without a body": ([{"eventSource": "aws:sqs"}], "body of the SQS message is missing"),
    "SQS with text": ([queued("hello")], "the message inside the SQS message is text"),
    "SQS in SQS": (records(queued(records(queued(PUT)))), "eventSource is 'aws:sqs'"),
    "SNS in SNS": (sns(sns(TEST_EVENT)), "has no known form"),
    "a kind that is no text": ({"Type": [], "TopicArn": []}, "has no known form"),
    "a subscription": (sns("", "SubscriptionConfirmation"), "confirm the subscription"),
}


@pytest.mark.parametrize("kind", STRANGE)
def test_an_unknown_form_is_refused_with_the_reason(kind: str) -> None:
    body, reason = STRANGE[kind]

    with pytest.raises(NotANoticeError, match=reason) as caught:
        decode(body)

    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 500


BROKEN: dict[str, tuple[object, str]] = {
    "no name": (without("eventName"), "eventName of a record is missing"),
    "no s3": (without("s3"), "a record's s3 is missing"),
    "no bucket": (without("s3", "bucket"), "the bucket is missing"),
    "no bucket's name": (without("s3", "bucket", "name"), "name of the bucket is missing"),
    "no key": (without("s3", "object", "key"), "key of the object is missing"),
    "an empty key": (keyed(""), "a key has 0 bytes"),
    "a long key": (keyed("ž" * 513), "a key has 1026 bytes; S3 allows 1 to 1024"),
    "a zero byte": (keyed("a\0b"), "zero byte"),
    "half a character": (keyed("\ud800"), "half of a surrogate pair"),
    "bytes that are no text": (keyed("%ff", "aws:s3"), "is not UTF-8 when decoded"),
    "no detail": ({"detail-type": "Object Created", "source": "aws.s3"}, "detail is missing"),
    "a long path": (filer("create", PATH + "x" * 1024), "a key has"),
}


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    """Lines of the log, with a fresh limit."""
    lines: list[str] = []
    monkeypatch.setattr(notices, "_BROKEN", rate_limited_log.RateLimitedLog())
    monkeypatch.setattr(caplog.handler, "emit", lambda line: lines.append(line.getMessage()))
    with caplog.at_level(logging.WARNING, "pollen.events"):
        yield lines


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_part_is_logged_and_stops_nothing_else(kind: str, logged: list[str]) -> None:
    body, reason = BROKEN[kind]

    assert decode(body) == []
    assert decode([PUT, body, PUT]) == [CAME, CAME]

    assert len(logged) == 2
    assert reason in logged[0]
    assert logged[0].isascii()


def test_a_broken_record_stops_no_other(logged: list[str]) -> None:
    good = record("minio:s3", "s3:ObjectCreated:Put", ENCODED)
    bad = record("minio:s3", "s3:ObjectCreated:Put", "x" * 1025)

    assert decode(records(good, bad, good)) == [CAME, CAME]
    assert decode(records(good, {"eventSource": "gcp:gcs"}, "hello", good)) == [CAME, CAME]
    assert decode(records(queued(PUT), queued("hello"), queued(PUT))) == [CAME, CAME]
    assert decode([PUT, {}, sns("hello"), PUT]) == [CAME, CAME]

    assert len(logged) == 6
    assert logged[0] == "1: passed over a notice: a key has 1025 bytes; S3 allows 1 to 1024"
    assert "'gcp:gcs'" in logged[1]


def test_the_log_of_what_is_broken_is_bounded(logged: list[str]) -> None:
    bad = record("aws:s3", "ObjectCreated:Put", "")

    for _ in range(2):
        assert decode(records(*[bad] * 1000)) == []

    assert len(logged) == rate_limited_log.SHOWN + 2
    assert logged[-1].startswith("2000: passed over")


RAW: dict[str, tuple[bytes, str]] = {
    "too large": (b" " * (notices.MAX_BYTES + 1), "has 1048577 bytes; at most 1048576"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8: byte 7"),
    "not JSON": (b'{"a":\n x}', "not JSON: Expecting value at line 2, column 2"),
    "empty": (b"", "not JSON"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
    "two documents": (b"{}{}", "not JSON: Extra data"),
    "deep": (b'{"a":' * 40 + b"1" + b"}" * 40, "deeper than 32"),
    "very deep": (b"[" * 500_000, "deeper than 32|not JSON"),
    "NaN": (b'{"a": NaN}', "a number that JSON does not allow"),
    "endless number": (b"1" * 100_000, "a number that JSON does not allow"),
}


@pytest.mark.parametrize("kind", RAW)
def test_unreadable_bytes_are_refused_with_the_reason(kind: str) -> None:
    raw, reason = RAW[kind]

    with pytest.raises(NotANoticeError, match=reason):
        parse(raw)


def test_depth_up_to_the_limit_is_read() -> None:
    deepest = b"[" * notices.MAX_DEPTH + b"1" + b"]" * notices.MAX_DEPTH

    parse(deepest)

    with pytest.raises(NotANoticeError, match="deeper"):
        parse(b"[" + deepest + b"]")


def test_depth_does_not_depend_on_how_deep_the_caller_is() -> None:
    """Close to the interpreter's own limit, JSON of no depth at all may already be too much."""

    def descend(levels: int) -> None:
        if levels:
            descend(levels - 1)
        else:
            with pytest.raises(NotANoticeError, match="deeper"):
                parse(b"[" * 400 + b"]" * 400)

    descend(sys.getrecursionlimit() // 2)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)


@st.composite
def spoilt(draw: st.DrawFn) -> object:
    """A message of a real form, in which one value is replaced by any other."""
    body = copy.deepcopy(draw(st.sampled_from([body for body, _ in FORMS.values()])))
    place: Any = {"": body}
    name: Any = ""
    while isinstance(place[name], dict | list) and place[name] and draw(st.integers(0, 5)):
        place = place[name]
        name = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
    if place == {"": body}:
        return draw(ANY_JSON)
    place[name] = draw(ANY_JSON)
    return body


@settings(max_examples=400)
@given(ANY_JSON | spoilt())
def test_any_json_gives_notices_or_a_sentence(body: object) -> None:
    found: list[Notice] = []
    sentence = "none"
    try:
        found = decode(body)
    except NotANoticeError as error:
        sentence = str(error)
    for notice in found:
        assert notice.bucket
        assert 0 < len(notice.key.encode()) <= notices.MAX_KEY_BYTES
    assert sentence.isascii()
    assert "\n" not in sentence
    opaque_data(body)


@settings(max_examples=200)
@given(st.binary(max_size=200) | ANY_JSON.map(lambda body: json.dumps(body).encode()))
def test_any_bytes_give_json_or_a_sentence(raw: bytes) -> None:
    try:
        read = parse(raw)
    except NotANoticeError:
        return
    assert read == json.loads(raw.decode("utf-8"))


@settings(max_examples=200)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=255),
    st.booleans(),
)
def test_any_key_comes_through_every_source(key: str, created: bool) -> None:
    name = "ObjectCreated:Put" if created else "ObjectRemoved:Delete"
    expected = [Notice("pictures", key, created)]

    assert decode(records(record("ceph:s3", name, key))) == expected
    for source in ("aws:s3", "minio:s3", "other:s3"):
        assert decode(records(record(source, name, quote_plus(key)))) == expected
        assert decode(records(record(source, name, quote_plus(key, safe="/")))) == expected


def test_opaque_data_is_what_all_records_share() -> None:
    def ceph(*data: object) -> dict[str, Any]:
        return records(
            *(record("ceph:s3", "ObjectCreated:Put", PICTURE, opaqueData=each) for each in data)
        )

    assert opaque_data(ceph("abc", "abc")) == "abc"
    assert opaque_data(ceph("abc", "other")) is None
    assert opaque_data(ceph(["abc"])) is None
    assert opaque_data(ceph()) is None
    assert opaque_data(records(record("aws:s3", "ObjectCreated:Put", PICTURE))) is None
    assert opaque_data(TEST_EVENT) is None


def test_foreign_text_is_shown_safely() -> None:
    assert shown("ž\n\x1b[31m") == r"'\u017e\n\x1b[31m'"
    assert len(shown("x" * 10_000)) < 80
    assert shown(None) == "a value of type missing"


RECORDED = Path("..", "shared", "events")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("ceph_reef_http_push_put", ["in/žluť 1+a.txt"]),
        ("minio_webhook_put", ["in/žluť 1+a.txt"]),
        ("seaweedfs_webhook_put", ["in/žluť 1+a.txt"]),
        (
            "ministack_s3_to_eventbridge_to_sqs",
            ["in/žluť 1+a.txt", "out/x", "in/copy", "in/mp.bin", "-in/copy"],
        ),
        # moto tells of a multipart upload twice.
        (
            "moto_s3_to_sns_to_sqs",
            ["in/žluť 1+a.txt", "out/x", "in/copy", "in/mp.bin", "in/mp.bin"],
        ),
        ("moto_s3_to_sqs", ["in/žluť 1+a.txt", "in/copy", "in/mp.bin", "in/mp.bin", "-in/copy"]),
    ],
)
def test_recorded_messages(pytestconfig: pytest.Config, name: str, keys: list[str]) -> None:
    path = pytestconfig.rootpath / RECORDED / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"the recorded messages of real servers are not at {RECORDED}")

    found = decode(parse(path.read_bytes()))

    assert [f"{'' if each.created else '-'}{each.key}" for each in found] == keys
    assert {each.bucket for each in found} == {"evb"}
