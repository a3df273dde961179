"""How a run tells how far it is, to whoever watches: a progress bar, plain lines, nobody."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext
from prefect.exceptions import PrefectException

from pollen.reports.pages import markdown
from tasks.stage import logger

#: How often the Prefect server hears of progress, at most.
UPDATE_EVERY_SECONDS = 3.0
#: Name of the progress artifacts of batches; a run has one for each.
BATCH_PROGRESS: Final = "batch-progress"


class Progress(Protocol):
    """Receives what happens during a run; called from several threads."""

    def say(self, text: str) -> None:
        """A step begins that may take a while."""

    def planned(self, waiting: int, inputs: int) -> None:
        """The plan is made: ``waiting`` of ``inputs`` pictures are to be counted."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """A picture is done."""

    def reached(self, done: int, total: int, text: str) -> None:
        """Another part of long work is done, such as an epoch; ``text`` says what came of it."""


class Silent:
    """Nobody watches."""

    def say(self, text: str) -> None:
        """See :class:`Progress`."""

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`Progress`."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """See :class:`Progress`."""

    def reached(self, done: int, total: int, text: str) -> None:
        """See :class:`Progress`."""


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Showing something in the Prefect UI must never stop the counting."""
    try:
        yield
    except (httpx.HTTPError, PrefectException, OSError) as error:
        logger().warning("%s can't be shown in the Prefect UI: %s", what, error)


class Bar:
    """A progress artifact of the flow or task run under way: made by the first call, then moved.

    Args:
        key: Name of the artifact.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._artifact: UUID | None = None
        self._sending = threading.Lock()
        self._sent_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether the server has not heard of it for a while."""
        return time.monotonic() - self._sent_at >= UPDATE_EVERY_SECONDS

    def show(self, percent: float, text: str, *, wait: bool = True) -> None:
        """Tell the server; with ``wait`` off not if another thread is telling it, for work must go on."""
        if not self._sending.acquire(blocking=wait):
            return
        try:
            self._sent_at = time.monotonic()
            text = markdown(text)  # the UI takes descriptions for Markdown, with pictures and links
            with best_effort("progress"):
                if self._artifact is None:
                    # Outside of async code it is no coroutine.
                    made = create_progress_artifact(percent, key=self._key, description=text)
                    self._artifact = cast("UUID", made)
                else:
                    update_progress_artifact(self._artifact, progress=percent, description=text)
        finally:
            self._sending.release()


class Published:
    """Shows progress in the Prefect UI too, as an artifact of the flow run; tells ``other`` as well.

    Args:
        other: Who else watches.
        key: Name of the artifact.
        steps: Show steps too: for work that has long ones before and behind its main part.
    """

    def __init__(
        self, other: Progress, key: str = "training-progress", *, steps: bool = False
    ) -> None:
        self._other = other
        self._bar = Bar(key)
        self._steps = steps
        self._lock = threading.Lock()
        self._total = self._done = self._failed = 0
        self._percent = 0.0

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self._other.say(text)
        if self._steps:
            self._bar.show(self._percent, text)

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`Progress`."""
        self._other.planned(waiting, inputs)
        self._total = waiting
        if waiting:
            self._bar.show(0.0, f"{waiting} of {inputs} pictures to count")

    def counted(self, filename: str, *, failed: bool) -> None:
        """See :class:`Progress`. The server is told at most every few seconds, and of the last picture."""
        self._other.counted(filename, failed=failed)
        with self._lock:
            self._done += 1
            self._failed += failed
            done, failures, is_last = self._done, self._failed, self._done == self._total
        if is_last or self._bar.is_due:
            text = _pictures(done, self._total, failures)
            self._bar.show(_percent(done, self._total), text, wait=is_last)

    def reached(self, done: int, total: int, text: str) -> None:
        """See :class:`Progress`."""
        self._other.reached(done, total, text)
        self._percent = _percent(done, total)
        self._bar.show(self._percent, text)

    def ended(self, text: str) -> None:
        """The work is done; ``text`` says what came of it."""
        if self._steps:
            self._bar.show(100.0, text)


class OfBatch:
    """Shows how far one batch is, as an artifact of its task run; tells ``other`` as well.

    The server hears nothing of the first seconds: many batches are over by then, and one call says it all.

    Args:
        other: Who else watches.
        title: What people see of the batch.
        pictures: How many it holds.
    """

    def __init__(self, other: Progress, title: str, pictures: int) -> None:
        self._other = other
        self._title = title
        self._pictures = pictures
        self._bar = Bar(BATCH_PROGRESS) if TaskRunContext.get() else None
        self._lock = threading.Lock()
        self._done = self._failed = 0

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self._other.say(text)

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`Progress`."""
        self._other.planned(waiting, inputs)

    def reached(self, done: int, total: int, text: str) -> None:
        """See :class:`Progress`."""
        self._other.reached(done, total, text)

    def counted(self, filename: str, *, failed: bool) -> None:
        """See :class:`Progress`."""
        self._other.counted(filename, failed=failed)
        with self._lock:
            self._done += 1
            self._failed += failed
            done, failures = self._done, self._failed
        if self._bar is not None and self._bar.is_due:
            text = f"{self._title}; {_pictures(done, self._pictures, failures)}"
            self._bar.show(_percent(done, self._pictures), text, wait=False)

    def ended(self) -> None:
        """All of the batch is recorded."""
        if self._bar is not None:
            done = max(self._done, self._pictures)
            self._bar.show(100.0, f"{self._title}; {_pictures(done, done, self._failed)}")


def _percent(done: int, total: int) -> float:
    """A share as the bar wants it. A file of several pages is one input but tells of every page."""
    return min(100.0, 100.0 * done / max(total, 1))


def _pictures(done: int, total: int, failed: int) -> str:
    return f"{done} of {max(done, total)} pictures counted, {failed} failed"


_watcher: ContextVar[Progress] = ContextVar("watcher", default=Silent())  # noqa: B039  (has no state)


@contextmanager
def watched_by(progress: Progress) -> Iterator[None]:
    """Tell ``progress`` about runs started inside the block: flow parameters can't carry it."""
    token = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Progress:
    """Who watches the present run."""
    return _watcher.get()
