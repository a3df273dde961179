"""Reading a queue: every way that S3's messages come into one, and bad days of it."""

import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from urllib3.response import HTTPResponse

from pollen.errors import PollenError
from services.events import sqs
from services.events.notices import Notice
from services.events.sqs import QueueCounters, new_client, read_queue
from tests.support.amazon import ACCOUNT, REGION, Amazon, to_queue, to_topic

PICTURE = "detect_images/žluť 1+a%41.png"
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _credentials(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in amazon.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses, which take seconds in real use."""
    monkeypatch.setattr(sqs, "WAIT_SECONDS", 0)
    monkeypatch.setattr(sqs, "_EMPTY_SECONDS", 0.05)
    monkeypatch.setattr(sqs, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(sqs, "LONGEST_PAUSE_SECONDS", 0.1)


class Reading:
    """A queue that is read by a thread of its own; what it gave, and whether things came true."""

    def __init__(self, url: str, client: Any = None) -> None:  # noqa: ANN401  (a boto client)
        self.counters = QueueCounters()
        self.taken: list[Notice] = []
        self.faults: list[PollenError] = []
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(
            target=read_queue,
            args=(url, self._take, self._stop),
            kwargs={"client": client, "counters": self.counters},
        )

    def _take(self, notices: list[Notice]) -> None:
        if self.faults:
            raise self.faults.pop()
        self.taken += notices

    def wait(self, comes_true: Callable[[], bool]) -> None:
        """Wait until something comes true, at most :data:`PATIENCE_S`."""
        with self._changed:
            for _ in range(int(PATIENCE_S / 0.02)):
                if comes_true():
                    return
                self._changed.wait(0.02)
        pytest.fail(f"waited for {PATIENCE_S} s in vain: {self.counters}")

    def __enter__(self) -> "Reading":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


def read_until_empty(amazon: Amazon, url: str, count: int) -> Reading:
    """Read a queue until so many notices came and nothing is left in it."""
    with Reading(url) as reading:
        reading.wait(lambda: len(reading.taken) >= count and not amazon.left_in(url))
    return reading


def put_and_delete(amazon: Amazon, bucket: str) -> list[Notice]:
    amazon.s3.put_object(Bucket=bucket, Key=PICTURE, Body=b"x")
    amazon.s3.delete_object(Bucket=bucket, Key=PICTURE)
    return [Notice(bucket, PICTURE, created) for created in (True, False)]


def unordered(notices: list[Notice]) -> set[Notice]:
    """Queues keep no order."""
    return set(notices)


def test_s3_to_queue(amazon: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs, "WAIT_SECONDS", 1)
    url, arn = amazon.new_queue()
    expected = put_and_delete(amazon, amazon.new_bucket(QueueConfigurations=to_queue(arn)))

    reading = read_until_empty(amazon, url, 2)

    assert unordered(reading.taken) == unordered(expected)
    # One of them was S3's test of the queue.
    assert reading.counters == QueueCounters(messages=3, notices=2)


def test_s3_to_topic_to_queue(amazon: Amazon) -> None:
    url, arn = amazon.new_queue()
    topic = amazon.new_topic("sqs", arn)
    expected = put_and_delete(amazon, amazon.new_bucket(TopicConfigurations=to_topic(topic)))

    reading = read_until_empty(amazon, url, 2)

    assert unordered(reading.taken) == unordered(expected)
    assert reading.counters.strange == 0


def test_s3_to_eventbridge_to_queue(amazon: Amazon) -> None:
    url, arn = amazon.new_queue()
    amazon.route_events(arn)
    expected = put_and_delete(amazon, amazon.new_bucket(EventBridgeConfiguration={}))

    reading = read_until_empty(amazon, url, 2)

    assert unordered(reading.taken) == unordered(expected)
    assert reading.counters.strange == 0


def test_many_messages_come_in_batches(amazon: Amazon) -> None:
    url, arn = amazon.new_queue()
    bucket = amazon.new_bucket(QueueConfigurations=to_queue(arn))
    for number in range(25):
        amazon.s3.put_object(Bucket=bucket, Key=f"{number}.png", Body=b"x")

    reading = read_until_empty(amazon, url, 25)

    assert {notice.key for notice in reading.taken} == {f"{number}.png" for number in range(25)}
    assert len(reading.taken) == 25


def test_what_is_no_notice_is_logged_and_deleted(
    amazon: Amazon, caplog: pytest.LogCaptureFixture
) -> None:
    url, arn = amazon.new_queue()
    text = "line\n" + "x" * 100 + "end"
    for _ in range(15):
        amazon.sqs.send_message(QueueUrl=url, MessageBody=text)
    bucket = amazon.new_bucket(QueueConfigurations=to_queue(arn))
    amazon.s3.put_object(Bucket=bucket, Key=PICTURE, Body=b"x")

    with caplog.at_level(logging.WARNING, "pollen"):
        reading = read_until_empty(amazon, url, 1)

    assert reading.counters.strange == 15
    lines = [each.getMessage() for each in caplog.records if each.name == "pollen.events"]
    assert len(lines) == 10
    assert (
        "deleted a message of the queue that is not a notice: the message is not JSON" in lines[0]
    )
    assert "It begins with 'line\\nxxx" in lines[0]
    assert not any("end" in each for each in lines)


def test_a_broken_record_stops_no_other_of_its_message(amazon: Amazon) -> None:
    url, _ = amazon.new_queue()
    each = [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "lab"}, "object": {"key": key}},
        }
        for key in ("a.png", "x" * 1025, "b.png")
    ]
    amazon.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": each}))

    reading = read_until_empty(amazon, url, 2)

    assert [notice.key for notice in reading.taken] == ["a.png", "b.png"]
    assert reading.counters == QueueCounters(messages=1, notices=2)


def test_what_could_not_be_taken_comes_again(
    amazon: Amazon, caplog: pytest.LogCaptureFixture
) -> None:
    url, arn = amazon.new_queue(VisibilityTimeout="1")
    bucket = amazon.new_bucket(QueueConfigurations=to_queue(arn))
    amazon.s3.put_object(Bucket=bucket, Key=PICTURE, Body=b"x")
    reading = Reading(url)
    reading.faults = [PollenError("too much is waiting")]

    with caplog.at_level(logging.INFO, "pollen"), reading:
        reading.wait(lambda: bool(reading.taken) and not amazon.left_in(url))

    assert unordered(reading.taken) == {Notice(bucket, PICTURE, created=True)}
    assert reading.counters.failures == 1
    assert reading.counters.trouble is None
    assert "too much is waiting. Trying again" in caplog.text
    assert f"the queue {url} can be read again" in caplog.text


def test_a_fault_of_ours_is_not_hidden(amazon: Amazon) -> None:
    url, arn = amazon.new_queue()
    bucket = amazon.new_bucket(QueueConfigurations=to_queue(arn))
    amazon.s3.put_object(Bucket=bucket, Key=PICTURE, Body=b"x")

    def take(_notices: list[Notice]) -> None:
        raise KeyError("a mistake")

    with pytest.raises(KeyError, match="a mistake"):
        read_queue(url, take, threading.Event())


def test_a_queue_that_is_not_there_is_waited_for(
    amazon: Amazon, caplog: pytest.LogCaptureFixture
) -> None:
    url, arn = amazon.new_queue()
    amazon.sqs.delete_queue(QueueUrl=url)

    with caplog.at_level(logging.WARNING, "pollen"), Reading(url) as reading:
        reading.wait(lambda: reading.counters.failures >= 3)
        assert f"there is no queue at {url}" in (reading.counters.trouble or "")
        name = arn.rpartition(":")[2]
        amazon.sqs.create_queue(QueueName=name)
        amazon.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": []}))
        reading.wait(lambda: reading.counters.messages == 1 and not reading.counters.trouble)

    # However often it was tried.
    assert caplog.text.count("check events.sqs_queue in site.yaml") == 1


def test_nothing_is_asked_once_it_is_to_stop() -> None:
    stop = threading.Event()
    stop.set()
    counters = QueueCounters()

    read_queue("http://127.0.0.1:9/none", lambda _: None, stop, counters=counters)

    assert counters == QueueCounters()


def test_a_pause_is_cut_short_by_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqs, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(sqs, "LONGEST_PAUSE_SECONDS", 1000.0)

    with Reading("http://127.0.0.1:9/none") as reading:
        reading.wait(lambda: reading.counters.failures == 1)


class Injected:
    """Answers instead of the server, below boto's own retries."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401  (a boto client)
        self.client = client
        self.answers: list[tuple[str, int, bytes]] = []
        client.meta.events.register("before-send.sqs", self._answer)

    def _answer(self, request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        target = request.headers["X-Amz-Target"]
        target = target.decode() if isinstance(target, bytes) else target
        for answer in self.answers:
            operation, status, body = answer
            if target.endswith(operation):
                self.answers.remove(answer)
                headers = HTTPHeaders()
                headers["Content-Type"] = "text/html" if b"<html>" in body else "application/json"
                raw = HTTPResponse(body=io.BytesIO(body), preload_content=False)
                return AWSResponse(request.url, status, headers, raw)
        return None


def refused(code: str) -> bytes:
    return json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "injected"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (400, refused("RequestThrottled"), "asks for fewer requests"),
        (403, refused("AccessDeniedException"), "need sqs:ReceiveMessage and sqs:DeleteMessage"),
        (403, refused("ExpiredTokenException"), "renew keys that have expired"),
        (403, refused("InvalidClientTokenId"), "set AWS_ACCESS_KEY_ID"),
        (403, refused("InvalidSecurity"), "set AWS_ACCESS_KEY_ID"),
        (400, refused("QueueDoesNotExist"), "there is no queue at"),
        (500, refused("InternalError"), "answered HTTP 500 ('InternalError')"),
        (503, b"", "answered HTTP 503"),
        (502, b"<html>Bad Gateway</html>", "answered HTTP 502"),
        (200, b"<html>Please log in</html>", "answers with a web page"),
    ],
)
def test_bad_answers_are_waited_out(
    amazon: Amazon,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
    sentence: str,
) -> None:
    url, _ = amazon.new_queue()
    amazon.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": []}))
    injected = Injected(new_client(url))
    injected.answers = [("ReceiveMessage", status, body)] * 3

    with caplog.at_level(logging.WARNING, "pollen"), Reading(url, injected.client) as reading:
        reading.wait(lambda: reading.counters.messages == 1 and not amazon.left_in(url))

    assert reading.counters.failures == 3
    assert caplog.text.count(sentence) == 1
    assert caplog.text.count("Trying again") == 1


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (403, refused("AccessDeniedException"), "sqs:DeleteMessage"),
        (
            200,
            json.dumps(
                {"Successful": [], "Failed": [{"Id": "0", "Code": "InternalError"}]}
            ).encode(),
            "1 of 1 messages could not be deleted",
        ),
    ],
)
def test_what_could_not_be_deleted_comes_again(
    amazon: Amazon, caplog: pytest.LogCaptureFixture, status: int, body: bytes, sentence: str
) -> None:
    url, _ = amazon.new_queue(VisibilityTimeout="1")
    bucket = amazon.new_bucket()
    amazon.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(_event(bucket)))
    injected = Injected(new_client(url))
    injected.answers = [("DeleteMessageBatch", status, body)]

    with caplog.at_level(logging.WARNING, "pollen"), Reading(url, injected.client) as reading:
        reading.wait(lambda: len(reading.taken) == 2 and not amazon.left_in(url))

    assert unordered(reading.taken) == {Notice(bucket, "a.png", created=True)}
    assert reading.counters.failures == 1
    assert sentence in caplog.text


