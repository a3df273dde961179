"""Messages of SNS: signed or not, for us or not, and the addresses that they name."""

import base64
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from hypothesis import given, settings
from hypothesis import strategies as st

from services.events import sns
from services.events.app import TURN_S
from services.events.notices import decode, parse
from services.events.sns import RefusedError, Verifier, confirm
from tests.support.amazon import Amazon, to_topic
from tests.support.sns import (
    CERTIFICATE_URL,
    HOST,
    TOKEN,
    TOPIC,
    certificate,
    notification,
    signing_key,
    subscription,
)
from tests.support.tls import make_certificate

KINDS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


class Certificates:
    """Gives out one certificate, and remembers who asked."""

    def __init__(self, pem: bytes | None = None) -> None:
        self.pem = certificate() if pem is None else pem
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pem


def verifier(certificates: Callable[[str], bytes] | None = None) -> Verifier:
    return Verifier([TOPIC], certificates or Certificates())


def refusal(message: dict[str, Any], certificates: Callable[[str], bytes] | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        verifier(certificates).check(message)
    return str(caught.value)


@pytest.mark.parametrize("version", ["1", "2"])
def test_what_sns_signed_is_let_pass(version: str) -> None:
    verifier().check(notification({"Records": []}, SignatureVersion=version))
    verifier().check(notification("žluť\n+", Subject=None, SignatureVersion=version))
    for kind in KINDS:
        verifier().check(subscription(kind, SignatureVersion=version))


def test_the_text_that_is_signed_is_the_documented_one() -> None:
    """Written out, so that this and the signing above can't be wrong in the same way."""
    now = "2026-11-23T10:00:00.000Z"
    text = (
        "Message\nMy Test Message\nMessageId\n4d4dc071\nSubject\nMy subject\n"
        f"Timestamp\n{now}\nTopicArn\n{TOPIC}\nType\nNotification\n"
    )
    signature = signing_key().sign(text.encode(), padding.PKCS1v15(), hashes.SHA1())
    message = {
        "Type": "Notification",
        "MessageId": "4d4dc071",
        "TopicArn": TOPIC,
        "Subject": "My subject",
        "Message": "My Test Message",
        "Timestamp": now,
        "SignatureVersion": "1",
        "Signature": base64.b64encode(signature).decode(),
        "SigningCertURL": CERTIFICATE_URL,
    }
    then = datetime(2026, 11, 23, 10, 20, tzinfo=UTC)
    pem = certificate(begins=timedelta(days=-3650), ends=timedelta(days=3650))

    Verifier([TOPIC], lambda _url: pem, now=lambda: then).check(message)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        *((notification, name) for name in ("Message", "MessageId", "Subject")),
        *((subscription, name) for name in ("Message", "MessageId", "SubscribeURL", "Token")),
    ],
)
def test_what_was_altered_is_refused(made: Callable[..., dict[str, Any]], name: str) -> None:
    message = made("hello") if made is notification else made()

    assert "does not fit" in refusal({**message, name: message[name] + " "})


def test_a_message_can_not_pass_as_one_of_another_kind() -> None:
    message = subscription()

    assert "does not fit" in refusal({**message, "Type": "Notification"})
    assert "does not fit" in refusal({**message, "Type": "UnsubscribeConfirmation"})
    assert "type 'Other'" in refusal({**message, "Type": "Other"})


def test_a_subject_that_was_added_is_refused() -> None:
    message = notification("hello", Subject=None)

    verifier().check({**message, "Subject": None})
    assert "does not fit" in refusal({**message, "Subject": "added"})


def test_another_hash_is_refused() -> None:
    message = notification("hello", SignatureVersion="2")

    assert "does not fit" in refusal({**message, "SignatureVersion": "1"})
    assert "expected 1 or 2" in refusal({**message, "SignatureVersion": "3"})


@pytest.mark.parametrize("signature", ["", "%%%", "žluť", "AAAA", base64.b64encode(b"x" * 256)])
def test_a_signature_of_nobody_is_refused(signature: str | bytes) -> None:
    text = signature if isinstance(signature, str) else signature.decode()

    assert "signature of the SNS message" in refusal({**notification("hello"), "Signature": text})


def test_other_topics_are_refused_before_anything_is_fetched() -> None:
    certificates = Certificates()
    message = notification("hello")

    assert "events.sns_topics" in refusal({**message, "TopicArn": TOPIC + "2"}, certificates)
    with pytest.raises(RefusedError, match=r"not taken: topics are named in"):
        Verifier([], certificates).check(message)
    assert certificates.asked == []


