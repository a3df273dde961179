"""Objects in a store, and their keys."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredObject:
    """An object as a store lists it.

    Attributes:
        key: The key below the store's root.
        size: Its size, bytes.
        version: What distinguishes this version of the object from others.
        modified: When it was written, seconds since 1970 by the clock of the store.
    """

    key: str
    size: int
    version: str
    modified: float = field(default=0.0, compare=False)


def join_key(*parts: str) -> str:
    """Return the parts of a key, joined by one `/` each."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
