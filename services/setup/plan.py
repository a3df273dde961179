"""What setup would change: decided first, shown, and only then done."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Action = Literal["create", "update", "delete", "keep"]


@dataclass(frozen=True)
class Change:
    """What happens to one object on the Prefect server or in a bucket.

    Attributes:
        kind: Of object, in people's words: ``block``, ``work pool``, ``limit``, ``automation``, ...
        name: Its name.
        action: What is done with it; ``keep`` is nothing.
        detail: What differs, or why it is left alone; without secrets.
        attention: A person should read the detail although nothing is done.
    """

    kind: str
    name: str
    action: Action
    detail: str = ""
    attention: bool = False


@dataclass(frozen=True)
class Step:
    """A change and how it is made.

    The functions that plan one kind of object take the client and the site, only read, and return
    a step per object, also for those that stay: ``plan_blocks(client, site) -> list[Step]``.

    Attributes:
        change: What is done.
        do: Does it. None where nothing is to be done.
    """

    change: Change
    do: Callable[[], object] | None = None


def keep(kind: str, name: str, detail: str = "", *, attention: bool = False) -> Step:
    """A step that leaves an object as it is."""
    return Step(Change(kind, name, "keep", detail, attention))


def to_do(steps: Iterable[Step]) -> Iterator[Step]:
    """Those of the steps that change something."""
    return (step for step in steps if step.do is not None)