def test_strangers_are_not_told_which_topics_are_taken(caplog: pytest.LogCaptureFixture) -> None:
    topics = [f"{TOPIC}-{number}" for number in range(9)]
    checked = Verifier(topics, Certificates())

    with caplog.at_level(logging.WARNING, "pollen.events"):
        for _ in range(50):
            with pytest.raises(RefusedError) as caught:
                checked.check({**notification("hello"), "TopicArn": "arn:other\n"})
            assert TOPIC not in str(caught.value)

    told = [each.getMessage() for each in caplog.records if each.name == "pollen.events"]
    assert len(told) == 10
    assert (
        f"the topic 'arn:other\\n'; events.sns_topics of site.yaml names 9: {topics[0]}, "
        in told[0]
    )
    assert topics[5] not in told[0]


@pytest.mark.parametrize(
    ("age", "refused"),
    [
        (timedelta(0), False),
        (timedelta(minutes=70), False),
        (timedelta(minutes=80), True),
        (timedelta(minutes=-10), False),
        (timedelta(minutes=-20), True),
    ],
)
def test_what_was_kept_is_refused(age: timedelta, refused: bool) -> None:
    message = notification("hello")
    checked = Verifier([TOPIC], Certificates(), now=lambda: datetime.now(UTC) + age)

    if refused:
        with pytest.raises(RefusedError, match="kept and sent again, or a clock is wrong"):
            checked.check(message)
    else:
        checked.check(message)


@pytest.mark.parametrize("stamp", ["", "yesterday", "2026-13-01T00:00:00Z", "9" * 30])
def test_a_time_that_is_none_is_refused(stamp: str) -> None:
    assert "Timestamp" in refusal(notification("hello", Timestamp=stamp))


@pytest.mark.parametrize("stamp", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_time_are_refused(stamp: str) -> None:
    assert "a clock is wrong" in refusal(notification("hello", Timestamp=stamp))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hello",
        CERTIFICATE_URL.replace("https", "http"),
        CERTIFICATE_URL.replace("https", "ftp"),
        CERTIFICATE_URL.replace(".amazonaws.com", ".amazonaws.com.evil.org"),
        CERTIFICATE_URL.replace(".amazonaws.com", ".amazonaws.org"),
        CERTIFICATE_URL.replace(".amazonaws.com", ".amazonaws.com:8443"),
        CERTIFICATE_URL.replace("https://", "https://user@"),
        CERTIFICATE_URL.replace("https://", "https://evil.org/"),
        CERTIFICATE_URL.replace("https://", "https://evil.org#"),
        CERTIFICATE_URL.replace("https://", "https://evil.org\\@"),
        # Anybody may own the bucket "sns", and put a certificate into it.
        "https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-0123.pem",
        "https://sns.s3.amazonaws.com/SimpleNotificationService-0123.pem",
        "https://s3.eu-central-1.amazonaws.com/SimpleNotificationService-0123.pem",
        CERTIFICATE_URL + "?versionId=1",
        CERTIFICATE_URL + "#x",
        CERTIFICATE_URL + "\n",
        CERTIFICATE_URL.replace("-central", "\n-central"),
        CERTIFICATE_URL.replace(".pem", ".txt"),
        CERTIFICATE_URL.replace("/Simple", "/other/Simple"),
        CERTIFICATE_URL.replace("/Simple", "/../Simple"),
        CERTIFICATE_URL.replace("0123", "žluť"),
        "https://[::1/x.pem",
        f"{HOST}/",
    ],
)
def test_certificates_from_elsewhere_are_not_fetched(url: str) -> None:
    certificates = Certificates()

    sentence = refusal(notification("hello", SigningCertURL=url), certificates)

    assert "it was not opened" in sentence
    assert sentence.isascii()
    assert certificates.asked == []


@pytest.mark.parametrize("region", ["us-east-1", "us-gov-west-1", "ap-southeast-2"])
def test_all_regions_have_certificates(region: str) -> None:
    verifier().check(
        notification("hello", SigningCertURL=CERTIFICATE_URL.replace("eu-central-1", region))
    )


def test_china_has_certificates() -> None:
    url = CERTIFICATE_URL.replace("eu-central-1", "cn-north-1").replace(".com/", ".com.cn/")

    verifier().check(notification("hello", SigningCertURL=url))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda: certificate(begins=timedelta(days=-2), ends=timedelta(hours=-1)), "not valid"),
        (lambda: certificate(begins=timedelta(hours=1)), "not valid today"),
        (lambda: certificate(ec.generate_private_key(ec.SECP256R1())), "not of the kind RSA"),
        (lambda: certificate(signing_key(1)), "does not fit"),
        (lambda: b"<html>", "gave is none"),
        (lambda: b"", "gave is none"),
    ],
)
def test_certificates_that_are_no_good_are_refused(made: Callable[[], bytes], reason: str) -> None:
    assert reason in refusal(notification("hello"), Certificates(made()))


