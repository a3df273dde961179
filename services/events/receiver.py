"""Takes notices from HTTP and from a queue: each is classified, counted, and an upload added to its burst."""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pollen.errors import PollenError
from services.events.bursts import PendingBursts
from services.events.counters import Counters
from services.events.notices import Notice
from services.events.roots import SkipReason, Upload, WatchedRoots, classify

#: Notices that are kept while it is not known yet which bucket is watched.
MOST_HELD: Final = 2000


class NotReadyError(PollenError):
    """Notices can't be taken at the moment; their sender may try again."""


@dataclass(frozen=True)
class Taken:
    """The outcome for some notices.

    Attributes:
        uploads: Notices of an upload that a run takes as its input.
        passed: Notices that start nothing.
        foreign: Those of `passed` that are about another bucket.
        held: Notices that wait until it is known which bucket is watched.
    """

    uploads: int = 0
    passed: int = 0
    foreign: int = 0
    held: int = 0

    @property
    def is_foreign(self) -> bool:
        """True if there were notices, all of them about other buckets."""
        return self.foreign > 0 and not (self.uploads or self.held or self.passed > self.foreign)


class Receiver:
    """Takes the notices of all senders; to be used from one thread only.

    Args:
        roots: The watched roots.
        bursts: Where uploads are added.
        counters: Counters to raise.
        wake: Called after an upload was added.
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
        """True once it is known which bucket is watched."""
        return self._roots.known is not None

    def take(self, notices: Iterable[Notice]) -> Taken:
        """Take notices, or hold them until it is known which bucket is watched.

        Raises:
            NotReadyError: If too many notices are held already.
        """
        received = list(notices)
        if not self.is_ready:
            return self._hold(received)
        return self._take(received)

    def take_held(self) -> None:
        """Take the notices that were held, if it is known by now which bucket is watched."""
        if self.is_ready and self._held:
            held = list(self._held)
            self._held.clear()
            self._take(held)

    def _hold(self, received: list[Notice]) -> Taken:
        if len(self._held) + len(received) > MOST_HELD:
            raise NotReadyError(
                "it is not known yet which bucket is watched, because the Prefect server has not answered: "
                "try again later"
            )
        self._held += received
        return Taken(held=len(received))

    def _take(self, received: list[Notice]) -> Taken:
        roots = self._roots.known or ()
        uploads = passed = foreign = 0
        for notice in received:
            found = classify(roots, notice)
            if isinstance(found, Upload):
                uploads += 1
                self._add(found)
            else:
                passed += 1
                foreign += found is SkipReason.FOREIGN
                self._counters.passed[found] += 1
        return Taken(uploads, passed, foreign)

    def _add(self, upload: Upload) -> None:
        at = datetime.now(UTC)
        self._counters.uploads[upload.kind] += 1
        self._counters.last_upload = at
        self._bursts.add(upload, time.monotonic(), at)
        self._wake()
