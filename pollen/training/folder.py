"""The folder Ultralytics trains from: every picture cut into pieces at the working scale."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from PIL import Image

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.tiling import TileGrid
from pollen.errors import PollenError
from pollen.training.collage import Outline
from pollen.training.examples import example_of
from pollen.training.tiles import Task, cut, label_text

#: Room for grains a little larger than the largest labelled one.
LARGEST_MARGIN = 1.15
#: A picture with fewer grains has no median to speak of.
GRAINS_FOR_MEDIAN = 3


@dataclass(frozen=True)
class GrainSizes:
    """Sizes of labelled grains in picture pixels, for the scale in the model card.

    Attributes:
        median_px: Median diameter.
        low_px: 5 % of the pictures have a smaller median diameter.
        high_px: 5 % of the pictures have a larger one.
        largest_px: Largest side of a box.
    """

    median_px: float
    low_px: float
    high_px: float
    largest_px: float

    @classmethod
    def of(cls, pictures: Sequence[Sequence[Outline]]) -> "GrainSizes":
        """Measure the outlines of pictures, in their pixels.

        Low and high are those of pictures, not of grains: they tell the magnifications, as the flag
        of frames whose median is far off wants them. Pictures with few grains have no say in them,
        unless all have few.

        Raises:
            PollenError: If there is none.
        """
        outlines = [outline for one in pictures for outline in one]
        if not outlines:
            raise PollenError(
                "the train split has no labelled grain: label pictures and stage them, then train again"
            )
        diameters = [np.array([outline.diameter_px for outline in one]) for one in pictures if one]
        many = [one for one in diameters if len(one) >= GRAINS_FOR_MEDIAN] or diameters
        low, high = np.percentile([np.median(one) for one in many], [5, 95])
        sides = [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (outline.box for outline in outlines)]
        return cls(float(np.median(np.concatenate(diameters))), float(low), float(high), max(sides))

    def grid(self, tile_px: int, scale: float) -> TileGrid:
        """Return the grid by which pictures are cut, now and in detection.

        Raises:
            ScaleError: If the largest grain does not fit the model's window.
        """
        return TileGrid(tile_px, scale, LARGEST_MARGIN * self.largest_px)


def largest_label(pictures: Iterable[LabelledPicture]) -> str:
    """Name the largest labelled grain of pictures that have any, with the file and line of its label.

    Raises:
        PollenError: If a label can't be used.
    """
    found = (
        (float(np.ptp(grain.points * picture.size_px, axis=0).max()), picture.name, line)
        for picture in pictures
        for grain, line in zip(picture.grains, picture.lines, strict=True)
        if grain.grain_class is not None
    )
    side_px, name, line = max(found)
    return f"the largest labelled grain ({side_px:.0f} px, in {name}, line {line} of its label)"


def write_split(
    pictures: Iterable[LabelledPicture],
    split: Literal["train", "val"],
    folder: Path,
    grid: TileGrid,
    task: Task,
) -> int:
    """Write the tiles of pictures, and return their number.

    Raises:
        FrameError: If a picture can't be read.
        PollenError: If a label can't be used.
        OSError: If the disk is full.
    """
    images, labels = folder / "images" / split, folder / "labels" / split
    for place in (images, labels):
        place.mkdir(parents=True, exist_ok=True)
    written = 0
    for picture in pictures:
        for number, tile in enumerate(cut(example_of(picture), grid)):
            stem = f"{Path(picture.name).stem}@{number:03d}"
            # Level 1: three times faster, a tenth larger, and read once.
            Image.fromarray(tile.pixels).save(images / f"{stem}.png", compress_level=1)
            (labels / f"{stem}.txt").write_text(label_text(tile, task), encoding="utf-8")
            written += 1
    return written


def write_description(folder: Path) -> Path:
    """Write `data.yaml`, which tells Ultralytics where pieces are and what classes mean."""
    path = folder / "data.yaml"
    names = {int(item): item.label for item in GrainClass}
    said = {"path": str(folder), "train": "images/train", "val": "images/val", "names": names}
    path.write_text(yaml.safe_dump(said), encoding="utf-8")
    return path
