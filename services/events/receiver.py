"""Takes notices in, whichever way they came: what they mean is looked up, counted and burst."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pollen.errors import PollenError
from services.events.counters import Counters
from services.events.bursts import PendingBursts
from services.events.notices import Notice
from services.events.roots import Passed, Upload, WatchedRoots, classify

#: Notices kept while it is not known yet which bucket is watched.
MOST_HELD: Final = 2000


class NotReadyError(PollenError):
    """Notices can't be taken at the moment: their sender may try again."""


@dataclass(frozen=True)
class Taken:
    """What came of some notices.

    Attributes:
        uploads: How many tell of something that a run wants to see.
        passed: How many do not.
        foreign: Of these, how many tell of another bucket.
        held: How many wait until it is known what is watched.
    """

    uploads: int = 0
    passed: int = 0
    foreign: int = 0
    held: int = 0

    @property
    def is_foreign(self) -> bool:
        """Whether there was something, and all of it of other buckets."""
        return self.foreign > 0 and not (self.uploads or self.held or self.passed > self.foreign)


class Receiver:
    """Where all ways of notices end. To be used from one thread.

    Args:
        roots: What is watched.
        bursts: Gets what is to be told.
        counters: Counted up on the way.
        wake: Called when there is something new in the bursts.
    """

    def __init__(
        self,
        roots: WatchedRoots,
        bursts: PendingBursts,
        counters: Counters,
        wake: Callable[[], None],
    ) -> None:
        self._roots = roots
        roots.on_known = self.take_held
        self._bursts = bursts
        self._counters = counters
        self._wake = wake
        self._held: deque[Notice] = deque()

    @property
    def is_ready(self) -> bool:
        """Whether it is known what is watched."""
        return self._roots.known is not None

    def take(self, notices: Iterable[Notice]) -> Taken:
        """Take notices in.

        Raises:
            NotReadyError: It is not known yet what is watched, and too many wait for that already.
        """
        came = list(notices)
        if not self.is_ready:
            return self._hold(came)
        return self._take(came)

    def take_held(self) -> None:
        """Take in what came before it was known what is watched."""
        if self.is_ready and self._held:
            held = list(self._held)
            self._held.clear()
            self._take(held)

    def _hold(self, came: list[Notice]) -> Taken:
        if len(self._held) + len(came) > MOST_HELD:
            raise NotReadyError(
                "the Prefect server has not said yet which bucket is watched: try again later"
            )
        self._held += came
        return Taken(held=len(came))

    def _take(self, came: list[Notice]) -> Taken:
        roots = self._roots.known or ()
        uploads = passed = foreign = 0
        for notice in came:
            meant = classify(roots, notice)
            if isinstance(meant, Upload):
                uploads += 1
                self._note(meant)
            else:
                passed += 1
                foreign += meant is Passed.FOREIGN
                self._counters.passed[meant] += 1
        return Taken(uploads, passed, foreign)

    def _note(self, upload: Upload) -> None:
        at = datetime.now(UTC)
        self._counters.uploads[upload.kind] += 1
        self._counters.last_upload = at
        self._bursts.note(upload, time.monotonic(), at)
        self._wake()
