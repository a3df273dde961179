"""Batches: the pictures that wait, divided into parts of about equal work."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

#: Rough number of pixels per byte of a file: a listing has bytes, but the work grows with pixels.
PIXELS_PER_BYTE = {"jpg": 5.0, "jpeg": 5.0, "png": 0.6, "tif": 0.33, "tiff": 0.33, "czi": 1.0}
BATCH_PIXELS = 1.5e9


@dataclass(frozen=True)
class Item:
    """A picture to count, as it was listed.

    Attributes:
        key: Its key below the source.
        version: The version of the object.
        size: Bytes.
    """

    key: str
    version: str
    size: int


@dataclass(frozen=True)
class Batch:
    """Pictures that are counted, recorded and, if necessary, repeated together."""

    items: tuple[Item, ...]

    @property
    def id(self) -> str:
        """The name of the batch's record files; equal for equal pictures in equal versions."""
        text = "\n".join(f"{item.key}\t{item.version}" for item in self.items)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A short name of the batch for people."""
        first = self.items[0].key
        more = len(self.items) - 1
        return f"{first} and {more} more" if more else first


def is_hidden(key: str) -> bool:
    """Return whether a key is hidden as file managers understand it, such as macOS's `._a.jpg`.

    Parts that name a folder (`..`) hide nothing: such a key gets a row, although a failed one.
    """
    return any(part.startswith(".") and part.strip(".") for part in key.split("/"))


def cut_batches(waiting: pl.DataFrame, batch_images: int) -> list[Batch]:
    """Divide pictures, in order of their keys, into batches.

    A batch ends at `batch_images` pictures or at about `BATCH_PIXELS` pixels.

    Args:
        waiting: Columns key, version, size.
        batch_images: Largest number of pictures per batch.
    """
    batches: list[Batch] = []
    items: list[Item] = []
    pixels = 0.0
    for key, version, size in waiting.select("key", "version", "size").sort("key").iter_rows():
        work = size * PIXELS_PER_BYTE.get(key.rpartition(".")[2].lower(), 1.0)
        if items and (len(items) >= batch_images or pixels + work > BATCH_PIXELS):
            batches.append(Batch(tuple(items)))
            items, pixels = [], 0.0
        items.append(Item(key, version, size))
        pixels += work
    if items:
        batches.append(Batch(tuple(items)))
    return batches


def cut_for(waiting: pl.DataFrame, batch_images: int, shards: int) -> list[Batch]:
    """Divide pictures into batches, smaller ones if `batch_images` would leave shards without work."""
    return cut_batches(waiting, max(1, min(batch_images, math.ceil(waiting.height / shards))))


def deal(batches: Sequence[Batch], shards: int) -> tuple[tuple[Batch, ...], ...]:
    """Distribute batches in turn over at most `shards` runs: each gets some, and about as many as the others."""
    runs = min(shards, len(batches))
    return tuple(tuple(batches[run::runs]) for run in range(runs))


def titled(batches: Sequence[Batch]) -> Iterator[tuple[str, Batch]]:
    """Yield every batch with a title for people, such as `batch 3 of 12: 64 pictures`."""
    for number, batch in enumerate(batches, 1):
        pictures = "1 picture" if len(batch.items) == 1 else f"{len(batch.items)} pictures"
        yield f"batch {number} of {len(batches)}: {pictures}", batch
