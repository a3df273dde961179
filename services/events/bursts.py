"""Many uploads become one event: after a quiet period, or after the longest wait if uploads don't pause.

No clock is read here: times are arguments, in seconds of any clock that does not go back. Memory does not grow with
the number of uploads, only with that of roots: there are a few entries for each root and kind of upload.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from services.events.roots import Root, Upload, UploadKind

_Where = tuple[Root, UploadKind]


@dataclass(frozen=True)
class Burst:
    """Uploads that are one event.

    Attributes:
        id: Id of the event, the same for every attempt to post it.
        root: Root of the uploads.
        kind: Kind of the uploads.
        uploads: Number of the uploads; one that was reported twice counts twice.
        key: Key of the latest upload below the root.
        first: Date and time of the first report.
        last: Date and time of the latest report.
        began: Time of the first report in seconds.
        latest: Time of the latest report in seconds.
        maybe_posted: Whether the event may have arrived already, if only the answer was lost.
    """

    id: UUID
    root: Root
    kind: UploadKind
    uploads: int
    key: str
    first: datetime
    last: datetime
    began: float
    latest: float
    maybe_posted: bool = False

    def with_later(self, other: "Burst") -> "Burst":
        """Return these and later uploads as one burst."""
        return replace(
            self,
            uploads=self.uploads + other.uploads,
            key=other.key,
            last=other.last,
            latest=other.latest,
        )


class PendingBursts:
    """The bursts that are not posted yet.

    Args:
        quiet_s: Seconds after the latest upload at which a burst is due.
        longest_s: Seconds after the first upload at which a burst is due at the latest.
        new_id: Returns a new id for an event.
    """

    def __init__(
        self, quiet_s: float, longest_s: float, new_id: Callable[[], UUID] = uuid4
    ) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._new_id = new_id
        self._waiting: dict[_Where, Burst] = {}
        # Bursts that may have been posted already: nothing is added to them, so that posting them again is harmless.
        self._unsure: dict[_Where, Burst] = {}
        # Bursts that were put back are not due before this, whatever is added meanwhile.
        self._not_before: dict[_Where, float] = {}

    def add(self, upload: Upload, now: float, at: datetime) -> None:
        """Add one upload to its burst.

        Args:
            upload: The upload.
            now: Time of the report in seconds.
            at: Date and time of the report.
        """
        where = (upload.root, upload.kind)
        one = Burst(self._new_id(), *where, 1, upload.key, at, at, now, now)
        before = self._waiting.get(where)
        self._waiting[where] = one if before is None else before.with_later(one)

    def due_at(self, burst: Burst) -> float:
        """Return the time in seconds at which a burst is due."""
        due = min(burst.latest + self._quiet_s, burst.began + self._longest_s)
        if burst.maybe_posted:  # was due already
            due = burst.latest
        return max(due, self._not_before.get((burst.root, burst.kind), due))

    def next_due(self) -> float | None:
        """Return the time in seconds at which the next burst is due, or None if none waits."""
        return min(map(self.due_at, self._free()), default=None)

    def take(self, now: float) -> list[Burst]:
        """Remove and return the bursts that are due, the earliest first.

        With `math.inf` these are all bursts, except those with a predecessor that may have been posted: they are due
        once it is known whether it was.
        """
        found = sorted(
            (burst for burst in self._free() if self.due_at(burst) <= now),
            key=self.due_at,
        )
        for burst in found:
            where = (burst.root, burst.kind)
            del (self._unsure if burst.maybe_posted else self._waiting)[where]
            self._not_before.pop(where, None)
        return found

    def put_back(
        self, burst: Burst, *, maybe_posted: bool, not_before: float | None = None
    ) -> None:
        """Keep a burst that could not be posted.

        Args:
            burst: The burst as `take` returned it.
            maybe_posted: Whether this attempt may have arrived all the same. If no attempt may have, uploads
                reported since then join the burst.
            not_before: Earliest time in seconds at which this root and kind may be due again; None for no limit.
        """
        where = (burst.root, burst.kind)
        if not_before is not None:
            self._not_before[where] = not_before
        if maybe_posted or burst.maybe_posted:
            self._unsure[where] = replace(burst, maybe_posted=True)
            return
        later = self._waiting.get(where)
        self._waiting[where] = burst if later is None else burst.with_later(later)

    @property
    def pending(self) -> tuple[Burst, ...]:
        """All bursts that wait."""
        return (*self._unsure.values(), *self._waiting.values())

    def _free(self) -> Iterator[Burst]:
        """Yield all bursts that have no predecessor."""
        yield from self._unsure.values()
        for where, burst in self._waiting.items():
            if where not in self._unsure:
                yield burst
