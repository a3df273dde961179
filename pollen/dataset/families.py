"""Families and groups of pictures by their names: copies of one picture, pictures of one plant."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Final

from pollen.statistics.samples import sample_of

#: Label Studio puts eight hexadecimal digits before an uploaded name; a date is none of its prefixes.
_UPLOAD_PREFIX: Final = re.compile(r"^(?!(?:19|20)\d{6}-)[0-9a-f]{8}-(?=.)")

#: What tools add to the name of a picture, taken off until nothing is left to take.
_ADDED: Final = (
    re.compile(r"\.(?:jpe?g|png|tiff?|bmp|czi)$"),
    re.compile(r"\.rf\.[0-9a-z]+$"),  # Roboflow's hash of a version
    re.compile(r"(?<=.)_(?:jpe?g|png|tiff?|bmp)$"),  # the first suffix, as Roboflow writes it
    re.compile(r"(?<=.)_(?:aug|pad)_.*$"),  # augmented copies; crops on a canvas
    re.compile(r"^neg_syn_(?=.)"),  # debris cut out of the picture
    _UPLOAD_PREFIX,
)


def without_upload_prefix(name: str) -> str:
    """Return a name without the eight digits that Label Studio puts before it."""
    return _UPLOAD_PREFIX.sub("", name)


def family_of(name: str) -> str:
    """Return the stem that all copies of one picture share, whatever tools made of its name.

    Lower case, and one `-` for whatever is neither letter, digit nor `_`: Roboflow writes
    `10(1)` as `10-1-`.

    Args:
        name: File name, with or without folders.
    """
    stem = PurePosixPath(name).name.casefold()
    before = ""
    while stem != before:
        before = stem
        for added in _ADDED:
            stem = added.sub("", stem)
    return re.sub(r"[^\w]+", "-", stem).strip("-") or PurePosixPath(name).name.casefold()


def group_of(name: str, pattern: str) -> str:
    """Return the group that stays in one split: the plant with its ploidy, or the family if the name tells no plant.

    Replicates (slides) of a plant share a group. Ploidies are written one way, so `s2x` and
    `S2x` are the same group. The plant stays as it is written, for tables; whoever compares
    groups does so without case.

    Args:
        name: File name, with or without folders.
        pattern: See `pollen.statistics.samples.sample_of`.

    Raises:
        ValueError: If the pattern is not usable.
    """
    return _told_group(name, pattern) or family_of(name)


def tells_plant(name: str, pattern: str) -> bool:
    """Return whether a file name tells the group of its picture; if not, the picture is a group of its own.

    Nothing then keeps other pictures of its plant out of the other splits.

    Args:
        name: File name, with or without folders.
        pattern: See `pollen.statistics.samples.sample_of`.

    Raises:
        ValueError: If the pattern is not usable.
    """
    return bool(_told_group(name, pattern))


def about_plants(unnamed: Sequence[str], number: int) -> str:
    """Return a warning about file names that tell no plant."""
    return (
        f"{len(unnamed):,} of {number:,} file names do not name a plant, for example {unnamed[0]}: each of these "
        "pictures counts as a plant of its own, so pictures of one plant may be in several splits. Set "
        "sample_pattern (in a training, merging.sample_pattern) to the pattern of the names"
    )


def _told_group(name: str, pattern: str) -> str:
    """Return the group as the name tells it; empty if it tells none."""
    sample = sample_of(PurePosixPath(name).name, pattern)
    parts = [part for part in (sample.plant, sample.ploidy) if part]
    if not sample.plant:
        parts.append(sample.replicate)
    return "_".join(filter(None, parts))


def one_spelling(names: Iterable[str]) -> dict[str, str]:
    """Return for each name its most used spelling, among names that differ only in upper and lower case."""
    used = Counter(names)
    chosen: dict[str, str] = {}
    for name, _ in sorted(used.items(), key=lambda item: (-item[1], item[0])):
        chosen.setdefault(name.casefold(), name)
    return {name: chosen[name.casefold()] for name in used}
