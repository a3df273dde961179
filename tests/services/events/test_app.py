"""The HTTP side in this process: who is let in, what is refused and counted, and that nothing breaks it."""

import asyncio
import json
from collections.abc import Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events import incoming, sns
from services.events.app import AppContext, application
from services.events.incoming import (
    MAX_UNKNOWN_BYTES,
    BodyMemory,
    RefusedRequestError,
    RequestSlots,
)
from services.events.notices import MAX_BYTES
from services.events.rate_limited_log import SHOWN
from services.events.receiver import MOST_HELD
from tests.services.events.here import BEARER, Client, Here, started
from tests.support.events import TOKEN, ceph, minio
from tests.support.sns import DIRECT, TOPIC, notification, subscription


@pytest.fixture
def here() -> Here:
    return started()


def picture(name: str = "a.jpg") -> dict[str, Any]:
    return ceph("pictures", f"root/detect_images/{name}")


def scope(headers: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return a request with a body that a test sends piece by piece, as no client does."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/events",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "query_string": b"",
    }


@pytest.mark.parametrize("path", ["/", "/events", f"/events/{TOKEN}"])
def test_probes_are_answered(here: Here, path: str) -> None:
    assert here.client.request("HEAD", path).status_code == 200
    assert here.client.get(path).status_code == 200
    assert here.client.request("PUT", path).status_code == 405
    assert here.counters.requests == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/event", 404),
        ("POST", f"/events/{TOKEN}/more", 404),
        ("POST", "/status", 405),
        ("DELETE", "/events", 405),
    ],
)
def test_a_wrong_address_is_counted_and_not_repeated(
    here: Here, method: str, path: str, status: int
) -> None:
    answer = here.client.request(method, path, BEARER, b"{}")
    assert answer.status_code == status
    assert "POST to /events" in answer.json()["refused"]
    assert TOKEN not in answer.text
    assert ("allow" in answer.headers) == (status == 405)
    assert here.counters.refused == {"wrong address": 1}


@pytest.mark.parametrize("path", ["/", "/events", "/events/"])
def test_takes_what_comes_with_the_token(here: Here, path: str) -> None:
    answer = here.post(picture(), path, headers=BEARER)
    assert (answer.status_code, answer.json()["uploads"]) == (200, 1)
    assert here.post(picture(), path, headers={"authorization": TOKEN}).status_code == 200
    assert here.uploads == 2


def test_takes_what_comes_with_the_token_in_the_path_or_in_ceph_s_data(here: Here) -> None:
    assert here.post(picture(), f"/events/{TOKEN}").status_code == 200
    assert here.post(ceph("pictures", "root/staging_area/a.zip", TOKEN)).status_code == 200
    assert here.counters.uploads == {"pictures": 1, "exports": 1}


@pytest.mark.parametrize(
    ("path", "headers", "data"),
    [
        ("/events", {}, None),
        ("/", {}, None),
        ("/events", {"Authorization": "Bearer wrong"}, None),
        ("/events", {"Authorization": f"Bearer {TOKEN}x"}, None),
        ("/events", {"Authorization": "Basic eDp5"}, None),
        ("/events", {"Authorization": f"Basic {TOKEN}"}, None),
        ("/events", {"Authorization": ""}, TOKEN),
        ("/events/wrong", {}, TOKEN),
        (f"/events/{TOKEN.upper()}", {}, None),
        ("/events", {}, "wrong"),
        ("/events", {}, ""),
    ],
)
def test_refuses_who_does_not_know_the_token(
    here: Here, path: str, headers: dict[str, str], data: str | None
) -> None:
    body = ceph("pictures", "root/detect_images/a.jpg", data)
    answer = here.post(body, path, headers=headers)
    assert answer.status_code == 401
    assert TOKEN not in answer.text
    assert here.uploads == 0
    assert here.counters.refused.total() == 1


def test_another_kind_of_authorization_is_not_about_the_token(here: Here) -> None:
    """SNS sends name and password of the address as Basic, and the token in the path counts."""
    basic = {"Authorization": "Basic eDp5"}
    message = notification(picture())
    assert here.post(message, headers=basic | DIRECT).status_code == 401
    assert here.post(message, f"/events/{TOKEN}", headers=basic | DIRECT).status_code == 200
    data = ceph("pictures", "root/detect_images/a.jpg", TOKEN)
    assert here.post(data, headers=basic).status_code == 200
    assert here.post(picture(), f"/events/{TOKEN}", headers=basic).status_code == 200
    assert here.uploads == 3


