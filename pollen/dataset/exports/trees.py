"""Folders and zips that exports are read from, as one small protocol."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final, Protocol

from pollen.dataset.findings import DatasetFinding
from pollen.errors import PollenError

_JUNK_NAMES: Final = frozenset({"thumbs.db", "desktop.ini", ".ds_store"})
_JUNK_FOLDERS: Final = frozenset({"__macosx", ".git", ".ipynb_checkpoints"})


class TreeError(PollenError):
    """A file of an export that can't be read; the message says why and what to do."""


class Tree(Protocol):
    """Files by name, `/` between folders."""

    @property
    def name(self) -> str:
        """The name in findings: that of the zip or folder."""
        ...

    @property
    def sha256(self) -> str:
        """Of the zip; empty for a folder."""
        ...

    @property
    def findings(self) -> tuple[DatasetFinding, ...]:
        """Findings on opening; after an error there are no names."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The files, sorted; what operating systems leave about is not among them."""
        ...

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return a file's bytes.

        Raises:
            TreeError: If the file is larger than the limit, or damaged.
            OSError: If the disk fails, which says nothing about the file.
        """
        ...


class FolderTree:
    """A folder of this machine, whose owner is trusted; links are followed.

    A file that can't be read is a property of the folder, to be told like any other.
    """

    sha256 = ""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        """List the folder once; `name` is what findings call it, by default the folder's name."""
        self.name = name or folder.resolve().name
        self._folder = folder
        unlisted: list[OSError] = []
        found = [name for name in _walk(folder, unlisted.append) if not is_junk(name)]
        self.names = tuple(sorted(name for name in found if _is_text(name)))
        self.findings: tuple[DatasetFinding, ...] = tuple(
            DatasetFinding.error(self.name, f"a folder can't be listed ({error}): check its rights")
            for error in unlisted
        )
        if len(self.names) < len(found):
            message = (
                f"{len(found) - len(self.names)} file names are not UTF-8 text: use plain letters"
            )
            self.findings += (DatasetFinding.error(self.name, message),)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `Tree.read`."""
        path = self._folder / name
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise TreeError("is a device or pipe, not a file: put the file itself there")
            with path.open("rb") as file:
                data = file.read(limit_bytes + 1)
        except OSError as error:
            raise TreeError(
                f"can't be read ({error.strerror}): check its rights, or where it links to"
            ) from error
        if len(data) > limit_bytes:
            raise TreeError(too_large(limit_bytes))
        return data


class NoTree:
    """A dataset that is not there yet: no files."""

    name = "dataset"
    sha256 = ""
    findings: tuple[DatasetFinding, ...] = ()
    names: tuple[str, ...] = ()

    def read(self, name: str, limit_bytes: int) -> bytes:  # noqa: ARG002 - as the protocol has it
        """See `Tree.read`; there is nothing to read."""
        raise TreeError(f"there is no file {name}")


def is_junk(name: str) -> bool:
    """Return whether a file is one that operating systems create on their own."""
    *folders, file = PurePosixPath(name.lower()).parts or ("",)
    return (
        file in _JUNK_NAMES
        or file.startswith("._")
        or any(folder in _JUNK_FOLDERS for folder in folders)
    )


def too_large(limit_bytes: int) -> str:
    """Return the reason for a file above its limit."""
    return (
        f"larger than {limit_bytes / 1e6:.3g} MB unpacked, which no file of this kind is: export again, "
        "or raise the limit in the settings"
    )


def _is_text(name: str) -> bool:
    """Return whether a file name is UTF-8; other bytes stand in it as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _walk(folder: Path, unlisted: Callable[[OSError], None]) -> Iterator[str]:
    """Yield the names of the files below a folder; a link that leads back into a folder above ends there."""
    seen = set()
    for where, folders, files in os.walk(folder, onerror=unlisted, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        below = Path(where).relative_to(folder)
        yield from ((below / file).as_posix() for file in files)
