"""Pictures without grains for the train split: debris from the bucket on the dataset's own backgrounds."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from pollen.arrays import Pixels
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.labelled import LabelledPicture
from pollen.errors import PollenError
from pollen.frames import is_picture
from pollen.models.card import sha256_of
from pollen.training.collage import Outline
from pollen.training.examples import outlines_of
from pollen.training.negatives import (
    Background,
    DebrisPicture,
    DebrisStock,
    gather_debris,
    make_negatives,
    read_debris,
)
from pollen.training.settings import TrainSettings
from tasks.stage import logger, stage
from tasks.storage.store import Location, open_store


@dataclass(frozen=True)
class DebrisFile:
    """A picture of debris on this machine."""

    name: str
    path: Path
    sha256: str


@stage("fetch pictures of debris")
def fetch_debris(debris: Location | None, folder: Path) -> list[DebrisFile]:
    """Fetch the pictures of debris, by name.

    Raises:
        PollenError: If the store fails, or the disk is full.
    """
    if debris is None:
        return []
    store = open_store(debris)
    folder.mkdir(parents=True, exist_ok=True)
    keys = sorted(entry.key for entry in store.list() if is_picture(entry.key))
    found = []
    try:
        for key in keys:
            path = store.fetch(key, folder)
            found.append(DebrisFile(key, path, sha256_of(path)))
    except OSError as error:
        raise PollenError(
            f"pictures of debris can't be kept in {folder} ({error}): make room on this disk, or set TMPDIR"
        ) from error
    return found


def digest(debris: Sequence[DebrisFile]) -> str:
    """Return a hash of a set of pictures that does not depend on their names."""
    return hashlib.sha256("".join(sorted({one.sha256 for one in debris})).encode()).hexdigest()


@stage("make negatives")
def make_negative_files(
    debris: Sequence[DebrisFile],
    training: Sequence[LabelledPicture],
    settings: TrainSettings,
    folder: Path,
) -> list[LabelledPicture]:
    """Make pictures of debris without any grain; as many as the settings ask for.

    Raises:
        PollenError: If a training picture can't be read, no background was found, or the disk is full.
    """
    count = round(settings.negatives * len(training))
    if not count:
        return []
    backgrounds = [
        Background(file.name, _fingerprint(file), partial(_loaded, file)) for file in training
    ]
    findings: list[DatasetFinding] = []
    try:
        stock = gather_debris(_pictures(debris, findings), backgrounds, "the pictures of debris")
        for found in (*findings, *stock.findings):
            logger().warning("%s", found)
        return _written(stock, backgrounds, count, settings, folder)
    except OSError as error:
        raise PollenError(
            f"pictures of debris can't be written to {folder} ({error}): make room on this disk, or set TMPDIR"
        ) from error


def _written(
    stock: DebrisStock,
    backgrounds: Sequence[Background],
    count: int,
    settings: TrainSettings,
    folder: Path,
) -> list[LabelledPicture]:
    folder.mkdir(parents=True, exist_ok=True)
    side_px = round(settings.image_px / settings.working_scale)
    files = []
    for negative in make_negatives(stock, backgrounds, count, seed=settings.seed, side_px=side_px):
        path = folder / negative.name
        Image.fromarray(negative.pixels).save(path, compress_level=1)
        height, width = negative.pixels.shape[:2]
        # Pieces are named by it: no picture of a dataset has such a name.
        files.append(LabelledPicture(f"@{negative.name}", path, "", (width, height)))
    return files


def _pictures(
    debris: Sequence[DebrisFile], findings: list[DatasetFinding]
) -> Iterator[DebrisPicture]:
    for one in debris:
        pictures, faults = read_debris(one.path, one.name)
        findings += faults
        yield from pictures


def _fingerprint(file: LabelledPicture) -> str:
    return hashlib.sha256(f"{sha256_of(file.path)} {file.label}".encode()).hexdigest()


def _loaded(file: LabelledPicture) -> tuple[Pixels, Sequence[Outline]]:
    known, unsure = outlines_of(file.grains, file.size_px)
    return file.pixels(), [*known, *unsure]