def test_ceph_s_data_must_be_right_in_every_record(here: Here) -> None:
    mixed = ceph("pictures", "root/detect_images/a.jpg", TOKEN)
    mixed["Records"] += picture()["Records"]
    assert here.post(mixed).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "no notice"),
        (b"{", 400, "no notice"),
        (b"\xff\xfe", 400, "no notice"),
        (b"[" * 100_000, 400, "no notice"),
        (b'{"a":' * 60 + b"1" + b"}" * 60, 400, "no notice"),
        (b"1" * 6000, 400, "no notice"),
        (b'{"hello": "world"}', 400, "no notice"),
        (b" " * (MAX_BYTES + 1), 413, "too large"),
    ],
)
def test_messages_that_are_not_notices_are_refused(
    here: Here, body: bytes, status: int, reason: str
) -> None:
    assert here.post(body, headers=BEARER).status_code == status
    assert here.counters.refused == {reason: 1}


def test_a_length_beyond_the_limit_is_refused_unread(here: Here) -> None:
    for headers, limit in ((BEARER, MAX_BYTES), ({}, MAX_UNKNOWN_BYTES)):
        length = {"Content-Length": str(limit + 1)}
        answer = here.post(b"", headers={**headers, **length})
        assert answer.status_code == 413
    assert here.post(b" " * (MAX_UNKNOWN_BYTES + 1)).status_code == 413


@pytest.mark.parametrize(("headers", "name"), [(BEARER, "BODY_S"), ({}, "UNKNOWN_BODY_S")])
def test_a_body_that_does_not_come_is_not_waited_for(
    here: Here, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], name: str
) -> None:
    monkeypatch.setattr(incoming, name, 0.05)

    async def slow() -> int:
        statuses: list[int] = []

        async def receive() -> MutableMapping[str, Any]:
            if statuses:
                await asyncio.sleep(600)
            statuses.append(0)
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.append(message.get("status", 0))

        await here.client.app(scope(headers), receive, send)
        return max(statuses)

    assert asyncio.run(slow()) == 408
    assert here.counters.refused == {"slow": 1}


def test_another_bucket_is_refused_and_what_is_partly_ours_is_taken(here: Here) -> None:
    foreign = ceph("other", "root/detect_images/a.jpg")
    answer = here.post(foreign, headers=BEARER)
    # MinIO and Ceph would for ever repeat what is answered with an error, and send nothing after it.
    assert (answer.status_code, answer.json()) == (200, {"refused": "this bucket is not watched"})
    foreign["Records"] += picture()["Records"]
    assert here.post(foreign, headers=BEARER).json()["uploads"] == 1
    assert here.counters.passed == {"foreign": 2}
    assert here.counters.refused == {"foreign bucket": 1}


def test_what_is_outside_the_roots_is_counted_and_not_repeated(here: Here) -> None:
    """An error would be answered by sending the same again, for ever."""
    answer = here.post(ceph("pictures", "root/detected_images/a.jpg.jpg"), headers=BEARER)
    assert answer.status_code == 200
    assert here.counters.passed == {"elsewhere": 1}
    assert here.uploads == 0


def test_minio_s_keys_are_decoded(here: Here) -> None:
    here.post(minio("pictures", "root%2Fdetect_images%2F%C5%BE+1%2Ba.jpg"), headers=BEARER)
    (waiting,) = here.bursts.pending
    assert waiting.key == "detect_images/ž 1+a.jpg"


@pytest.mark.parametrize("message", [notification(picture()), subscription()])
@pytest.mark.parametrize("path", ["/events", "/events/wrong", f"/events/{TOKEN}x"])
def test_sns_without_the_token_is_refused_like_every_other_sender(
    here: Here, message: dict[str, Any], path: str
) -> None:
    """The topic, signature and header that the message gives make no difference."""
    for headers in ({}, DIRECT):
        theirs, others = (here.post(each, path, headers) for each in (message, picture()))
        assert theirs.status_code == others.status_code == 401
        assert theirs.content == others.content
        assert theirs.headers.items() == others.headers.items()
    wrong = here.post(message, headers=DIRECT | {"Authorization": "Bearer wrong"})
    assert wrong.status_code == 401
    assert here.uploads == 0
    assert here.confirmed == []


