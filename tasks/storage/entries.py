"""What stores have in common: entries of a listing, and keys."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Entry:
    """An object in a store: its key below the store's root, and what tells one version from another.

    ``modified`` is when it was written, seconds since 1970 by the clock of the store.
    """

    key: str
    size: int
    version: str
    modified: float = field(default=0.0, compare=False)


def joined(*parts: str) -> str:
    """Parts of a key joined by one ``/`` each."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