def _event(bucket: str) -> dict[str, Any]:
    return {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "detail": {"bucket": {"name": bucket}, "object": {"key": "a.png"}},
    }


def test_missing_credentials_are_logged_and_later_ones_are_found(
    amazon: Amazon, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, _ = amazon.new_queue()
    amazon.sqs.send_message(QueueUrl=url, MessageBody=json.dumps({"Records": []}))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with caplog.at_level(logging.WARNING, "pollen"), Reading(url) as reading:
        reading.wait(lambda: reading.counters.failures >= 2)
        assert "(NoCredentialsError)" in (reading.counters.trouble or "")
        for name, value in amazon.environment().items():
            monkeypatch.setenv(name, value)
        reading.wait(lambda: not amazon.left_in(url))

    assert "set AWS_ACCESS_KEY_ID" in caplog.text


class _Rude(BaseHTTPRequestHandler):
    """A server that is there, and breaks off."""

    asked = 0

    def do_POST(self) -> None:
        type(self).asked += 1
        self.connection.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def rude() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Rude) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{ACCOUNT}/uploads"
        finally:
            server.shutdown()
            thread.join()


def test_a_server_that_breaks_off_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with rude() as url, caplog.at_level(logging.WARNING, "pollen"), Reading(url) as reading:
        reading.wait(lambda: reading.counters.failures >= 3)

    assert caplog.text.count("can't be reached") == 1


