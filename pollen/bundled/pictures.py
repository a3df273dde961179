"""Read labelled pictures: pixels, outlines and the plant each comes from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from pollen.collage import Outline, Pixels

PICTURE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
PLANT_PATTERN: Final = re.compile(r"(?:neg_syn_)?(?P<plant>\d+-\d+-[A-Z0-9]+)_(?P<ploidy>S?[24]x)")
"""``1-3-F_S4x_B...``: plant, ploidy, replicate."""


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


def plant_of(name: str) -> str:
    """Plant and ploidy in a file name; the name itself where it carries none."""
    match = PLANT_PATTERN.match(name)
    return f"{match['plant']}_{match['ploidy']}" if match else name


def read_outlines(path: Path, width: int, height: int) -> tuple[Outline, ...]:
    """Read YOLO polygons (``class x1 y1 x2 y2 ...``, 0..1); a missing file means no grain.

    Raises:
        ValueError: A line is no polygon of class 0 or 1.
    """
    if not path.exists():
        return ()
    outlines = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 7 or len(fields) % 2 == 0 or fields[0] not in {"0", "1"}:
            raise ValueError(
                f"{path}, line {number}: expected 'class x1 y1 x2 y2 x3 y3 ...' with class 0 "
                f"(viable) or 1 (non_viable), got {line[:60]!r}"
            )
        points = np.array(fields[1:], np.float32).reshape(-1, 2)
        points *= np.array([width, height], np.float32)
        outlines.append(Outline(int(fields[0]), points))
    return tuple(outlines)


def read_split(root: Path) -> list[LabelledPicture]:
    """Read every picture of one split (``images/`` and ``labels/`` below ``root``), by name.

    Raises:
        FileNotFoundError: There is no picture.
        ValueError: A picture can't be read, or a label line is wrong.
    """
    paths = sorted(p for p in (root / "images").glob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"{root / 'images'}: expected .jpg or .png pictures, found none")
    pictures = []
    for path in paths:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError(f"{path}: can't be read as a picture; replace or remove it")
        height, width = pixels.shape[:2]
        outlines = read_outlines(root / "labels" / f"{path.stem}.txt", width, height)
        picture = np.ascontiguousarray(pixels, dtype=np.uint8)
        pictures.append(LabelledPicture(path.name, plant_of(path.name), picture, outlines))
    return pictures
