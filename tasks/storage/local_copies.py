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
from tasks.storage.folders import FolderStore
from tasks.storage.objects import StoredObject
from tasks.storage.store import Store

#: Objects fetched at once: waiting for a bucket takes longer than reading from it.
THREADS: Final = 16


def cache_folder() -> Path:
    """Return the folder that is kept between runs: `POLLEN_CACHE_DIR`, or the user's cache folder."""
    return Path(os.environ.get("POLLEN_CACHE_DIR") or user_cache_path("pollen"))


def local_files(store: Store, objects: Sequence[StoredObject]) -> list[Path]:
    """Return a file for each object: its own in a folder, else a copy kept by key and version.

    Raises:
        PollenError: If the store fails, or the copies can't be kept.
    """
    if isinstance(store, FolderStore):
        return [store.fetch(item.key, store.root) for item in objects]
    with Pool(THREADS, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(_local_copy, store, item) for item in objects]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


def objects_folder() -> Path:
    """Return the folder that keeps copies of objects."""
    return cache_folder() / "objects"


def _local_copy(store: Store, item: StoredObject) -> Path:
    place = hashlib.sha256(f"{store.address}\n{item.key}\n{item.version}".encode()).hexdigest()
    suffix = PurePosixPath(item.key).suffix.lower()
    kept = objects_folder() / place[:2] / f"{place}{suffix}"
    if kept.is_file() and kept.stat().st_size == item.size:
        with suppress(OSError):  # a folder shared by people may allow its owner only
            os.utime(kept)  # used today: see tasks/training/tidying.py
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
            fetched = healing(store.fetch)(item.key, Path(scratch))
            if fetched.stat().st_size != item.size:
                raise PollenError(
                    f"{store.address}/{item.key} was replaced while it was read", heals=True
                )
            with fetched.open("rb") as file:  # later only its size is checked
                os.fsync(file.fileno())
            fetched.replace(kept)
    except OSError as error:
        raise PollenError(
            f"{store.address}/{item.key} can't be kept in {kept.parent} ({error}): set POLLEN_CACHE_DIR to a folder "
            "with room that can be written"
        ) from error
    return kept


class StoreTree:
    """Some objects of a store as `pollen.dataset.exports.trees.Tree`."""

    sha256 = ""
    findings: tuple[DatasetFinding, ...] = ()

    def __init__(self, name: str, store: Store, objects: Iterable[StoredObject]) -> None:
        """Fetch the objects that are not on this machine yet.

        Args:
            name: Its name in findings.
            store: The store with the objects.
            objects: The objects.

        Raises:
            PollenError: If the store fails.
        """
        self.name = name
        listed = sorted(objects, key=lambda item: item.key)
        files = local_files(store, listed)
        self._files = {item.key: path for item, path in zip(listed, files, strict=True)}
        self.names = tuple(self._files)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `pollen.dataset.exports.trees.Tree.read`."""
        path = self._files[name]
        if path.stat().st_size > limit_bytes:
            raise TreeError(too_large(limit_bytes))
        return path.read_bytes()
