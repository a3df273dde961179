"""Messages of SNS: which topics are accepted, and which addresses are opened to confirm a subscription."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events import sns
from services.events.app import SLOT_S
from services.events.sns import AcceptedTopics, RefusedError, confirm
from tests.services.events.here import started
from tests.support.amazon import Amazon, to_topic
from tests.support.events import TOKEN
from tests.support.sns import DIRECT, HOST, TOPIC, confirmation_url, notification, subscription
from tests.support.tls import make_certificate

CONFIRMED = b"<ConfirmSubscriptionResult><SubscriptionArn>arn</SubscriptionArn>"


class Answers:
    """Answers in the place of SNS, and remembers which addresses were opened."""

    def __init__(self, answer: bytes = CONFIRMED) -> None:
        self.answer = answer
        self.opened: list[str] = []

    async def __call__(self, url: str) -> bytes:
        self.opened.append(url)
        return self.answer


def confirm_with(message: dict[str, Any], answers: Answers) -> None:
    asyncio.run(confirm(message, answers))


def fetch(url: str) -> bytes:
    return asyncio.run(sns.fetch_confirmation(url))


def test_messages_of_accepted_topics_pass() -> None:
    topics = AcceptedTopics([TOPIC])
    topics.check(notification({"Records": []}))
    topics.check(notification("žluť\n+", Subject=None))
    for kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        topics.check(subscription(kind))


@pytest.mark.parametrize("topic", [TOPIC + "2", TOPIC[:-1], TOPIC.upper(), TOPIC + "\n", ""])
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(RefusedError, match=r"not accepted: list it under events\.sns_topics"):
        AcceptedTopics([TOPIC]).check(notification("hello", TopicArn=topic))


def test_without_topics_every_one_is_refused() -> None:
    with pytest.raises(RefusedError, match="is not accepted"):
        AcceptedTopics([]).check(notification("hello"))


def test_strangers_do_not_learn_which_topics_are_accepted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    arns = [f"{TOPIC}-{number}" for number in range(9)]
    topics = AcceptedTopics(arns)

    with caplog.at_level(logging.WARNING, "pollen.events"):
        for _ in range(50):
            with pytest.raises(RefusedError) as caught:
                topics.check({**notification("hello"), "TopicArn": "arn:other\n"})
            assert TOPIC not in str(caught.value)

    lines = [each.getMessage() for each in caplog.records if each.name == "pollen.events"]
    assert len(lines) == 10
    assert (
        f"the topic 'arn:other\\n'; events.sns_topics in site.yaml lists 9: {arns[0]}, " in lines[0]
    )
    assert arns[5] not in lines[0]


def test_a_subscription_is_confirmed() -> None:
    answers = Answers()
    message = subscription()

    confirm_with(message, answers)

    assert answers.opened == [message["SubscribeURL"]]


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "ap-southeast-2"])
def test_subscriptions_of_all_regions_are_confirmed(region: str) -> None:
    answers = Answers()

    confirm_with(
        subscription(SubscribeURL=confirmation_url(f"https://sns.{region}.amazonaws.com")), answers
    )

    assert len(answers.opened) == 1


def test_subscriptions_of_china_are_confirmed() -> None:
    answers = Answers()

    confirm_with(
        subscription(SubscribeURL=confirmation_url("https://sns.cn-north-1.amazonaws.com.cn")),
        answers,
    )

    assert len(answers.opened) == 1


@pytest.mark.parametrize(
    "url",
    [
        confirmation_url("https://evil.org"),
        confirmation_url(HOST.replace("https", "http")),
        confirmation_url(HOST.replace("https", "ftp")),
        confirmation_url(HOST + ".evil.org"),
        confirmation_url(HOST.replace(".amazonaws.com", ".amazonaws.org")),
        confirmation_url(HOST + ":8443"),
        confirmation_url(HOST.replace("https://", "https://user@")),
        confirmation_url(HOST.replace("https://", "https://evil.org/")),
        confirmation_url(HOST.replace("https://", "https://evil.org#")),
        confirmation_url(HOST.replace("https://", "https://evil.org\\@")),
        confirmation_url("https://169.254.169.254"),
        confirmation_url("https://localhost"),
        confirmation_url("https://prefect-server:4200"),
        confirmation_url("https://[::1"),
        # Anybody may own the bucket "sns".
        confirmation_url("https://sns.s3-us-west-2.amazonaws.com"),
        confirmation_url("https://sns.s3.amazonaws.com"),
        confirmation_url("https://s3.eu-central-1.amazonaws.com"),
        confirmation_url() + "&versionId=1",
        confirmation_url() + "#x",
        confirmation_url() + "\n",
        confirmation_url().replace("-central", "\n-central", 1),
        confirmation_url(f"{HOST}/x"),
        confirmation_url(f"{HOST}/.."),
        confirmation_url().replace("ConfirmSubscription", "DeleteTopic"),
        confirmation_url() + "&Action=DeleteTopic",
        confirmation_url(topic=TOPIC + "2"),
        confirmation_url(token="another"),
        confirmation_url(token="žluť"),
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"{HOST}/?" + "a=b&" * 1000,
        f"{HOST}/",
        HOST,
        "hello",
        "",
    ],
)
def test_other_addresses_are_not_opened(url: str) -> None:
    answers = Answers()

    with pytest.raises(RefusedError, match="it was not opened") as caught:
        confirm_with(subscription(SubscribeURL=url), answers)

    assert str(caught.value).isascii()
    assert answers.opened == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=200)
@given(st.sampled_from(["TopicArn", "Token", "SubscribeURL"]), JSON)
def test_any_field_may_hold_anything(name: str, value: object) -> None:
    message = subscription()
    if message[name] == value:
        return
    answers = Answers()

    with pytest.raises(RefusedError) as caught:
        confirm_with({**message, name: value}, answers)

    assert str(caught.value).isascii()
    assert answers.opened == []
    if name == "TopicArn":
        with pytest.raises(RefusedError) as caught:
            AcceptedTopics([TOPIC]).check({**message, name: value})
        assert str(caught.value).isascii()


def test_a_subscription_that_sns_refuses_is_not_confirmed() -> None:
    with pytest.raises(RefusedError, match="did not confirm"):
        confirm_with(subscription(), Answers(b"<Error>InvalidToken</Error>"))


def test_a_subscription_is_confirmed_by_a_server(amazon: Amazon) -> None:
    topic = amazon.new_topic("http", "http://127.0.0.1:1/events")

    async def open_there(url: str) -> bytes:
        return amazon.open(url)

    message = subscription(TopicArn=topic, SubscribeURL=confirmation_url(topic=topic))
    asyncio.run(confirm(message, open_there))


class _Answering(ThreadingHTTPServer):
    """Answers every GET as a test asks for, and passes every POST on to the receiver."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.location: str | None = None
        self.head: Iterator[bytes] = iter(())
        self.parts: Iterator[bytes] = iter(())
        self.posted: list[tuple[str, dict[str, str], bytes]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: _Answering

    def do_GET(self) -> None:
        for part in self.server.head:
            self.wfile.write(part)
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.end_headers()
        for part in self.server.parts:
            self.wfile.write(part)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, dict(self.headers), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(files: tuple[Path, Path] | None = None) -> Iterator[_Answering]:
    with _Answering() as server:
        if files is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*files)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def https(
    tls_files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[_Answering, str]]:
    """A server with TLS that is trusted here, and its address."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_files[0]))
    with answering(tls_files) as server:
        yield server, f"https://127.0.0.1:{server.server_port}/"


def test_what_is_fetched_is_complete(https: tuple[_Answering, str]) -> None:
    server, url = https
    server.parts = iter([b"abc", b"def"])

    assert fetch(url) == b"abcdef"


def test_a_server_with_a_certificate_of_its_own_is_not_trusted(
    tls_files: tuple[Path, Path],
) -> None:
    with (
        answering(tls_files) as server,
        pytest.raises(RefusedError, match="ConnectError") as caught,
    ):
        fetch(f"https://127.0.0.1:{server.server_port}/")

    assert caught.value.heals


@pytest.mark.parametrize(("status", "heals"), [(302, False), (404, False), (503, True)])
def test_other_answers_are_refused(https: tuple[_Answering, str], status: int, heals: bool) -> None:
    server, url = https
    server.status = status
    server.location = "http://127.0.0.1:1/"

    with pytest.raises(RefusedError, match=f"answered HTTP {status}") as caught:
        fetch(url)

    assert caught.value.heals is heals


def test_what_is_fetched_is_bounded_in_size(https: tuple[_Answering, str]) -> None:
    server, url = https
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    server.parts = endless()

    with pytest.raises(RefusedError, match="more than 65536 bytes"):
        fetch(url)

    # Only what fits into the buffers of the two sockets.
    assert sent < 50_000_000


@pytest.mark.parametrize("where", ["head", "parts"])
def test_what_is_fetched_is_bounded_in_time(
    https: tuple[_Answering, str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(sns, "FETCH_SECONDS", 1.0)
    server, url = https
    over = threading.Event()

    def dripping() -> Iterator[bytes]:
        yield b"HTTP/1.0 200 OK\r\nX: " if where == "head" else b""
        for _ in range(200):
            if over.wait(0.05):
                return
            yield b"x"

    setattr(server, where, dripping())
    try:
        with pytest.raises(RefusedError, match="within 1 s") as caught:
            fetch(url)
    finally:
        over.set()

    assert caught.value.heals


def test_an_answer_is_given_while_sns_still_waits() -> None:
    """SNS gives up after 15 s; a subscription waits for a slot and for the confirmation."""
    assert SLOT_S + sns.FETCH_SECONDS < 15.0


def test_an_upload_is_reported_through_a_topic_with_the_token_in_its_address(
    amazon: Amazon,
) -> None:
    """Moto sends as S3 does through SNS: accepted with the token of its address, and refused without it."""
    with answering() as server:
        endpoint = f"http://127.0.0.1:{server.server_port}/events/{TOKEN}"
        topic = amazon.new_topic("http", endpoint)
        bucket = amazon.new_bucket(TopicConfigurations=to_topic(topic))
        amazon.s3.put_object(Bucket=bucket, Key="detect_images/žluť 1+a%41.png", Body=b"x")
        posted = list(server.posted)
    here = started({"storage": {"block": "lab", "bucket": bucket, "folder": ""}}, topics=[topic])

    def send(path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        return here.client.request("POST", path, headers, body)

    for path, headers, body in posted:
        assert path == f"/events/{TOKEN}"
        direct = headers | DIRECT  # which moto leaves out
        assert send("/events", direct, body).status_code == 401
        assert send("/events/wrong", direct, body).status_code == 401
        assert send(path, direct, body).status_code == 200
    (waiting,) = here.bursts.pending
    assert waiting.key == "detect_images/žluť 1+a%41.png"
    assert waiting.uploads == 1
    assert here.counters.refused == {"no token": len(posted), "wrong token": len(posted)}
