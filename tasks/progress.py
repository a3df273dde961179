"""How a run tells how far it is, to whoever watches: a progress bar, plain lines, nobody."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import PrefectException

from tasks.stage import logger

#: How often the Prefect server hears of progress, at most.
UPDATE_EVERY_SECONDS = 3.0


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


class Published:
    """Shows progress in the Prefect UI too, as an artifact of the flow run; tells ``other`` as well.

    Args:
        other: Who else watches.
        key: Name of the artifact.
    """

    def __init__(self, other: Progress, key: str = "training-progress") -> None:
        self._other = other
        self._key = key
        self._lock = threading.Lock()
        self._artifact: UUID | None = None
        self._total = self._done = self._failed = 0
        self._updated = 0.0

    def say(self, text: str) -> None:
        """See :class:`Progress`."""
        self._other.say(text)

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`Progress`."""
        self._other.planned(waiting, inputs)
        self._total = waiting
        if waiting:
            text = f"{waiting} of {inputs} pictures to count"
            self._show(0.0, text)

    def counted(self, filename: str, *, failed: bool) -> None:
        """See :class:`Progress`. The server is told at most every few seconds, and of the last picture."""
        self._other.counted(filename, failed=failed)
        with self._lock:
            self._done += 1
            self._failed += failed
            now = time.monotonic()
            if self._done != self._total and now - self._updated < UPDATE_EVERY_SECONDS:
                return
            self._updated = now
            percent = min(100.0, 100.0 * self._done / max(self._total, 1))
            text = f"{self._done} of {self._total} pictures counted, {self._failed} failed"
            self._show(percent, text)

    def reached(self, done: int, total: int, text: str) -> None:
        """See :class:`Progress`."""
        self._other.reached(done, total, text)
        self._show(100.0 * done / max(total, 1), text)

    def _show(self, percent: float, text: str) -> None:
        """Put the artifact where it is: made by the first call."""
        with best_effort("progress"):
            if self._artifact is None:
                # Outside of async code it is no coroutine.
                made = create_progress_artifact(percent, key=self._key, description=text)
                self._artifact = cast("UUID", made)
            else:
                update_progress_artifact(self._artifact, progress=percent, description=text)


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
