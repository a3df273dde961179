"""The event as a real Prefect server takes it: once, whatever happens to answers."""

import asyncio
import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from uuid import uuid4

import pytest

from services.embedded import EmbeddedPrefect
from services.events.bursts import Burst, PendingBursts
from services.events.counters import Counters
from services.events.posting import NotPostedError, Poster, post_event
from services.events.roots import Root, Upload, UploadKind
from tests.support.events import events_of
from tests.support.proxy import proxy, serving

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def burst(block: str, kind: UploadKind = UploadKind.PICTURES, prefix: str = "a b/ž") -> Burst:
    root = Root(block, "bucket", prefix, prefix)
    return Burst(uuid4(), root, kind, 7, "detect_images/x.jpg", AT, AT, 0.0, 0.0)


def test_an_event_names_the_root_and_the_uploads(prefect_server: EmbeddedPrefect) -> None:
    for kind in UploadKind:
        asyncio.run(post_event(burst("post-one", kind)))
    pictures, exports = sorted(events_of("post-one", 2), key=lambda each: each["event"])[::-1]
    assert pictures["event"] == "pollen.pictures.uploaded"
    assert exports["event"] == "pollen.exports.uploaded"
    assert pictures["resource"] == {
        "prefect.resource.id": "pollen.root.post-one.a b.ž",
        "prefect.resource.name": "post-one/a b/ž",
    }
    expected = {
        "bucket": "post-one",
        "prefix": "a b/ž",
        "uploads": 7,
        "example": "detect_images/x.jpg",
        "first": AT.isoformat(),
        "last": AT.isoformat(),
    }
    assert pictures["payload"] == expected
    assert exports["payload"] == expected


def test_the_root_without_a_prefix_says_so(prefect_server: EmbeddedPrefect) -> None:
    asyncio.run(post_event(burst("post-bare", prefix="")))
    (found,) = events_of("post-bare", 1)
    assert found["payload"]["prefix"] is None
    assert found["resource"]["prefect.resource.id"] == "pollen.root.post-bare"


def test_a_lost_answer_makes_no_second_event(prefect_server: EmbeddedPrefect) -> None:
    """The server took it, and the answer did not come back: it is posted again, and is still one."""
    came: list[Burst] = []
    waiting = PendingBursts(1, 10)
    waiting.add(Upload(burst("post-lost").root, UploadKind.PICTURES, "a.jpg"), 0, AT)

    async def losing(each: Burst) -> None:
        came.append(each)
        await post_event(each)
        if len(came) < 3:
            raise NotPostedError("the answer is lost", maybe_posted=True)

    counters = Counters()
    assert asyncio.run(Poster(waiting, counters, losing).flush(60)) == 0
    assert len({each.id for each in came}) == 1
    assert (counters.posted, counters.failed_posts, counters.trouble) == (1, 2, None)
    asyncio.run(post_event(burst("post-lost")))  # when this one is seen, all before it were
    found = events_of("post-lost", 2)
    assert sorted(each["payload"]["uploads"] for each in found) == [1, 7]


class WebPage(BaseHTTPRequestHandler):
    """A proxy that answers whatever is asked with a page of its own."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>Log in</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_says_whether_it_may_have_arrived(
    prefect_process: EmbeddedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(url: str) -> NotPostedError:
        monkeypatch.setenv("PREFECT_API_URL", url)
        with pytest.raises(NotPostedError) as caught:
            asyncio.run(post_event(burst("post-never")))
        return caught.value

    away = trial("http://127.0.0.1:9/api")
    assert not away.maybe_posted
    assert not away.refused
    with proxy(prefect_process.api_url, refuse=lambda: True) as behind:
        failing = trial(f"{behind}/api")
    assert failing.maybe_posted
    with serving(WebPage) as page:
        web = trial(f"{page}/api")
    assert web.maybe_posted
    assert not web.refused
    wrong = trial(f"{prefect_process.ui_url}/nothing")
    assert wrong.refused
    assert not wrong.maybe_posted


def run_for(poster: Poster, until: Callable[[], object]) -> None:
    async def work() -> None:
        task = asyncio.create_task(poster.run())
        while not until():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(work(), 60))


def test_uploads_while_the_server_is_away_join_what_waits() -> None:
    waiting = PendingBursts(0.05, 10)
    root = burst("never").root
    tries: list[int] = []

    def note() -> None:
        waiting.add(Upload(root, UploadKind.PICTURES, "a.jpg"), time.monotonic(), AT)

    async def away_at_first(each: Burst) -> None:
        tries.append(each.uploads)
        if len(tries) < 3:
            note()
            raise NotPostedError("away")

    note()
    counters = Counters()
    run_for(Poster(waiting, counters, away_at_first), lambda: counters.posted)
    assert tries == [1, 2, 3]
    assert waiting.pending == ()


def test_an_unexpected_fault_ends_nothing_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = PendingBursts(0.01, 10)
    waiting.add(Upload(burst("never").root, UploadKind.PICTURES, "a.jpg"), 0, AT)
    tries: list[Burst] = []

    async def broken_once(each: Burst) -> None:
        tries.append(each)
        if len(tries) == 1:
            raise KeyError("surprise")

    counters = Counters()
    run_for(Poster(waiting, counters, broken_once), lambda: counters.posted)
    assert tries[0].id == tries[1].id
    assert tries[1].maybe_posted
    assert (counters.failed_posts, counters.trouble) == (1, None)
    assert "KeyError: 'surprise'" in caplog.text
    assert "Traceback" in caplog.text


def test_a_refused_burst_does_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 600)  # a pause nobody waits for
    waiting = PendingBursts(0.01, 10)
    refused, fine = burst("refused").root, burst("fine").root
    tries: list[str] = []

    def note(root: Root) -> None:
        waiting.add(Upload(root, UploadKind.PICTURES, "a.jpg"), time.monotonic(), AT)

    async def post(each: Burst) -> None:
        tries.append(each.root.block)
        if each.root == refused:
            note(fine)
            note(refused)
            raise NotPostedError("no such thing", refused=True)

    note(refused)
    counters = Counters()
    run_for(Poster(waiting, counters, post), lambda: counters.posted)
    assert tries == ["refused", "fine"]
    assert counters.trouble == "no such thing"  # for the other root it still is
    (kept,) = waiting.pending
    assert (kept.root, kept.uploads) == (refused, 2)


def test_a_post_that_is_interrupted_is_kept_as_possibly_done() -> None:
    waiting = PendingBursts(0.01, 10)
    waiting.add(Upload(burst("never").root, UploadKind.PICTURES, "a.jpg"), 0, AT)
    begun: list[Burst] = []

    async def for_ever(each: Burst) -> None:
        begun.append(each)
        await asyncio.sleep(600)

    run_for(Poster(waiting, Counters(), for_ever), lambda: begun)
    (kept,) = waiting.pending
    assert kept.maybe_posted
    assert kept.id == begun[0].id


def test_flush_gives_up_in_time_and_returns_what_is_left() -> None:
    waiting = PendingBursts(30, 300)
    for number in range(5):
        waiting.add(Upload(burst("never").root, UploadKind.PICTURES, "a.jpg"), number, AT)

    async def away(_: Burst) -> None:
        raise NotPostedError("away")

    counters = Counters()
    assert asyncio.run(Poster(waiting, counters, away).flush(0.2)) == 5
    assert counters.trouble == "away"
    assert counters.failing_since is not None
    assert waiting.take(math.inf)[0].uploads == 5
