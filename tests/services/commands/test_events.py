"""`pollen events` as a process of its own, with a real Prefect server behind it."""

import asyncio
import json
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from pollen.errors import PollenError
from services.commands.events import _Service, token_from_environment
from services.embedded import EmbeddedPrefect
from services.events.connections import MOST_CONNECTIONS
from services.events.notices import Notice
from services.events.posting import Poster
from services.site import Site
from tests.support.amazon import REGION, Amazon, to_queue
from tests.support.events import TOKEN, RunningReceiver, ceph, events_of, receiving
from tests.support.proxy import proxy
from tests.support.runs import command
from tests.support.sns import TOPIC

MEGABYTE = 1024 * 1024
#: How much more memory a crowd may cost.
MOST_GROWTH = 64 * MEGABYTE
REQUESTS = 10_000
AT_ONCE = 2_000


def site(block: str, *, quiet_s: float = 1, **storage: object) -> dict[str, Any]:
    return {
        "storage": {"block": block, "bucket": "pictures", "folder": "root", **storage},
        "events": {"quiet_seconds": quiet_s, "longest_wait_seconds": 60},
    }


def picture(number: int = 0, bucket: str = "pictures") -> dict[str, Any]:
    return ceph(bucket, f"root/detect_images/{number}.jpg")


