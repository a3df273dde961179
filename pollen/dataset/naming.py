"""File names of pictures in a dataset: safe everywhere, and one stem per picture."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

_LONGEST_STEM: Final = 150


class Names:
    """The names of a dataset, and new ones beside them.

    Labels are found by the stem, so `a.jpg` and `a.png` would share one; and some file systems
    take `A` for `a`. Both are taken for the same name here.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        """Start with the names that are taken."""
        self._taken = {_stem(name) for name in taken}

    def new(self, entry: str, sha256: str) -> str:
        """Return a free name for a picture, its own if that is free, otherwise with its hash; the name is then taken.

        Args:
            entry: Name in the export, with folders.
            sha256: Of the picture's file.
        """
        path = PurePosixPath(safe_name(entry))
        for digits in (0, 8, 16, 64):
            mark = f"-{sha256[:digits]}" if digits else ""
            name = f"{path.stem}{mark}{path.suffix}"
            if _stem(name) not in self._taken:
                self._taken.add(_stem(name))
                return name
        raise ValueError(f"{entry} is in the dataset already, under its whole hash")


def safe_name(entry: str) -> str:
    """Return the file name in plain letters, digits, `.`, `_` and `-`; suffix in lower case."""
    path = PurePosixPath(entry)
    plain = unicodedata.normalize("NFKD", path.stem).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:_LONGEST_STEM].strip(".-")
    return f"{stem or 'picture'}{path.suffix.lower()}"


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.casefold()