def test_a_server_that_does_not_wait_is_not_asked_all_the_time(
    amazon: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqs, "_EMPTY_SECONDS", PATIENCE_S)
    url, _ = amazon.new_queue()
    injected = Injected(new_client(url))
    injected.answers = [("ReceiveMessage", 200, b"{}")] * 1000

    with Reading(url, injected.client) as reading:
        reading.wait(lambda: len(injected.answers) < 1000)

    assert len(injected.answers) == 999
    assert reading.counters == QueueCounters()


@pytest.mark.parametrize(
    ("url", "endpoint", "region"),
    [
        (
            "https://sqs.us-west-2.amazonaws.com/1/q",
            "https://sqs.us-west-2.amazonaws.com",
            "us-west-2",
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/1/q",
            "https://sqs.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
        ),
        (
            "https://us-west-2.queue.amazonaws.com/1/q",
            "https://sqs.us-west-2.amazonaws.com",
            "us-west-2",
        ),
        (
            "https://queue.amazonaws.com/1/q",
            "https://sqs.us-east-1.amazonaws.com",
            "us-east-1",
        ),
        (
            "https://vpce-0a1-b2c-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com/1/q",
            "https://vpce-0a1-b2c-eu-west-1a.sqs.eu-west-1.vpce.amazonaws.com",
            "eu-west-1",
        ),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/1/q",
            "https://sqs-fips.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
        ),
        ("https://sqs.us-west-1.api.aws/1/q", "https://sqs.us-west-1.api.aws", "us-west-1"),
        (
            "https://sqs.eusc-de-east-1.amazonaws.eu/1/q",
            "https://sqs.eusc-de-east-1.amazonaws.eu",
            "eusc-de-east-1",
        ),
        ("http://queues.example.org:9324/1/q", "http://queues.example.org:9324", REGION),
        ("https://queues.amazonaws.com/1/q", "https://queues.amazonaws.com", REGION),
    ],
)
def test_server_and_region_are_those_of_the_queue(url: str, endpoint: str, region: str) -> None:
    client = new_client(url)

    assert client.meta.endpoint_url == endpoint
    assert client.meta.region_name == region


def test_an_endpoint_of_the_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    amazons = "https://sqs.us-west-2.amazonaws.com/1/q"
    amazons_old = "https://us-west-2.queue.amazonaws.com/1/q"
    own = "http://queues.example.org/1/q"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://everything.example.org")

    # It is that of an S3 store, and an S3 store that is not Amazon's has no queues.
    assert new_client(amazons).meta.endpoint_url == "https://sqs.us-west-2.amazonaws.com"
    assert new_client(amazons_old).meta.endpoint_url == "https://sqs.us-west-2.amazonaws.com"
    assert new_client(own).meta.endpoint_url == "http://queues.example.org"

    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://only-queues.example.org")

    assert new_client(amazons).meta.endpoint_url == "http://only-queues.example.org"
    assert new_client(own).meta.endpoint_url == "http://only-queues.example.org"


def test_the_region_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    own = "http://queues.example.org/1/q"
    assert urlsplit(own).hostname is not None
    monkeypatch.delenv("AWS_REGION")

    assert new_client(own).meta.region_name == "us-east-1"

    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")

    assert new_client(own).meta.region_name == "eu-north-1"
