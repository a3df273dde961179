"""What stores have in common: entries of a listing, and keys."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """An object in a store: its key below the store's root, and what tells one version from another."""

    key: str
    size: int
    version: str


def joined(*parts: str) -> str:
    """Parts of a key joined by one ``/`` each."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))