def settled(receiver: RunningReceiver, posted: int) -> None:
    """Wait until so many events are posted and nothing waits."""
    deadline = time.monotonic() + 60
    while (now := receiver.status)["posted"] < posted or now["waiting"]:
        assert time.monotonic() < deadline, (now, receiver.log)
        time.sleep(0.1)


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """Crowds of clients are in this process: each takes an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def receiver(
    prefect_process: EmbeddedPrefect, amazon: Amazon, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningReceiver]:
    """One for the tests that leave it as it was; it also reads a queue that a bucket writes to."""
    url, arn = amazon.new_queue()
    amazon.s3.create_bucket(
        Bucket="pictures", CreateBucketConfiguration={"LocationConstraint": REGION}
    )
    amazon.s3.put_bucket_notification_configuration(
        Bucket="pictures", NotificationConfiguration={"QueueConfigurations": to_queue(arn)}
    )
    settings = site("receiver-shared")
    settings["events"]["sqs_queue"] = url
    environment = {**prefect_process.environment(), **amazon.environment()}
    with receiving(tmp_path_factory.mktemp("receiver"), settings, environment) as running:
        yield running


async def crowd(url: str, requests: list[tuple[dict[str, str], bytes]], at_once: int) -> list[int]:
    """Send each request on its own connection, and return the statuses; 0 for a closed connection."""
    host, port = url.removeprefix("http://").split(":")
    places = asyncio.Semaphore(at_once)

    async def one(headers: dict[str, str], body: bytes) -> int:
        head = {"Host": host, "Content-Length": str(len(body)), "Connection": "close", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        async with places:
            try:
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    writer.write(f"POST /events HTTP/1.1\r\n{lines}\r\n".encode() + body)
                    line = await asyncio.wait_for(reader.readline(), 60)
                finally:
                    writer.close()
            except OSError:
                return 0
        return int(line.split()[1]) if line else 0

    return await asyncio.gather(*(one(*request) for request in requests))


def test_a_burst_is_one_event(receiver: RunningReceiver, prefect_server: EmbeddedPrefect) -> None:
    settled(receiver, 0)
    before = receiver.status["posted"]
    bodies = [
        json.dumps(ceph("pictures", f"root/detect_images/burst-{number}.jpg")).encode()
        for number in range(500)
    ]
    answers = asyncio.run(crowd(receiver.url, [(receiver.headers, body) for body in bodies], 50))
    assert set(answers) == {200}
    settled(receiver, before + 1)
    assert receiver.status["posted"] == before + 1
    (event,) = events_of("receiver-shared", 1, "detect_images/burst-")
    assert event["payload"]["uploads"] == 500
    assert event["payload"]["bucket"] == "receiver-shared"


def test_notices_of_a_queue_are_posted_too(
    receiver: RunningReceiver, prefect_server: EmbeddedPrefect, amazon: Amazon
) -> None:
    before = receiver.status["posted"]
    amazon.s3.put_object(Bucket="pictures", Key="root/detect_images/ž 1+a%41.jpg", Body=b"x")
    settled(receiver, before + 1)
    assert events_of("receiver-shared", 1, "detect_images/ž 1+a%41.jpg")
    assert receiver.status["queue"]["trouble"] is None


def test_the_command_ends_with_the_reader_of_its_queue(
    prefect_process: EmbeddedPrefect, tmp_path: Path
) -> None:
    """Otherwise the queue would fill up unseen."""
    broken = "from services.events import sqs; sqs.read_queue = None; "
    settings = site("receiver-broken")
    settings["events"]["sqs_queue"] = f"http://127.0.0.1:9/{REGION}/queue"
    receiver = RunningReceiver(tmp_path, settings, prefect_process.environment(), broken)
    deadline = time.monotonic() + 60
    while receiver.process.exit_code is None and time.monotonic() < deadline:
        time.sleep(0.1)
    receiver.process.stop()
    assert receiver.process.exit_code == 2, receiver.log
    assert "NoneType" in receiver.log


def test_ten_thousand_requests_at_once_cost_little_and_shut_nobody_out(
    receiver: RunningReceiver,
) -> None:
    process = psutil.Process(receiver.process.pid).children()[0]
    wrong = {"Authorization": "Bearer wrong"}
    body = b" " * 2000
    kinds: list[tuple[dict[str, str], bytes]] = [
        (wrong, body),
        ({}, body),
        ({}, json.dumps(picture()).encode()),
        (receiver.headers, b"[" * 2000),
        (receiver.headers, json.dumps(picture(bucket="other")).encode()),
    ]
    before, taken = process.memory_info().rss, receiver.status["uploads"].get("pictures", 0)
    answers: list[int] = []
    attack = threading.Thread(
        target=lambda: answers.extend(
            asyncio.run(crowd(receiver.url, kinds * (REQUESTS // len(kinds)), AT_ONCE))
        )
    )
    attack.start()
    good: list[int] = []
    highest = before
    while attack.is_alive() or len(good) < 5:
        good.append(patient_post(receiver))
        highest = max(highest, process.memory_info().rss)
        time.sleep(0.2)
    attack.join()
    assert good == [200] * len(good)
    assert len(answers) == REQUESTS
    assert not [each for each in answers if each >= 500]
    acknowledged = {number % len(kinds) for number, each in enumerate(answers) if each == 200}
    assert acknowledged <= {4}  # another bucket: its sender would else repeat it for ever
    # Refused in words, not by a closed connection.
    assert sum(each == 0 for each in answers) < REQUESTS / 10
    assert highest - before < MOST_GROWTH
    status = receiver.status
    # One whose answer was late came again.
    assert status["uploads"]["pictures"] >= taken + len(good)
    assert {"wrong token", "no notice", "foreign bucket"} <= status["refused"].keys()


def patient_post(receiver: RunningReceiver) -> int:
    """Send a notice as a store does: again if the connection breaks."""
    for _ in range(5):
        try:
            return receiver.post(picture()).status_code
        except httpx.TransportError:
            time.sleep(0.2)
    return 0


def test_idle_connections_shut_nobody_out(receiver: RunningReceiver) -> None:
    host, port = receiver.url.removeprefix("http://").split(":")
    process = psutil.Process(receiver.process.pid).children()[0]

    async def slow() -> tuple[int, int]:
        opened = []
        for _ in range(MOST_CONNECTIONS + 200):
            streams = await asyncio.open_connection(host, int(port))
            streams[1].write(b"POST /events HTTP/1.1\r\nHost: here\r\nX-")
            opened.append(streams)
        status = await asyncio.to_thread(patient_post, receiver)
        kept = sum(each.status == "ESTABLISHED" for each in process.net_connections())
        for _, writer in opened:
            writer.close()
        return status, kept

    status, kept = asyncio.run(slow())
    assert status == 200
    assert receiver.status["refused"]["too many connections"] >= 200
    assert kept <= MOST_CONNECTIONS + 1


def test_a_hundred_megabytes_are_refused_and_not_kept(receiver: RunningReceiver) -> None:
    process = psutil.Process(receiver.process.pid).children()[0]
    before = process.memory_info().rss

    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * MEGABYTE

    answer = httpx.post(
        f"{receiver.url}/events/{TOKEN}", content=endless(), trust_env=False, timeout=60
    )
    assert answer.status_code == 413
    assert process.memory_info().rss - before < MOST_GROWTH
    assert receiver.post(picture()).status_code == 200


def test_notices_received_while_the_server_is_away_are_posted_when_it_is_back(
    prefect_server: EmbeddedPrefect, tmp_path: Path
) -> None:
    """Once; and the latest are posted when the command is stopped, without waiting for the quiet period."""
    away = threading.Event()
    away.set()
    with proxy(prefect_server.api_url, refuse=away.is_set) as behind:
        environment = {**prefect_server.environment(), "PREFECT_API_URL": f"{behind}/api"}
        with receiving(tmp_path, site("receiver-away"), environment) as receiver:
            assert receiver.post(picture(1)).status_code == 200
            assert receiver.post(picture(2)).status_code == 200
            wait_for_trouble(receiver)
            away.clear()
            settled(receiver, 1)
            counts = [each["payload"]["uploads"] for each in events_of("receiver-away", 1)]
            assert counts == [2]
            assert receiver.post(picture(3)).status_code == 200
            receiver.process.stop()
            assert receiver.process.exit_code == 0, receiver.log
            assert len(events_of("receiver-away", 2)) == 2
            assert TOKEN not in receiver.log
            assert "Traceback" not in receiver.log


def test_uploads_that_can_t_be_posted_before_the_end_are_logged(tmp_path: Path) -> None:
    hasty = "from services.commands import events; events.FLUSH_S = 0.2; "
    with receiving(
        tmp_path,
        site("receiver-lost", quiet_s=30),
        {"PREFECT_API_URL": "http://127.0.0.1:9/api"},
        hasty,
    ) as receiver:
        assert receiver.post(picture()).status_code == 200
        receiver.process.stop()
        assert receiver.process.exit_code == 1, receiver.log
        assert "uploads that were not posted: 1 (" in receiver.log
        assert "the next sweep finds them" in receiver.log


def test_an_unexpected_error_at_the_end_is_logged_too(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_self: Poster, _deadline_s: float) -> int:
        raise KeyError("surprise")

    monkeypatch.setattr(Poster, "flush", broken)
    service = _Service(Site.model_validate(site("receiver-broken-end")), None)
    service._receiver.take([Notice("pictures", "root/detect_images/a.jpg", created=True)])
    assert asyncio.run(service._stop([])) == 1
    assert "uploads that were not posted: 1 (" in caplog.text
    assert "KeyError: 'surprise'" in caplog.text


def wait_for_trouble(receiver: RunningReceiver) -> None:
    deadline = time.monotonic() + 60
    while receiver.status["trouble"] is None:
        assert time.monotonic() < deadline, receiver.log
        time.sleep(0.1)


def test_does_not_start_without_a_secret(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("storage: {bucket: b}", encoding="utf-8")
    done = command("events", "--config", tmp_path / "site.yaml")
    assert done.returncode == 2
    assert "POLLEN_EVENTS_TOKEN is not set" in done.stderr
    assert "openssl rand" in done.stderr


def test_a_secret_is_long_and_not_needed_if_only_a_queue_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = {"sqs_queue": "https://sqs.eu-central-1.amazonaws.com/123456789012/uploads"}
    monkeypatch.setenv("POLLEN_EVENTS_TOKEN", "")
    assert token_from_environment(Site.model_validate({"events": queue})) is None
    # Otherwise what these topics send would be refused, and lost.
    for others in ({}, queue):
        topics = Site.model_validate({"events": {"sns_topics": [TOPIC], **others}})
        with pytest.raises(PollenError, match="subscribe /events/<token> to them"):
            token_from_environment(topics)
    for text in (
        "short",
        "fifteen-letters",
        " " * 40,
        "base64/with+both/of+them=",
        f"{TOKEN} {TOKEN}",
    ):
        monkeypatch.setenv("POLLEN_EVENTS_TOKEN", text)
        with pytest.raises(PollenError, match="openssl rand"):
            token_from_environment(Site())
    monkeypatch.setenv("POLLEN_EVENTS_TOKEN", f"{TOKEN}\n")  # a Secret made with echo
    token = token_from_environment(Site())
    assert token is not None
    assert token.matches(TOKEN)
