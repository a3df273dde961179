"""Labelled pictures to judge a model by: what is labelled is held, pixels are read when needed."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from pollen.arrays import FloatArray
from pollen.dataset.families import one_spelling
from pollen.dataset.findings import has_error
from pollen.dataset.labels import LABEL_NAMES, LabelledGrain, read_labels
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.frames import FrameError, is_picture, open_frames
from pollen.statistics.samples import sample_of


@dataclass(frozen=True)
class Origin:
    """Where a picture comes from.

    Attributes:
        group: What shares stain and light, and the unit by which data are split: the plant.
        slide: Its slide; a group has one or several.
        plant_known: Whether the name tells the plant; if not, the picture is a group of its own, and others of
            its plant may be in any split.
    """

    group: str
    slide: str
    plant_known: bool = True


@dataclass(frozen=True)
class LabelledPicture:
    """A picture and its labels.

    Attributes:
        name: File name.
        path: Where it lies.
        origin: Its plant and slide.
        size_px: Width and height.
        truth: Labelled grains, in pixels, with confidence 1. Area and outline of a grain of which
            only the box is known are those of the ellipse in it and of the box.
        unsure: ``(U, 4)`` boxes xyxy, pixels, of grains whose class the labels leave open; they are
            neither right nor wrong to find.
    """

    name: str
    path: Path
    origin: Origin
    size_px: tuple[int, int]
    truth: Grains
    unsure: FloatArray

    @property
    def group(self) -> str:
        """The plant."""
        return self.origin.group

    @property
    def slide(self) -> str:
        """The slide."""
        return self.origin.slide


def origin_by_name(name: str) -> Origin:
    """Plant and slide as the file name tells, ``1-3-F_S4x`` and ``1-3-F_S4x_B``.

    A name that tells neither is an origin of its own.
    """
    sample = sample_of(name, DetectSettings.model_validate({}).sample_pattern)
    group = "_".join(part for part in (sample.plant, sample.ploidy) if part)
    return Origin(group, sample.label) if group else Origin(name, name, plant_known=False)


def read_pictures(
    split: Path, origin_of: Callable[[str], Origin] = origin_by_name
) -> list[LabelledPicture]:
    """Read the labels of one split, in the order of the file names.

    Args:
        split: Folder with ``images/`` and ``labels/`` (YOLO polygons or boxes, classes in the order
            of :data:`pollen.dataset.labels.LABEL_NAMES`); no label file, or an empty one, means no grain.
        origin_of: Plant and slide of a file name.

    Raises:
        FileNotFoundError: There is no picture.
        FrameError: A picture can't be read.
        PollenError: A label is wrong, or a file holds more than one picture.
    """
    images = split / "images"
    paths = sorted(path for path in images.glob("*") if is_picture(path.name))
    if not paths:
        raise FileNotFoundError(f"{images}: expected pictures, found none")
    return with_one_spelling(
        _read_picture(path, split / "labels" / f"{path.stem}.txt", origin_of(path.name))
        for path in paths
    )


def with_one_spelling(pictures: Iterable[LabelledPicture]) -> list[LabelledPicture]:
    """The pictures with plants and slides written one way: ``1-3-f`` and ``1-3-F`` are one, as for the splits."""
    listed = list(pictures)
    groups = one_spelling(picture.group for picture in listed)
    slides = one_spelling(picture.slide for picture in listed)
    return [
        replace(
            picture,
            origin=replace(
                picture.origin, group=groups[picture.group], slide=slides[picture.slide]
            ),
        )
        for picture in listed
    ]


def _read_picture(path: Path, label: Path, origin: Origin) -> LabelledPicture:
    try:
        with open_frames(path, path.name) as file:
            frames = list(file.frames)
    except FrameError as error:
        raise error.within(str(path)) from error
    if len(frames) != 1:
        raise PollenError(
            f"{path}: expected one picture, found {len(frames)}: labels can't say to which of them they belong"
        )
    size = frames[0].width_px, frames[0].height_px
    text = label.read_text(encoding="utf-8") if label.exists() else ""
    labels = read_labels(text, dict(enumerate(LABEL_NAMES)), str(label))
    if has_error(labels.findings):
        raise PollenError("; ".join(str(finding) for finding in labels.findings))
    sure = [grain for grain in labels.grains if grain.grain_class is not None]
    unsure = [grain for grain in labels.grains if grain.grain_class is None]
    return LabelledPicture(
        name=path.name,
        path=path,
        origin=origin,
        size_px=size,
        truth=as_grains(sure, size),
        unsure=as_grains(unsure, size).boxes,
    )


def as_grains(labels: Sequence[LabelledGrain], size_px: tuple[int, int]) -> Grains:
    """Labelled grains in pixels of a picture of ``size_px`` (width, height)."""
    if not labels:
        return Grains.none()
    outlines = [(label.points * size_px).astype(np.float32) for label in labels]
    boxes = np.array([[*line.min(axis=0), *line.max(axis=0)] for line in outlines], np.float32)
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = [
        np.pi / 4 * float(side.prod()) if label.is_box else cv2.contourArea(outline)
        for label, outline, side in zip(labels, outlines, sides, strict=True)
    ]
    return Grains(
        boxes=boxes,
        confidence=np.ones(len(labels), np.float32),
        classes=np.array([label.number for label in labels], np.int64),
        areas_px=np.array(areas, np.float32),
        outlines=tuple(outlines),
    )
