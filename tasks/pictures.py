"""Labelled pictures of a dataset, brought to this machine: only those not here yet, each checked."""

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import as_completed
from pathlib import Path, PurePosixPath
from typing import Final

from pollen.dataset.manifest import ManifestImage
from pollen.model_card import sha256_of
from pollen.training.folder import LabelledFile
from tasks.faults import NotFoundError, PollenError
from tasks.folders import FolderStore
from tasks.registry import cache_folder
from tasks.stage import Pool, healing, stage
from tasks.storage import Location, Store, open_store

#: Pictures fetched at once: waiting for a bucket costs more than reading from it.
THREADS: Final = 16


@stage("fetch {name}")
def fetch_pictures(
    name: str,  # noqa: ARG001  (shown in the Prefect UI)
    images: Sequence[ManifestImage],
    dataset: Location,
) -> list[LabelledFile]:
    """Bring pictures and labels here, in the order given.

    Raises:
        PollenError: One is missing, or is not what the manifest says: training on it would not be
            the training the manifest stands for.
    """
    store = open_store(dataset)
    with Pool(THREADS, thread_name_prefix="fetch") as pool:
        futures = [pool.submit(_fetched, store, image) for image in images]
        try:
            for future in as_completed(futures):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return [future.result() for future in futures]


def _fetched(store: Store, image: ManifestImage) -> LabelledFile:
    label = _label(store, image)
    if hashlib.sha256(label).hexdigest() != image.label_sha256:
        raise _altered(store, image.label_key)
    size_px = (image.width_px, image.height_px)
    return LabelledFile(image.name, _picture(store, image), label.decode("utf-8"), size_px)


def _label(store: Store, image: ManifestImage) -> bytes:
    """A label's bytes; curated pictures without grains may come without the file."""
    try:
        return healing(store.read)(image.label_key)
    except NotFoundError:
        if image.grains.total == 0:
            return b""
        raise


def _picture(store: Store, image: ManifestImage) -> Path:
    """A picture's file: its own in a folder, a copy kept by its hash from a bucket."""
    suffix = PurePosixPath(image.key).suffix.lower()
    kept = cache_folder() / "pictures" / image.sha256[:2] / f"{image.sha256}{suffix}"
    if kept.is_file() and sha256_of(kept) == image.sha256:
        return kept
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
            fetched = healing(store.fetch)(image.key, Path(scratch))
            if sha256_of(fetched) != image.sha256:
                raise _altered(store, image.key)
            if isinstance(store, FolderStore):
                return fetched
            copy = Path(shutil.move(fetched, Path(scratch) / "picture"))
            copy.replace(kept)
    except NotFoundError as error:
        raise PollenError(
            f"{store.address}/{image.key} is named by the dataset's manifest but is not there: put it back, "
            "or train on a newer version of the dataset"
        ) from error
    except OSError as error:
        raise PollenError(
            f"pictures can't be kept in {kept.parent} ({error}): set POLLEN_CACHE_DIR to a folder with room "
            "that can be written"
        ) from error
    return kept


def _altered(store: Store, key: str) -> PollenError:
    return PollenError(
        f"{store.address}/{key} is not the file of the dataset's manifest: it was changed after the version was "
        "made. Put the old one back, or train again: the next version takes the change in"
    )
