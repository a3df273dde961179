"""Changes of setup: planned first, shown, and only then made."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Action = Literal["create", "update", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """A change of one object on the Prefect server or in a bucket.

    Attributes:
        kind: Kind of the object, for people: `block`, `work pool`, `limit`, `automation`, ...
        name: Name of the object.
        action: The change; `keep` is none.
        detail: Differences, or the reason why it is left unchanged; without secrets.
        attention: Whether a person should read the detail even if nothing changes.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
    attention: bool = False


@dataclass(frozen=True)
class Step:
    """A change and how to make it.

    The functions that plan one kind of object take the client and the site, only read, and return
    a step per object, also for those that stay: `plan_blocks(client, site) -> list[Step]`.

    Attributes:
        change: The change.
        do: Makes the change; None if nothing changes.
    """

    change: Change
    do: Callable[[], object] | None = None


def keep(kind: str, name: str, detail: str = "", *, attention: bool = False) -> Step:
    """Return a step that leaves an object as it is."""
    return Step(Change(kind, name, "keep", detail, attention))


def to_do(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the steps that change something."""
    return (step for step in steps if step.do is not None)
