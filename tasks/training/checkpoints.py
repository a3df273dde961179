"""Checkpoints of a training in a store, so that it goes on wherever it is started again.

A checkpoint is three files, stored by their hash, and a record that names them and is written last.
Whatever a killed run leaves half written has no record and is never looked at.
"""

import re
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pollen.errors import PollenError
from pollen.layout import checkpoints_folder
from pollen.models.card import sha256_of
from pollen.training.ultralytics_run import Checkpoint
from tasks.faults import NotFoundError, StorageError
from tasks.stage import Pool, healing, logger
from tasks.storage.store import Store

#: Checkpoints kept: the newest, and the one before, should the newest be damaged.
KEPT: Final = 2
_RECORD = re.compile(r"epoch-(\d{6})\.json")


#: A SHA-256, hexadecimal: it is part of a key.
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CheckpointRecord(BaseModel):
    """The record of a complete checkpoint: the hashes of its files."""

    model_config = ConfigDict(frozen=True)

    epoch: int
    ended: bool
    last: Hash
    best: Hash
    results: Hash

    @property
    def hashes(self) -> set[str]:
        """SHA-256 of all files."""
        return {self.last, self.best, self.results}


class Checkpoints:
    """The checkpoints of one training.

    One is written in the background while the next epoch runs, and the next waits for it: a kill
    costs the epoch under way and the one whose checkpoint is being written.
    """

    def __init__(self, store: Store, training_id: str, scratch: Path, every_minutes: float) -> None:
        self._store = store
        self._folder = checkpoints_folder(training_id)
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)
        self._every_seconds = 60 * every_minutes
        self._written = float("-inf")
        self._pool = Pool(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._broken: set[str] = set()
        self._suspect: set[str] = set()  # files that are written anew even where they exist

    def newest(self) -> Checkpoint | None:
        """Fetch the newest complete checkpoint to this machine; None if there is none.

        Newer ones that are not whole are deleted behind the next one that is written: by their
        number they would count as the newest, and be kept in its place.
        """
        for key in reversed(self._records()):
            try:
                record = CheckpointRecord.model_validate_json(self._store.read(key))
                return Checkpoint(
                    epoch=record.epoch,
                    ended=record.ended,
                    last=self._fetched(record.last, "last.pt"),
                    best=self._fetched(record.best, "best.pt"),
                    results=self._fetched(record.results, "results.csv"),
                )
            except (NotFoundError, ValidationError, _DamagedError) as error:
                logger().warning(
                    "checkpoint %s is incomplete or damaged (%s): an earlier one is used",
                    key,
                    error,
                )
                self._broken.add(key)
                self._suspect |= self._hashes(key)
        return None

    def _records(self) -> list[str]:
        keys = (entry.key for entry in self._store.list(self._folder))
        return sorted(key for key in keys if _RECORD.fullmatch(key.rpartition("/")[2]))

    def _fetched(self, sha256: str, name: str) -> Path:
        """Fetch a file of a checkpoint; its hash must match."""
        fetched = self._store.fetch(self._key(sha256), self._scratch)
        if sha256_of(fetched) != sha256:
            raise _DamagedError(f"{name} is not the file that was written")
        path = self._scratch / "resumed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetched, path)
        return path

    def _key(self, sha256: str) -> str:
        return f"{self._folder}files/{sha256}"

    def keep(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint in the background, unless the last one is too recent.

        Raises:
            PollenError: If the one before could not be written.
        """
        if not checkpoint.ended and time.monotonic() - self._written < self._every_seconds:
            return
        self.wait()
        folder = self._scratch / f"epoch-{checkpoint.epoch:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        copies = [
            Path(shutil.copyfile(path, folder / path.name))
            for path in (checkpoint.last, checkpoint.best, checkpoint.results)
        ]
        self._written = time.monotonic()
        self._under_way = self._pool.submit(self._write, checkpoint, copies, folder)

    def wait(self) -> None:
        """Wait for the checkpoint that is being written.

        A store that is out of reach for longer than the retries costs this checkpoint, not the
        training: the next epoch's may be written again.

        Raises:
            PollenError: If the store refuses.
        """
        under_way, self._under_way = self._under_way, None
        try:
            if under_way is not None:
                under_way.result()
        except PollenError as error:
            if not error.heals:
                raise
            logger().warning("a checkpoint could not be written: %s", error)

    def close(self) -> None:
        """Stop writing after the current checkpoint."""
        self._pool.shutdown(cancel_futures=True)

    def _write(self, checkpoint: Checkpoint, copies: list[Path], folder: Path) -> None:
        try:
            self._store_whole(checkpoint, copies)
        finally:  # an outage must not fill the disk, epoch by epoch
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self._drop_old()
        except StorageError as error:
            logger().warning("old checkpoints could not be deleted yet: %s", error)

    def _store_whole(self, checkpoint: Checkpoint, copies: list[Path]) -> None:
        """Write the files, then the record that makes them a checkpoint."""
        hashes = [sha256_of(path) for path in copies]
        for path, sha256 in zip(copies, hashes, strict=True):
            if sha256 in self._suspect or not healing(self._store.exists)(self._key(sha256)):
                healing(self._store.write_file)(self._key(sha256), path)
                self._suspect.discard(sha256)
        last, best, results = hashes
        record = CheckpointRecord(
            epoch=checkpoint.epoch, ended=checkpoint.ended, last=last, best=best, results=results
        )
        key = f"{self._folder}epoch-{checkpoint.epoch:06d}.json"
        healing(self._store.write)(key, record.model_dump_json().encode(), "application/json")
        self._broken.discard(key)

    def _drop_old(self) -> None:
        """Delete all but the newest checkpoints, and those of their files that no kept one names.

        Other files may belong to a checkpoint that another run of the same training is writing.
        """
        records = self._records()
        kept = [key for key in records if key not in self._broken][-KEPT:]
        old = [key for key in records if key not in kept]
        if not old:
            return
        needed = {sha256 for key in kept for sha256 in self._hashes(key)}
        gone = {sha256 for key in old for sha256 in self._hashes(key)} - needed
        delete_quietly(self._store, [*old, *map(self._key, sorted(gone))])

    def _hashes(self, key: str) -> set[str]:
        try:
            return CheckpointRecord.model_validate_json(self._store.read(key)).hashes
        except (NotFoundError, ValidationError):
            return set()


def drop_checkpoints(store: Store, training_id: str) -> None:
    """Delete all checkpoints of a training: it is published."""
    delete_quietly(store, (entry.key for entry in store.list(checkpoints_folder(training_id))))


def delete_quietly(store: Store, keys: Iterable[str]) -> None:
    """Delete what is no longer needed, if the store allows it."""
    try:
        store.delete(keys)
    except StorageError as error:
        logger().warning("old checkpoints can't be deleted: %s", error)


class _DamagedError(Exception):
    """A file is not what its record says."""
