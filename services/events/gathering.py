"""Many uploads become one event: after a quiet period, or after the longest wait where none comes.

Nothing here looks at a clock: moments are given, in seconds of any clock that does not go back. What
is kept does not grow with the number of uploads, only with that of roots: a few entries for each root
and kind.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid4

from services.events.roots import Kind, Root, Upload

_Where = tuple[Root, Kind]


@dataclass(frozen=True)
class Gathered:
    """Uploads that are one event.

    Attributes:
        id: The event's, the same for every attempt to post it.
        root: Where they are.
        kind: What they are.
        uploads: How many; one that was told of twice counts twice.
        key: Key below the root of the latest.
        first: When the first was told of, by the calendar.
        last: When the latest was.
        began: When the first was, in seconds.
        latest: When the latest was, in seconds.
        maybe_posted: Whether it may have arrived already, where only the answer got lost.
    """

    id: UUID
    root: Root
    kind: Kind
    uploads: int
    key: str
    first: datetime
    last: datetime
    began: float
    latest: float
    maybe_posted: bool = False

    def with_later(self, other: "Gathered") -> "Gathered":
        """These and later ones as one event."""
        return replace(
            self,
            uploads=self.uploads + other.uploads,
            key=other.key,
            last=other.last,
            latest=other.latest,
        )


class Gathering:
    """Uploads that wait to be told.

    Args:
        quiet_s: An event is due so many seconds after the latest upload.
        longest_s: But at the latest so many after the first.
        new_id: Gives ids of events.
    """

    def __init__(
        self, quiet_s: float, longest_s: float, new_id: Callable[[], UUID] = uuid4
    ) -> None:
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._new_id = new_id
        self._waiting: dict[_Where, Gathered] = {}
        #: What may have been posted already: nothing is added to it, so that posting it again is no harm.
        self._unsure: dict[_Where, Gathered] = {}
        #: What was put back to rest: not due earlier, whatever comes meanwhile.
        self._not_before: dict[_Where, float] = {}

    def note(self, upload: Upload, now: float, at: datetime) -> None:
        """Take in one upload.

        Args:
            upload: What was uploaded.
            now: When, in seconds.
            at: When, by the calendar.
        """
        where = (upload.root, upload.kind)
        one = Gathered(self._new_id(), *where, 1, upload.key, at, at, now, now)
        before = self._waiting.get(where)
        self._waiting[where] = one if before is None else before.with_later(one)

    def due_at(self, gathered: Gathered) -> float:
        """When an event is due, in seconds."""
        due = min(gathered.latest + self._quiet_s, gathered.began + self._longest_s)
        if gathered.maybe_posted:  # was due already
            due = gathered.latest
        return max(due, self._not_before.get((gathered.root, gathered.kind), due))

    def next_due(self) -> float | None:
        """When the next event is due, in seconds; None where nothing waits."""
        return min(map(self.due_at, self._free()), default=None)

    def take(self, now: float) -> list[Gathered]:
        """Take out what is due, the earliest first; what can't be posted is put back.

        With ``math.inf``, all there is, but for uploads whose predecessors may have been posted:
        those are due when it is known of them.
        """
        found = sorted(
            (gathered for gathered in self._free() if self.due_at(gathered) <= now),
            key=self.due_at,
        )
        for gathered in found:
            where = (gathered.root, gathered.kind)
            del (self._unsure if gathered.maybe_posted else self._waiting)[where]
            self._not_before.pop(where, None)
        return found

    def put_back(
        self, gathered: Gathered, *, maybe_posted: bool, not_before: float | None = None
    ) -> None:
        """Keep what could not be posted.

        Args:
            gathered: As it was taken.
            maybe_posted: Whether this attempt may have arrived all the same. If none may, what came
                since joins it.
            not_before: When this root and kind may be due again, in seconds; None for as ever.
        """
        where = (gathered.root, gathered.kind)
        if not_before is not None:
            self._not_before[where] = not_before
        if maybe_posted or gathered.maybe_posted:
            self._unsure[where] = replace(gathered, maybe_posted=True)
            return
        later = self._waiting.get(where)
        self._waiting[where] = gathered if later is None else gathered.with_later(later)

    @property
    def pending(self) -> tuple[Gathered, ...]:
        """All that waits."""
        return (*self._unsure.values(), *self._waiting.values())

    def _free(self) -> Iterator[Gathered]:
        """All but what its own predecessor keeps back."""
        yield from self._unsure.values()
        for where, gathered in self._waiting.items():
            if where not in self._unsure:
                yield gathered
