"""Records in the store: the source of all tables. Written last, never changed, only merged.

The folder of one model and one set of settings contains `grains/<name>.parquet` and
`images/<name>.parquet`. Grains are written first: the image record is the commit.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from pollen.columns import GRAIN_RECORD, IMAGE_RECORD
from pollen.layout import RECORDS
from pollen.results.records import empty_records
from pollen.results.tables import write_measurements
from tasks.faults import NotFoundError, StorageError
from tasks.stage import Pool, logger
from tasks.storage.objects import StoredObject
from tasks.storage.scratch import scratch_folder
from tasks.storage.store import Store

R = TypeVar("R")

IMAGES = "images/"
GRAINS = "grains/"
#: From this many files on, small ones are merged: the cost of planning grows with files, not pictures.
MERGE_FROM_FILES = 24
#: Files up to this size are merged, into files of at most about `MERGED_BYTES`.
SMALL_BYTES = 8 * 1024 * 1024
MERGED_BYTES = 128 * 1024 * 1024
READ_THREADS = 8
#: Another run may merge files while they are read; then the folder is listed again.
LISTING_TRIES = 5


def write_records(
    store: Store, folder: str, batch: str, images: pl.DataFrame, grains: pl.DataFrame
) -> None:
    """Commit a batch: first the grains, then the image rows, which make them valid."""
    store.write(f"{folder}{GRAINS}{batch}.parquet", _parquet(grains.cast(GRAIN_RECORD)))
    store.write(f"{folder}{IMAGES}{batch}.parquet", _parquet(images.cast(IMAGE_RECORD)))


def read_image_records(store: Store, folder: str) -> pl.DataFrame:
    """Return all image records below a folder, in key order of their files.

    Raises:
        StorageError: If the folder changes faster than it can be read (heals), or a file is damaged.
    """

    def read(files: list[tuple[str, Path]]) -> pl.DataFrame:
        # Records of an earlier version lack the newer columns.
        parts = (_read(path, key) for key, path in files)
        return pl.concat([empty_records(), *parts], how="diagonal")

    return with_records(store, [folder + IMAGES], read)


def read_earlier_records(store: Store, folder: str, without: pl.Series) -> pl.DataFrame:
    """Return the image records of other models and settings than `folder`'s, the latest first.

    Of each file, only the rows of other pictures than `without` are kept. A damaged file is skipped
    with a warning: its pictures were deleted and can't be counted again.

    Args:
        store: The store with the records.
        folder: The records of the run's model and settings.
        without: Keys of the pictures whose records are not needed.

    Returns:
        Rows of `IMAGE_RECORD` with the column `folder`, which contains them.

    Raises:
        StorageError: If a folder changes faster than it can be read (heals).
    """
    known = without.unique().rename("key").to_frame()
    below = {
        entry.key.removeprefix(RECORDS).split("/")[0] for entry in _record_files(store, RECORDS)
    }
    parts = [empty_records().with_columns(folder=pl.lit(""))]
    for other in sorted({f"{RECORDS}{name}/" for name in below} - {folder}):

        def read(files: list[tuple[str, Path]]) -> list[pl.DataFrame]:
            found = (_read_if_sound(path, key) for key, path in files)
            return [rows.join(known, on="key", how="anti") for rows in found]

        rows = with_records(store, [other + IMAGES], read)
        parts += (part.with_columns(folder=pl.lit(other)) for part in rows)
    everything = pl.concat(parts, how="diagonal")
    return everything.sort(
        "committed_ms", "folder", "batch", "filename", descending=[True, False, False, False]
    )


def _read_if_sound(path: Path, key: str) -> pl.DataFrame:
    try:
        return _read(path, key)
    except NotFoundError:
        raise
    except StorageError as error:
        logger().warning("%s", error)
        return empty_records()


def write_grain_table(
    store: Store, folders: Sequence[str], chosen: pl.DataFrame, target: Path
) -> None:
    """Write `particle_measurements.csv` from all grain records below some folders.

    Args:
        store: The store with the records.
        folders: The folders of the models and settings that `chosen` was counted with.
        chosen: The image records that count.
        target: The file to write.

    Raises:
        StorageError: If the folder changes faster than it can be read (heals), or a file is damaged.
    """
    places = [folder + GRAINS for folder in folders]

    def write(files: list[tuple[str, Path]]) -> None:
        write_measurements([path for _, path in files], chosen, target)

    try:
        with_records(store, places, write)
    except pl.exceptions.PolarsError as error:
        raise StorageError(
            f"a record file in {store.address}/{' or '.join(places)} is damaged ({error}): delete "
            f"{' or '.join(folders)} (the one that holds it), and the next run counts its pictures again"
        ) from error


def with_records(
    store: Store, folders: Sequence[str], use: Callable[[list[tuple[str, Path]]], R]
) -> R:
    """Fetch all record files below folders and call `use` with their keys and paths, in key order.

    Another run may merge files meanwhile; then the folders are listed again and `use` is called again.

    Raises:
        StorageError: If the folder changes faster than it can be read (heals).
    """
    for _ in range(LISTING_TRIES):
        listed = (entry for folder in folders for entry in _record_files(store, folder))
        entries = sorted(listed, key=lambda entry: entry.key)
        with scratch_folder("records") as scratch:
            try:
                with Pool(READ_THREADS) as pool:
                    fetches = [
                        pool.submit(store.fetch, each.key, Path(scratch)) for each in entries
                    ]
                paths = [fetch.result() for fetch in fetches]
                return use([(entry.key, path) for entry, path in zip(entries, paths, strict=True)])
            except (NotFoundError, FileNotFoundError):
                continue
    raise StorageError(
        f"the records in {store.address}/{' or '.join(folders)} change faster than they can be read: "
        "wait until other runs end",
        heals=True,
    )


def compact(store: Store, folder: str) -> int:
    """Merge small record files if there are many; return how many files were removed.

    The merged file is written whole before its parts are deleted. A crash in between leaves
    rows twice, and tables take each row once.
    """
    merged = 0
    for kind in (IMAGES, GRAINS):
        small = [
            entry for entry in _record_files(store, folder + kind) if entry.size <= SMALL_BYTES
        ]
        if len(small) >= MERGE_FROM_FILES:
            for group in _groups(sorted(small, key=lambda entry: entry.key)):
                merged += _merge(store, folder + kind, group)
    return merged


def _record_files(store: Store, folder: str) -> list[StoredObject]:
    return [entry for entry in store.list(folder) if entry.key.endswith(".parquet")]


def _groups(entries: list[StoredObject]) -> list[list[StoredObject]]:
    """Divide entries, in their order, into groups of at most `MERGED_BYTES`."""
    groups: list[list[StoredObject]] = [[]]
    size = 0
    for entry in entries:
        if size + entry.size > MERGED_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(entry)
        size += entry.size
    return [group for group in groups if len(group) > 1]


def _merge(store: Store, folder: str, entries: list[StoredObject]) -> int:
    """Write one file with the rows of `entries` in their order, then delete those."""
    with scratch_folder("merge") as scratch:
        try:
            paths = [store.fetch(entry.key, Path(scratch)) for entry in entries]
            parts = [_read(path, entry.key) for path, entry in zip(paths, entries, strict=True)]
        except NotFoundError:  # another run merges them
            return 0
    data = _parquet(pl.concat(parts, how="diagonal"))
    merged = f"{folder}merged-{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    store.write(merged, data)
    # Files without rows can merge into a file of the same name as one of them: keep that one.
    store.delete(entry.key for entry in entries if entry.key != merged)
    return len(entries) - 1


def _merged_meanwhile(key: str) -> NotFoundError:
    return NotFoundError(f"{key} was merged by another run while it was read", heals=True)


def _parquet(rows: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


def _read(path: Path, key: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except FileNotFoundError as error:  # in a folder of this machine files are read in place
        raise _merged_meanwhile(key) from error
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StorageError(
            f"the record file {key} is damaged ({error}): delete it, and the next run counts its pictures again"
        ) from error
