"""The split of every picture: what belongs together stays together, and old pictures never move.

Pictures are tied by what they share (plant, family, a copy). Those that hang together, directly or
over others, form a component, and a component has one split: the one its old pictures have, or else the
one that is furthest below its share.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pollen.dataset.manifest import Split
from pollen.dataset.settings import Shares

#: Where old pictures contradict one another, train keeps its picture (a leak is a copy in train of
#: what judges), and test before val, because test is what a model is judged on.
_PRECEDENCE: Final = (Split.TRAIN, Split.TEST, Split.VAL)


@dataclass(frozen=True)
class Tied:
    """A picture to be placed.

    Attributes:
        id: Unique, and independent of names and of the order of exports: its hash comes first.
        ties: What it must share a split with: every picture with an equal tie.
        split: Where it is already; None for a new one.
        settled: Whether the latest manifest has it there: it then comes before pictures that somebody
            put into a split by hand.
    """

    id: str
    ties: tuple[str, ...]
    split: Split | None = None
    settled: bool = False


@dataclass(frozen=True)
class Placing:
    """The places of the pictures.

    Attributes:
        splits: Split by id.
        leaks: The others: pictures tied to several splits at once, with those splits.
    """

    splits: Mapping[str, Split]
    leaks: Mapping[str, tuple[Split, ...]]


#: Gives the pictures that one is a copy of, at least one in each component that has any: asked with
#: its id and with what tells the component of another one, None where that is not placed.
CopiesOf = Callable[[str, Callable[[str], str | None]], Iterable[str]]


def _no_copies(_one: str, _component: Callable[[str], str | None]) -> Iterable[str]:
    return ()


def place(pictures: Iterable[Tied], shares: Shares, copies_of: CopiesOf = _no_copies) -> Placing:
    """Place pictures, deterministically and whatever their order.

    Copies are asked for one picture after another, because what is tied already need not be compared:
    only a picture that is left out ties nothing, and which ones are is known no earlier.

    An old picture keeps its split or, where old pictures of two splits are tied, is left out; one that
    is settled never gives way to one that is not. A new picture that is tied to two splits is left out.
    """
    components = _Components()
    leaks = {}
    for picture in sorted(pictures, key=_turn):
        copies = copies_of(picture.id, components.of)
        ties = (*picture.ties, _own_tie(picture.id), *map(_own_tie, copies))
        wanted = components.splits_of(ties) | ({picture.split} - {None})
        if len(wanted) > 1:
            leaks[picture.id] = tuple(split for split in Split if split in wanted)
            continue
        components.join(ties, next(iter(wanted), None))
        components.add(picture.id, ties)
    _share_out(components, shares)
    placed = {
        one: split
        for root, members in components.members().items()
        for one in members
        if (split := components.split[root])
    }
    return Placing(placed, leaks)


def _own_tie(picture: str) -> str:
    """Return the tie that only a picture and its copies have."""
    return f"picture:{picture}"


def _turn(picture: Tied) -> tuple[bool, int, str]:
    """Return the sort key: settled pictures first, then old ones by precedence, then new ones by hash."""
    if picture.split is None:
        return True, len(_PRECEDENCE), picture.id
    return not picture.settled, _PRECEDENCE.index(picture.split), picture.id


def _share_out(components: "_Components", shares: Shares) -> None:
    """Give every component without split the one that is furthest below its share."""
    sizes = Counter[Split]()
    undecided = []
    for root, members in components.members().items():
        split = components.split[root]
        if split is None:
            undecided.append((min(members), root, len(members)))
        else:
            sizes[split] += len(members)
    for _, root, size in sorted(undecided):
        total = sizes.total() + size
        missing = {split: getattr(shares, split) * total - sizes[split] for split in Split}
        chosen = max(Split, key=lambda split: missing[split])
        components.split[root] = chosen
        sizes[chosen] += size


class _Components:
    """Union-find over ties; each component has at most one split."""

    def __init__(self) -> None:
        self.split: dict[str, Split | None] = {}
        self._parent: dict[str, str] = {}
        self._tie_of: dict[str, str] = {}

    def of(self, picture: str) -> str | None:
        """Return the component of a picture; None if it is not placed."""
        tie = _own_tie(picture)
        return self._root(tie) if tie in self._parent else None

    def splits_of(self, ties: Iterable[str]) -> set[Split]:
        """Return the splits of the components that these ties reach."""
        reached = {self.split.get(self._root(tie)) for tie in ties if tie in self._parent}
        return {split for split in reached if split is not None}

    def join(self, ties: Iterable[str], split: Split | None) -> None:
        """Make one component of all that the ties reach."""
        first, *others = sorted(ties)
        root = self._root(self._parent.setdefault(first, first))
        for tie in others:
            other = self._root(self._parent.setdefault(tie, tie))
            self._parent[other] = root
            if other != root:
                self.split.pop(other, None)
        self.split[root] = split

    def add(self, picture: str, ties: Iterable[str]) -> None:
        """Count a picture to the component of its ties."""
        self._tie_of[picture] = min(ties)

    def members(self) -> dict[str, list[str]]:
        """Return pictures by component."""
        members: dict[str, list[str]] = {}
        for picture, tie in self._tie_of.items():
            members.setdefault(self._root(tie), []).append(picture)
        return members

    def _root(self, tie: str) -> str:
        while self._parent[tie] != tie:
            self._parent[tie] = self._parent[self._parent[tie]]  # halve the path
            tie = self._parent[tie]
        return tie
