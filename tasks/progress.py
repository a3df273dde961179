"""Progress of a run, for whoever watches it: a progress bar, plain lines, the Prefect UI, or nothing."""

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

#: The shortest time between two updates that the Prefect server gets.
UPDATE_EVERY_SECONDS = 3.0
#: Name of the progress artifacts of batches; a run has one for each.
BATCH_PROGRESS: Final = "batch-progress"


class Progress(Protocol):
    """Receives what happens during a run; called from several threads."""

    def say(self, text: str) -> None:
        """Show that a step begins that may take a while."""

    def planned(self, waiting: int, inputs: int) -> None:
        """Show the plan: `waiting` of `inputs` pictures are to be counted."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """Show that a picture is done."""

    def reached(self, done: int, total: int, text: str) -> None:
        """Show that another part of long work is done, such as an epoch; `text` is its result."""


class Silent:
    """Progress that is not shown."""

    def say(self, text: str) -> None:
        """See `Progress`."""

    def planned(self, waiting: int, inputs: int) -> None:
        """See `Progress`."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """See `Progress`."""

    def reached(self, done: int, total: int, text: str) -> None:
        """See `Progress`."""


@contextmanager
def best_effort(what: str) -> Iterator[None]:
    """Turn errors of the Prefect server inside the block into a warning: the UI must never stop the work.

    Args:
        what: What is shown there, for the warning.
    """
    try:
        yield
    except (httpx.HTTPError, PrefectException, OSError) as error:
        logger().warning("%s can't be shown in the Prefect UI: %s", what, error)


class Bar:
    """A progress artifact of the present flow or task run: made by the first call, then updated.

    Args:
        key: The name of the artifact.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        self._artifact: UUID | None = None
        self._sending = threading.Lock()
        self._sent_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        """True if the last update was a while ago."""
        return time.monotonic() - self._sent_at >= UPDATE_EVERY_SECONDS

    def show(self, percent: float, text: str, *, wait: bool = True) -> None:
        """Update the artifact; without `wait` not if another thread is doing it, so that work continues."""
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
    """Progress that the Prefect UI shows too, as an artifact of the flow run.

    Args:
        other: Gets the same progress.
        key: The name of the artifact.
        steps: Whether to show steps too: for work with long ones before and after its main part.
    """

    def __init__(self, other: Progress, key: str, *, steps: bool = False) -> None:
        self._other = other
        self._bar = Bar(key)
        self._steps = steps
        self._lock = threading.Lock()
        self._total = self._done = self._failed = 0
        self._percent = 0.0

    def say(self, text: str) -> None:
        """See `Progress`."""
        self._other.say(text)
        if self._steps:
            self._bar.show(self._percent, text)

    def planned(self, waiting: int, inputs: int) -> None:
        """See `Progress`."""
        self._other.planned(waiting, inputs)
        self._total = waiting
        if waiting:
            self._bar.show(0.0, f"{waiting} of {inputs} pictures to count")

    def counted(self, filename: str, *, failed: bool) -> None:
        """See `Progress`. The server gets an update every few seconds at most, and for the last picture."""
        self._other.counted(filename, failed=failed)
        with self._lock:
            self._done += 1
            self._failed += failed
            done, failures, is_last = self._done, self._failed, self._done == self._total
        if is_last or self._bar.is_due:
            text = _pictures(done, self._total, failures)
            self._bar.show(_percent(done, self._total), text, wait=is_last)

    def reached(self, done: int, total: int, text: str) -> None:
        """See `Progress`."""
        self._other.reached(done, total, text)
        self._percent = _percent(done, total)
        self._bar.show(self._percent, text)

    def ended(self, text: str) -> None:
        """Show that the work is done; `text` is its result."""
        if self._steps:
            self._bar.show(100.0, text)


class BatchProgress:
    """Progress of one batch, as an artifact of its task run; `other` gets it as well.

    There is no update in the first seconds: many batches are done by then, and one call is enough.

    Args:
        other: Gets the same progress.
        title: The batch, as people see it.
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
        """See `Progress`."""
        self._other.say(text)

    def planned(self, waiting: int, inputs: int) -> None:
        """See `Progress`."""
        self._other.planned(waiting, inputs)

    def reached(self, done: int, total: int, text: str) -> None:
        """See `Progress`."""
        self._other.reached(done, total, text)

    def counted(self, filename: str, *, failed: bool) -> None:
        """See `Progress`."""
        self._other.counted(filename, failed=failed)
        with self._lock:
            self._done += 1
            self._failed += failed
            done, failures = self._done, self._failed
        if self._bar is not None and self._bar.is_due:
            text = f"{self._title}; {_pictures(done, self._pictures, failures)}"
            self._bar.show(_percent(done, self._pictures), text, wait=False)

    def ended(self) -> None:
        """Show that all of the batch is recorded."""
        if self._bar is not None:
            done = max(self._done, self._pictures)
            self._bar.show(100.0, f"{self._title}; {_pictures(done, done, self._failed)}")


def _percent(done: int, total: int) -> float:
    """Return a percentage for the bar. A file of several pages is one input, and each page is counted."""
    return min(100.0, 100.0 * done / max(total, 1))


def _pictures(done: int, total: int, failed: int) -> str:
    return f"{done} of {max(done, total)} pictures counted, {failed} failed"


_watcher: ContextVar[Progress] = ContextVar("watcher", default=Silent())  # noqa: B039  (has no state)


@contextmanager
def watched_by(progress: Progress) -> Iterator[None]:
    """Send the progress of runs inside the block to `progress`: flow parameters can't carry it."""
    token = _watcher.set(progress)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Progress:
    """Return what shows the progress of the present run."""
    return _watcher.get()