def test_sns_without_the_token_is_logged_with_the_remedy_and_rarely(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    message = notification(picture())
    here.post(message)
    here.post(message, f"/events/{TOKEN}", DIRECT)
    here.post(message, f"/events/{TOKEN}x")
    assert caplog.messages == []
    here.post(message, headers=DIRECT)
    here.post(message, f"/events/{TOKEN}x", DIRECT)
    assert len(caplog.messages) == 2
    for _ in range(20):
        here.post(message, headers=DIRECT | {"Authorization": f"Bearer {TOKEN}x"})
    assert len(caplog.messages) == SHOWN
    assert all(
        "https://.../events/<token> (see docs/events.md)" in line for line in caplog.messages
    )
    assert not any(secret in caplog.text for secret in (TOKEN, "a.jpg", TOPIC))


@pytest.mark.parametrize(
    ("path", "headers"), [(f"/events/{TOKEN}", DIRECT), ("/events", BEARER | DIRECT)]
)
def test_sns_with_the_token_is_taken(here: Here, path: str, headers: dict[str, str]) -> None:
    assert here.post(notification(picture()), path, headers).json()["uploads"] == 1
    assert here.post(subscription(), path, headers).status_code == 200
    assert here.confirmed == [subscription()]
    assert here.post(subscription("UnsubscribeConfirmation"), path, headers).status_code == 200
    assert len(here.confirmed) == 1


def test_only_configured_topics_are_taken_and_confirmed(here: Here) -> None:
    """Even with the token: nobody can subscribe the receiver to a topic of their own."""
    other = {"TopicArn": TOPIC + "2"}
    for headers in (BEARER, BEARER | DIRECT):
        answer = here.post(subscription(**other), headers=headers)
        assert answer.status_code == 403
        assert "events.sns_topics" in answer.json()["refused"]
        unsubscribed = subscription("UnsubscribeConfirmation", **other)
        assert here.post(unsubscribed, headers=headers).status_code == 403
    assert here.post(notification(picture(), **other), headers=BEARER | DIRECT).status_code == 403
    assert here.counters.refused == {"SNS": 5}
    assert here.confirmed == []
    assert here.uploads == 0
    # Not from SNS itself: a sender with the token passes the message on.
    assert here.post(notification(picture(), **other), headers=BEARER).status_code == 200


def test_without_topics_no_subscription_is_confirmed() -> None:
    here = started(topics=())
    assert here.post(subscription(), headers=BEARER).status_code == 403
    assert here.post(notification(picture()), headers=BEARER | DIRECT).status_code == 403
    assert here.confirmed == []


def test_the_default_confirmation_opens_only_addresses_of_sns(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with the token: the receiver can't be made to open addresses inside the cluster."""
    opened: list[str] = []

    async def fetch(url: str) -> bytes:
        opened.append(url)
        return b""

    parts = here.context
    context = AppContext(
        parts.receiver, parts.counters, parts.token, parts.topics, parts.status
    )  # as `pollen events` makes it
    assert context.confirm is sns.confirm
    monkeypatch.setattr(sns.confirm, "__defaults__", (fetch,))
    here.client = Client(application(context))
    inside = subscription(SubscribeURL="http://prefect-server:4200/api/admin/settings")
    assert here.post(inside, headers=BEARER).status_code == 403
    assert opened == []
    here.post(subscription(), headers=BEARER)
    assert opened == [subscription()["SubscribeURL"]]


@pytest.mark.parametrize(("heals", "status"), [(True, 429), (False, 403)])
def test_sns_sends_a_subscription_again_only_if_that_may_help(
    here: Here, monkeypatch: pytest.MonkeyPatch, heals: bool, status: int
) -> None:
    async def confirm(_message: Mapping[str, object]) -> None:
        raise sns.RefusedError("not confirmed", heals=heals)

    monkeypatch.setattr(here.context, "confirm", confirm)
    assert here.post(subscription(), headers=BEARER).status_code == status


def test_without_a_token_nothing_is_taken_over_http() -> None:
    here = started(token=None)
    for message in (notification(picture()), subscription()):
        assert here.post(message).status_code == 401
        assert here.post(message, headers=DIRECT).status_code == 401
    assert here.confirmed == []
    for data in (None, "", TOKEN):
        assert here.post(ceph("pictures", "root/detect_images/a.jpg", data)).status_code == 401
    assert here.post(picture(), headers=BEARER).status_code == 401
    assert here.post(picture(), "/events/").status_code == 401


def test_what_comes_before_the_bucket_is_known_is_held(here: Here) -> None:
    here = started({"storage": {"block": "lab"}})
    assert here.client.get("/ready").status_code == 503
    assert here.client.get("/health").status_code == 200
    assert here.post(picture(), headers=BEARER).json()["held"] == 1
    many = ceph("pictures", "root/detect_images/b.jpg")
    many["Records"] *= 1000
    answers = [here.post(many, headers=BEARER) for _ in range(MOST_HELD // 1000)]
    assert [each.status_code for each in answers] == [200, 429]
    assert answers[-1].headers["retry-after"]
    assert here.roots.on_known is not None
    here.roots.known = started().roots.known
    here.roots.on_known()
    assert here.uploads == 1001
    assert here.client.get("/ready").status_code == 200


def test_not_ready_while_the_server_takes_nothing_for_long(here: Here) -> None:
    assert here.client.get("/ready").status_code == 200
    here.counters.failing_since = -1000.0
    assert here.client.get("/ready").status_code == 503


def test_the_status_has_counts_and_neither_secrets_nor_names_of_files(here: Here) -> None:
    here.post(picture("hidden-name.jpg"), headers=BEARER)
    here.post(picture())
    here.counters.trouble = "<b>away</b>"
    shown = here.client.get("/status", headers=BEARER).json()
    assert shown["uploads"] == {"pictures": 1}
    assert shown["refused"] == {"no token": 1}
    assert shown["waiting"][0]["root"] == "lab"
    page = here.client.get("/status", headers=BEARER | {"Accept": "text/html,*/*"})
    assert page.headers["content-type"].startswith("text/html")
    assert "1 pictures" in page.text
    assert "<b>" not in page.text
    for text in (json.dumps(shown), page.text):
        assert TOKEN not in text
        assert "hidden-name" not in text


def test_the_status_needs_the_token(here: Here) -> None:
    here.post(picture(), headers=BEARER)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        answer = here.client.get("/status", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "lab" not in answer.text
    assert here.client.get("/status", headers=BEARER).json()["waiting"][0]["root"] == "lab"
    assert here.counters.refused == {}  # these did not want to tell of anything


def test_without_a_token_the_status_says_that_something_is_wrong_but_not_what() -> None:
    here = started(token=None)
    assert here.client.get("/status").json()["trouble"] is None
    here.counters.trouble = "the server at http://inside.example"
    here.queue["trouble"] = "arn:aws:inside"
    answer = here.client.get("/status")
    shown = answer.json()
    assert shown["trouble"] == shown["queue"]["trouble"] == "the log says why"
    assert "inside" not in answer.text


def test_unknown_senders_can_t_shut_out_known_ones(here: Here) -> None:
    """All places for unknown senders are taken, and all to wait at; one with the token still passes."""
    here.context.unknown = RequestSlots(1, 1, 0.1)

    async def crowd() -> tuple[list[httpx.Response], int]:
        transport = httpx.ASGITransport(here.client.app)
        async with (
            here.context.unknown.slot(),
            httpx.AsyncClient(transport=transport, base_url="http://here") as client,
        ):
            unknown = [client.post("/events", content=b"{}") for _ in range(3)]
            known = client.post("/events", content=json.dumps(picture()), headers=BEARER)
            *refused, taken = await asyncio.gather(*unknown, known)
            return refused, taken.status_code

    refused, taken = asyncio.run(crowd())
    assert taken == 200
    assert [each.status_code for each in refused] == [429] * 3
    assert all(each.headers["retry-after"] for each in refused)
    assert here.counters.refused == {"too many": 3}


def test_slow_senders_do_not_shut_out_a_sender_with_the_token_in_its_body(here: Here) -> None:
    """They wait for their own bodies, not in the places that Ceph and SNS need."""

    async def slow() -> None:
        async def receive() -> MutableMapping[str, Any]:
            await asyncio.sleep(600)
            raise AssertionError("nobody waits so long")

        async def send(message: MutableMapping[str, Any]) -> None:
            """Nobody listens."""

        await here.client.app(scope(), receive, send)

    async def crowd() -> list[httpx.Response]:
        transport = httpx.ASGITransport(here.client.app)
        attack = [asyncio.create_task(slow()) for _ in range(40)]
        await asyncio.sleep(0)
        body = json.dumps(ceph("pictures", "root/detect_images/a.jpg", TOKEN))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            answers = await asyncio.gather(
                *(client.post("/events", content=body) for _ in range(10))
            )
        for each in attack:
            each.cancel()
        await asyncio.gather(*attack, return_exceptions=True)
        return answers

    assert [each.status_code for each in asyncio.run(crowd())] == [200] * 10
    assert here.uploads == 10


def test_the_largest_body_is_dropped_if_all_together_are_too_large(here: Here) -> None:
    here.context.memory = BodyMemory(3000)
    statuses: dict[str, int] = {}
    sent: list[str] = []
    done = asyncio.Event()

    async def sender(name: str, size: int) -> None:
        async def receive() -> MutableMapping[str, Any]:
            if name in sent:
                await done.wait()
                return {"type": "http.request", "body": b"", "more_body": False}
            sent.append(name)
            return {"type": "http.request", "body": b" " * size, "more_body": True}

        async def send(message: MutableMapping[str, Any]) -> None:
            statuses.setdefault(name, message.get("status", 0))
            if name == "large":
                done.set()

        await here.client.app(scope(), receive, send)

    async def crowd() -> None:
        sizes = {"small": 500, "large": 2000, "middle": 1000}
        await asyncio.gather(*(sender(*each) for each in sizes.items()))

    asyncio.run(crowd())
    assert statuses == {"large": 429, "small": 400, "middle": 400}
    assert here.counters.refused == {"too many": 1, "no notice": 2}


def test_a_few_wait_for_their_turn(here: Here) -> None:
    slots = RequestSlots(2, 10, 30)

    async def crowd() -> tuple[int, int]:
        at_work = highest = 0

        async def one() -> None:
            nonlocal at_work, highest
            async with slots.slot():
                at_work += 1
                highest = max(highest, at_work)
                await asyncio.sleep(0.001)
                at_work -= 1

        results = await asyncio.gather(*(one() for _ in range(20)), return_exceptions=True)
        return highest, sum(isinstance(each, RefusedRequestError) for each in results)

    assert asyncio.run(crowd()) == (2, 8)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["Records", "Type", "TopicArn", "Message", "detail-type", "source", "detail", "event_type"]
NAMES += ["key", "message", "Event", "s3", "bucket", "object", "name", "eventSource", "eventName"]
VALUES = ["aws:s3", "ceph:s3", "ObjectCreated:Put", "Notification", "aws.s3", "create", "pictures"]
VALUES += ["root/detect_images/a.jpg", "%", "%ff", "\ud800", "\0", "SubscriptionConfirmation"]
LIKELY = st.recursive(
    st.sampled_from(VALUES) | JSON,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=25,
)


def spoiled(body: dict[str, Any], path: list[int], value: object) -> dict[str, Any]:
    """A notice of which one part is replaced; the steps choose among what is there."""
    at: Any = body
    for number, step in enumerate(path, start=1):
        names = list(at) if isinstance(at, dict) else list(range(len(at)))
        name = names[step % len(names)]
        if number == len(path) or not (isinstance(at[name], dict | list) and at[name]):
            at[name] = value
            return body
        at = at[name]
    raise AssertionError("a path has at least one step")


BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda value: json.dumps(value).encode(), LIKELY),
    st.builds(
        lambda make, path, value: json.dumps(
            spoiled(make("pictures", "root/detect_images/a.jpg"), path, value)
        ).encode(),
        st.sampled_from([ceph, minio]),
        st.lists(st.integers(0, 8), min_size=1, max_size=6),
        LIKELY,
    ),
)
HEADERS = st.just(dict[str, Any](BEARER)) | st.dictionaries(
    st.sampled_from(
        ["Authorization", "Content-Type", "x-amz-sns-message-type", "Accept", "Content-Encoding"]
    ),
    st.sampled_from([BEARER["Authorization"], "Bearer", "", "text/plain", "gzip", "ž".encode()]),
    max_size=3,
)
PATHS = st.one_of(
    st.sampled_from(["/", "/events", "/events/", f"/events/{TOKEN}", "/status", "/ready"]),
    st.text(max_size=20).map(lambda text: "/events/" + text.encode("utf-8", "replace").hex()),
)


@settings(max_examples=300)
@given(
    method=st.sampled_from(["POST"] * 6 + ["GET", "HEAD", "PUT"]),
    path=PATHS,
    headers=HEADERS,
    body=BODIES,
    fuzzed=st.just(started()),
)
def test_nothing_that_is_sent_is_our_fault(
    method: str, path: str, headers: dict[str, Any], body: bytes, fuzzed: Here
) -> None:
    """No answer says that the receiver failed, and an exception inside would fail this test."""
    answer = fuzzed.client.request(method, path, headers=headers, content=body)
    assert answer.status_code < 500
    assert TOKEN not in answer.text


def test_the_fuzz_reaches_what_it_is_for() -> None:
    """An unspoiled notice is taken; otherwise the fuzz would only show that nonsense is refused."""
    here = started()
    for make, records in ((ceph, 0), (minio, 2)):
        body = make("pictures", "root/detect_images/a.jpg")
        assert here.post(body, headers=BEARER).json()["uploads"] == 1
        broken = spoiled(body, [records, 0, 1], 7)  # its second field, the source
        assert here.post(broken, headers=BEARER).status_code == 400
