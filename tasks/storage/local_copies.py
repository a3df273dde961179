"""Objects of a store as files of this machine: fetched once, several at a time."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Final

from platformdirs import user_cache_path

from pollen.dataset.exports.trees import TreeError, too_large
from pollen.dataset.findings import DatasetFinding
from pollen.errors import PollenError
from tasks.stage import Pool, healing
from tasks.storage.entries import Entry
from tasks.storage.folders import FolderStore
from tasks.storage.store import Store

#: Objects fetched at once: waiting for a bucket takes longer than reading from it.
THREADS: Final = 16


def cache_folder() -> Path:
    """Return the folder that is kept between runs: `POLLEN_CACHE_DIR`, or the user's cache folder."""
    return Path(os.environ.get("POLLEN_CACHE_DIR") or user_cache_path("pollen"))


def local_files(store: Store, entries: Sequence[Entry]) -> list[Path]:
    """A file for each entry: its own in a folder, else a copy kept by key and version.

    Raises:
        PollenError: The store fails, or the copies can't be kept.
    """
    if isinstance(store, FolderStore):
        return [store.fetch(entry.key, store.root) for entry in entries]
    with Pool(THREADS, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(_local_copy, store, entry) for entry in entries]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def objects_folder() -> Path:
    """Where copies of objects are kept."""
    return cache_folder() / "objects"


def _local_copy(store: Store, entry: Entry) -> Path:
    place = hashlib.sha256(f"{store.address}\n{entry.key}\n{entry.version}".encode()).hexdigest()
    suffix = PurePosixPath(entry.key).suffix.lower()
    kept = objects_folder() / place[:2] / f"{place}{suffix}"
    if kept.is_file() and kept.stat().st_size == entry.size:
        with suppress(OSError):  # a folder shared by people may allow its owner only
            os.utime(kept)  # used today: see tasks/training/tidying.py
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
            fetched = healing(store.fetch)(entry.key, Path(scratch))
            if fetched.stat().st_size != entry.size:
                raise PollenError(
                    f"{store.address}/{entry.key} was replaced while it was read", heals=True
                )
            with fetched.open("rb") as file:  # its size is all that is looked at later
                os.fsync(file.fileno())
            fetched.replace(kept)
    except OSError as error:
        raise PollenError(
            f"{store.address}/{entry.key} can't be kept in {kept.parent} ({error}): set POLLEN_CACHE_DIR to a folder "
            "with room that can be written"
        ) from error
    return kept


class StoreTree:
    """Some objects of a store as :class:`pollen.dataset.exports.trees.Tree`."""

    sha256 = ""
    findings: tuple[DatasetFinding, ...] = ()

    def __init__(self, name: str, store: Store, entries: Iterable[Entry]) -> None:
        """Fetch what is not here yet.

        Args:
            name: What findings call it.
            store: Where the objects are.
            entries: The objects.

        Raises:
            PollenError: The store fails.
        """
        self.name = name
        listed = sorted(entries, key=lambda entry: entry.key)
        files = local_files(store, listed)
        self._files = {entry.key: path for entry, path in zip(listed, files, strict=True)}
        self.names = tuple(self._files)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See :meth:`pollen.dataset.exports.trees.Tree.read`."""
        path = self._files[name]
        if path.stat().st_size > limit_bytes:
            raise TreeError(too_large(limit_bytes))
        return path.read_bytes()
