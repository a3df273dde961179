"""Read labelled pictures for training: pixels, outlines and the plant each comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.dataset.findings import has_error
from pollen.dataset.labels import LABEL_NAMES, read_labels
from pollen.evaluation.pictures import origin_by_name
from pollen.training.collage import Outline
from pollen.training.folder import LabelledFile, outlines_of
from pollen.training.tiles import cover
from pollen.training.ultralytics_run import TrainingError

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class LabelledPicture:
    """A picture with its labels.

    Attributes:
        name: File name.
        plant: Plant and ploidy from the file name, the unit by which data are split.
        pixels: ``(H, W, 3)`` RGB.
        outlines: The labelled grains, in pixels.
    """

    name: str
    plant: str
    pixels: Pixels
    outlines: tuple[Outline, ...]


def picture_of(file: LabelledFile) -> LabelledPicture:
    """A picture of a dataset; grains of unsure class are covered with background.

    Raises:
        FrameError: The picture can't be read.
        TrainingError: Its label can't be used.
    """
    known, unsure = outlines_of(file.grains, file.size_px)
    pixels = cover(file.pixels(), unsure, known)
    return LabelledPicture(file.name, origin_by_name(file.name).group, pixels, tuple(known))


def read_outlines(path: Path, width: int, height: int) -> tuple[Outline, ...]:
    """Read YOLO polygons (``class x1 y1 x2 y2 ...``, 0..1); a missing file means no grain.

    Raises:
        TrainingError: A line is no polygon of a viable or non-viable grain: grains are cut out along
            their outlines here.
    """
    if not path.exists():
        return ()
    labels = read_labels(path.read_text(encoding="utf-8"), dict(enumerate(LABEL_NAMES)), str(path))
    if has_error(labels.findings):
        raise TrainingError("; ".join(str(finding) for finding in labels.findings))
    for line, grain in zip(labels.lines, labels.grains, strict=True):
        if grain.is_box or grain.grain_class is None:
            raise TrainingError(
                f"{path}, line {line}: expected the outline of a viable or non-viable grain, got a box or one of "
                "unsure class"
            )
    size = np.array([width, height], np.float32)
    return tuple(
        Outline(grain.number, grain.points.astype(np.float32) * size) for grain in labels.grains
    )


def read_split(root: Path) -> list[LabelledPicture]:
    """Read every picture of one split (``images/`` and ``labels/`` below ``root``), by name.

    Raises:
        FileNotFoundError: There is no picture.
        TrainingError: A picture can't be read, or a label line is wrong.
    """
    paths = sorted(p for p in (root / "images").glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{root / 'images'}: expected .jpg or .png pictures, found none")
    pictures = []
    for path in paths:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise TrainingError(f"{path}: can't be read as a picture; replace or remove it")
        height, width = pixels.shape[:2]
        outlines = read_outlines(root / "labels" / f"{path.stem}.txt", width, height)
        picture = np.ascontiguousarray(pixels, dtype=np.uint8)
        plant = origin_by_name(path.name).group
        pictures.append(LabelledPicture(path.name, plant, picture, outlines))
    return pictures