def test_a_certificate_is_fetched_once_and_few_are_kept() -> None:
    certificates = Certificates()
    checked = verifier(certificates)

    def send(number: int) -> None:
        url = CERTIFICATE_URL.replace("0123456789abcdef", f"{number:016x}")
        checked.check(notification("hello", SigningCertURL=url))

    for _ in range(3):
        send(0)
    assert len(certificates.asked) == 1
    for number in range(sns.MAX_CERTIFICATES + 1):
        send(number)
    assert len(certificates.asked) == sns.MAX_CERTIFICATES + 1
    send(0)  # the longest unused had to go
    assert len(certificates.asked) == sns.MAX_CERTIFICATES + 2


class Failing:
    """Gives out no certificate, and counts who asked."""

    def __init__(self, *, heals: bool) -> None:
        self.heals = heals
        self.asked = 0

    def __call__(self, _url: str) -> bytes:
        self.asked += 1
        raise RefusedError("no such certificate", heals=self.heals)


@pytest.mark.parametrize(("heals", "kept_s"), [(False, 60.0), (True, 10.0)])
def test_an_address_without_a_certificate_is_left_alone_for_a_while(
    heals: bool, kept_s: float
) -> None:
    now_s = 1000.0
    certificates = Failing(heals=heals)
    checked = Verifier([TOPIC], certificates, clock=lambda: now_s)

    def send() -> None:
        with pytest.raises(RefusedError, match="no such certificate") as caught:
            checked.check(notification("hello"))
        assert caught.value.heals is heals

    for _ in range(5):
        send()
    assert certificates.asked == 1
    now_s += kept_s - 1
    send()
    assert certificates.asked == 1
    now_s += 1
    send()
    assert certificates.asked == 2


def test_few_addresses_without_a_certificate_are_kept() -> None:
    certificates = Certificates(b"none")
    checked = verifier(certificates)

    for number in [*range(sns.MAX_FAILED + 1), sns.MAX_FAILED, 0]:
        url = CERTIFICATE_URL.replace("0123456789abcdef", f"{number:016x}")
        with pytest.raises(RefusedError, match="gave is none"):
            checked.check(notification("hello", SigningCertURL=url))

    # Only the one that was seen first was forgotten.
    assert len(certificates.asked) == sns.MAX_FAILED + 2


def test_a_certificate_that_could_not_be_had_is_fetched_again() -> None:
    now_s = 1000.0
    certificates = Certificates(b"busy")
    checked = Verifier([TOPIC], certificates, clock=lambda: now_s)

    with pytest.raises(RefusedError):
        checked.check(notification("hello"))
    certificates.pem = certificate()
    now_s += sns.WRONG_SECONDS
    checked.check(notification("hello"))
    checked.check(notification("hello"))

    assert len(certificates.asked) == 2


def test_a_certificate_that_was_kept_too_long_is_refused() -> None:
    late = timedelta(0)
    checked = Verifier(
        [TOPIC],
        Certificates(certificate(ends=timedelta(minutes=30))),
        now=lambda: datetime.now(UTC) + late,
    )
    checked.check(notification("hello"))
    late = timedelta(minutes=31)

    with pytest.raises(RefusedError, match="not valid today"):
        checked.check(notification("hello"))


def test_only_few_certificates_are_fetched_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sns, "TURN_SECONDS", 0.05)
    all_there = threading.Barrier(sns.MAX_FETCHES + 1)
    go_on = threading.Event()

    def slowly(_url: str) -> bytes:
        all_there.wait(60)
        go_on.wait(60)
        return certificate()

    checked = verifier(slowly)

    def send() -> None:
        checked.check(notification("hello"))

    threads = [threading.Thread(target=send) for _ in range(sns.MAX_FETCHES)]
    for thread in threads:
        thread.start()
    all_there.wait(60)
    with pytest.raises(RefusedError, match="too many") as caught:
        send()
    assert caught.value.heals
    go_on.set()
    for thread in threads:
        thread.join()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=200)
@given(st.booleans(), st.data())
def test_any_field_may_hold_anything(asks: bool, data: st.DataObject) -> None:
    message = subscription() if asks else notification("hello")
    name = data.draw(st.sampled_from(sorted(message)))
    spoilt = {**message, name: data.draw(JSON)}
    if name in {"UnsubscribeURL", "SigningCertURL"} or spoilt[name] == message[name]:
        return

    sentence = refusal(spoilt)

    assert sentence.isascii()
    with pytest.raises(RefusedError):
        confirm(spoilt, lambda _url: b"")


CONFIRMED = b"<ConfirmSubscriptionResult><SubscriptionArn>arn</SubscriptionArn>"


