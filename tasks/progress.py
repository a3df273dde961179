"""How a run tells how far it is, to whoever watches: a progress bar, plain lines, nobody."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Progress(Protocol):
    """Receives what happens during a run; called from several threads."""

    def say(self, text: str) -> None:
        """A step begins that may take a while."""

    def planned(self, waiting: int, inputs: int) -> None:
        """The plan is made: ``waiting`` of ``inputs`` pictures are to be counted."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """A picture is done."""


class Silent:
    """Nobody watches."""

    def say(self, text: str) -> None:
        """See :class:`Progress`."""

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`Progress`."""

    def counted(self, filename: str, *, failed: bool) -> None:
        """See :class:`Progress`."""


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
