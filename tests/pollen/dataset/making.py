"""Small pictures, exports in the form of each labelling tool, and zips, also hostile ones."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.dataset.exports.reading import Export, read_export
from pollen.dataset.exports.trees import TreeError, too_large
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.settings import DatasetSettings

SETTINGS: Final = DatasetSettings()
NAMES: Final = "names: [viable, non_viable]\n"
VIABLE: Final = "0 0.2 0.2 0.4 0.2 0.4 0.4\n"
NON_VIABLE: Final = "1 0.6 0.6 0.8 0.6 0.8 0.8\n"


@cache
def pixels(seed: int, side: int = 64) -> Pixels:
    """A picture with some dark discs; another seed gives another picture."""
    rng = np.random.default_rng(seed)
    canvas = np.full((side, side, 3), 205, np.uint8)
    for _ in range(5):
        x, y = (int(place) for place in rng.integers(0, side, 2))
        colour = [int(value) for value in rng.integers(30, 160, 3)]
        cv2.circle(canvas, (x, y), side // 8, colour, -1)
    noise = rng.normal(0, 2, canvas.shape)
    return np.clip(canvas + noise, 0, 255).astype(np.uint8)


def encoded(picture: Pixels, suffix: str = ".png") -> bytes:
    """A picture as file."""
    bgr = np.ascontiguousarray(picture[..., ::-1])
    return bytes(cv2.imencode(suffix, bgr)[1])


@cache
def picture(seed: int, suffix: str = ".png") -> bytes:
    """A small picture file."""
    return encoded(pixels(seed), suffix)


@dataclass
class MemoryTree:
    """An export in memory."""

    name: str
    files: Mapping[str, bytes]
    findings: tuple[DatasetFinding, ...] = ()

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(zipped(self.files)).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.files))

    def read(self, name: str, limit_bytes: int) -> bytes:
        if len(self.files[name]) > limit_bytes:
            raise TreeError(too_large(limit_bytes))
        return self.files[name]


def roboflow(
    pictures: Mapping[str, bytes], labels: Mapping[str, str] | None = None, names: str = NAMES
) -> dict[str, bytes]:
    """Files of a Roboflow export, everything in ``train``.

    ``labels`` is by picture; by default each has one viable grain.
    """
    texts = dict.fromkeys(pictures, VIABLE) if labels is None else labels
    files = {f"train/images/{name}": data for name, data in pictures.items()}
    files |= {f"train/labels/{Path(name).stem}.txt": text.encode() for name, text in texts.items()}
    return files | {"data.yaml": names.encode(), "README.roboflow.txt": b"exported"}


def read(files: Mapping[str, bytes], name: str = "a.zip", **settings: object) -> Export:
    """Read files as an export."""
    wanted = DatasetSettings.model_validate(settings)
    return read_export(MemoryTree(name, files), wanted)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            # No clock time: equal files make equal zips.
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