def test_a_subscription_is_confirmed() -> None:
    opened: list[str] = []

    def fetch(url: str) -> bytes:
        opened.append(url)
        return CONFIRMED

    message = subscription()
    confirm(message, fetch)

    assert opened == [message["SubscribeURL"]]


@pytest.mark.parametrize(
    "url",
    [
        f"https://evil.org/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}",
        f"http://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}",
        f"{HOST}/x?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}",
        f"{HOST}/?Action=DeleteTopic&TopicArn={TOPIC}&Token={TOKEN}",
        f"{HOST}/?Action=ConfirmSubscription&Action=DeleteTopic&TopicArn={TOPIC}&Token={TOKEN}",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}2&Token={TOKEN}",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token={TOKEN}2",
        f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}",
        f"{HOST}/?" + "a=b&" * 1000,
        HOST,
        "",
    ],
)
def test_other_addresses_are_not_opened(url: str) -> None:
    def fetch(opened: str) -> bytes:
        pytest.fail(f"{opened} was opened")

    with pytest.raises(RefusedError, match="it was not opened"):
        confirm(subscription(SubscribeURL=url), fetch)


def test_a_subscription_that_sns_refuses_is_not_confirmed() -> None:
    with pytest.raises(RefusedError, match="did not confirm"):
        confirm(subscription(), lambda _url: b"<Error>InvalidToken</Error>")


def test_a_subscription_is_confirmed_by_a_server(amazon: Amazon) -> None:
    topic = amazon.new_topic("http", "http://127.0.0.1:1/events")
    url = f"{HOST}/?Action=ConfirmSubscription&TopicArn={topic}&Token={TOKEN}"
    message = subscription(TopicArn=topic, SubscribeURL=url)

    Verifier([topic], Certificates()).check(message)
    confirm(message, amazon.open)


class _Answering(ThreadingHTTPServer):
    """Answers every GET as it is told, and keeps what was posted."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.location: str | None = None
        self.head: Iterator[bytes] = iter(())
        self.parts: Iterator[bytes] = iter(())
        self.posted: list[bytes] = []

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
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
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
        yield server, f"https://127.0.0.1:{server.server_port}/x.pem"


def test_what_is_fetched_comes_whole(https: tuple[_Answering, str]) -> None:
    server, url = https
    server.parts = iter([b"abc", b"def"])

    assert sns.fetch_certificate(url) == b"abcdef"


def test_a_server_that_tls_does_not_vouch_for_is_not_believed(
    tls_files: tuple[Path, Path],
) -> None:
    with (
        answering(tls_files) as server,
        pytest.raises(RefusedError, match="ConnectError") as caught,
    ):
        sns.fetch_certificate(f"https://127.0.0.1:{server.server_port}/x.pem")

    assert caught.value.heals


@pytest.mark.parametrize(("status", "heals"), [(302, False), (404, False), (503, True)])
def test_other_answers_are_refused(https: tuple[_Answering, str], status: int, heals: bool) -> None:
    server, url = https
    server.status = status
    server.location = "http://127.0.0.1:1/x.pem"

    with pytest.raises(RefusedError, match=f"answered HTTP {status}") as caught:
        sns.fetch_certificate(url)

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
        sns.fetch_confirmation(url)

    # What lies in the buffers of the two sockets, and not more.
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
        with pytest.raises(RefusedError, match="took more than 1 s") as caught:
            sns.fetch_certificate(url)
    finally:
        over.set()

    assert caught.value.heals


def test_an_answer_comes_while_sns_still_waits() -> None:
    """SNS gives up after 15 s; a subscription takes a turn, a certificate and a confirmation."""
    assert TURN_S + sns.TURN_SECONDS + 2 * sns.FETCH_SECONDS < 15.0


def test_what_s3_tells_through_sns_is_let_pass(amazon: Amazon) -> None:
    """Moto signs its messages and gives out its certificates, as the real one does."""
    with answering() as server:
        topic = amazon.new_topic("http", f"http://127.0.0.1:{server.server_port}/events")
        bucket = amazon.new_bucket(TopicConfigurations=to_topic(topic))
        amazon.s3.put_object(Bucket=bucket, Key="detect_images/žluť 1+a%41.png", Body=b"x")
        bodies = [parse(each) for each in server.posted]

    checked = Verifier([topic], amazon.open)
    for body in bodies:
        assert isinstance(body, dict)
        assert sns.is_message(body)
        checked.check(body)
        with pytest.raises(RefusedError, match="does not fit"):
            checked.check({**body, "Message": "other"})
    keys = [notice.key for body in bodies for notice in decode(body)]
    assert keys == ["detect_images/žluť 1+a%41.png"]
