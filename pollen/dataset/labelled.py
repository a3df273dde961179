"""Labelled pictures on this machine: the labels are held, pixels are read when they are asked for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from pollen.arrays import FloatArray, Pixels
from pollen.dataset.families import one_spelling
from pollen.dataset.findings import Severity
from pollen.dataset.labels import LABEL_NAMES, LabelledGrain, Labels, read_labels
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.frames import FrameError, is_picture, open_frames
from pollen.statistics.samples import sample_of


@dataclass(frozen=True)
class Origin:
    """The plant and the slide that a picture shows.

    Attributes:
        group: What shares stain and light, and the unit by which data are split: the plant.
        slide: Its slide; a group has one or several.
        plant_known: Whether the name tells the plant; if not, the picture is a group of its own, and others of
            its plant may be in any split.
    """

    group: str
    slide: str
    plant_known: bool = True


#: The origin of a picture that nobody judges a model by.
NO_ORIGIN = Origin("", "", plant_known=False)


@dataclass(frozen=True)
class LabelledPicture:
    """A picture on this machine and its label.

    Attributes:
        name: File name.
        path: The picture's file.
        label: The label's text, with class numbers as in `pollen.dataset.labels.LABEL_NAMES`; empty for a
            picture without grains.
        size_px: Width and height.
        origin: Plant and slide.
    """

    name: str
    path: Path
    label: str
    size_px: tuple[int, int]
    origin: Origin = NO_ORIGIN

    @property
    def grains(self) -> tuple[LabelledGrain, ...]:
        """The labelled grains.

        Raises:
            PollenError: If the label can't be used.
        """
        return self._labels.grains

    @property
    def lines(self) -> tuple[int, ...]:
        """The line of each grain in the label, counted from 1.

        Raises:
            PollenError: If the label can't be used.
        """
        return self._labels.lines

    @cached_property
    def _labels(self) -> Labels:
        labels = read_labels(self.label, dict(enumerate(LABEL_NAMES)), self.name)
        faults = [found for found in labels.findings if found.severity is Severity.ERROR]
        if faults:
            raise PollenError(f"a label of the dataset can't be used: {faults[0]}")
        return labels

    @cached_property
    def truth(self) -> Grains:
        """The grains of a known class in pixels, with confidence 1, as a model would report them.

        Area and outline of a grain of which only the box is known are those of the ellipse in the box and of
        the box.

        Raises:
            PollenError: If the label can't be used.
        """
        known = [grain for grain in self.grains if grain.grain_class is not None]
        return _as_grains(known, self.size_px)

    @cached_property
    def unsure(self) -> FloatArray:
        """`(U, 4)` boxes xyxy, pixels, of the grains of class `unsure`: a model may find them or not.

        Raises:
            PollenError: If the label can't be used.
        """
        unsure = [grain for grain in self.grains if grain.grain_class is None]
        return _as_grains(unsure, self.size_px).boxes

    @property
    def group(self) -> str:
        """The plant."""
        return self.origin.group

    @property
    def slide(self) -> str:
        """The slide."""
        return self.origin.slide

    def pixel_size_um(self) -> float | None:
        """Return the width of a pixel as the file states it; None if it does not.

        Raises:
            FrameError: If the picture can't be read.
        """
        with open_frames(self.path, self.name) as file:
            return file.frames[0].pixel_size_um

    def pixels(self) -> Pixels:
        """Read `(H, W, 3)` uint8 RGB of the first page, as detection reads it.

        Raises:
            FrameError: If the picture can't be read.
        """
        with open_frames(self.path, self.name) as file:
            frame = file.frames[0]
            return frame.read((0, 0, frame.width_px, frame.height_px))


def read_pictures(split: Path) -> list[LabelledPicture]:
    """Read the pictures of one split, in the order of the file names.

    Args:
        split: Folder with `images/` and `labels/` (YOLO polygons or boxes, classes in the order of
            `pollen.dataset.labels.LABEL_NAMES`); no label file, or an empty one, means no grain.

    Raises:
        FileNotFoundError: If there is no picture.
        FrameError: If a picture can't be read.
        PollenError: If a label is wrong, or a file holds more than one picture.
    """
    images = split / "images"
    paths = sorted(path for path in images.glob("*") if is_picture(path.name))
    if not paths:
        raise FileNotFoundError(f"{images}: expected pictures, found none")
    return with_one_spelling(
        _read_picture(path, split / "labels" / f"{path.stem}.txt") for path in paths
    )


def with_one_spelling(pictures: Iterable[LabelledPicture]) -> list[LabelledPicture]:
    """Return the pictures with plants and slides written one way: `1-3-f` and `1-3-F` are one, as for the splits."""
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


def origin_by_name(name: str) -> Origin:
    """Return plant and slide as the file name tells them, `1-3-F_S4x` and `1-3-F_S4x_B`.

    A name that tells neither is an origin of its own.
    """
    sample = sample_of(name, DetectSettings.model_validate({}).sample_pattern)
    group = "_".join(part for part in (sample.plant, sample.ploidy) if part)
    return Origin(group, sample.label) if group else Origin(name, name, plant_known=False)


def _read_picture(path: Path, label: Path) -> LabelledPicture:
    try:
        with open_frames(path, path.name) as file:
            frames = list(file.frames)
    except FrameError as error:
        raise error.within(str(path)) from error
    if len(frames) != 1:
        raise PollenError(
            f"{path}: expected one picture, found {len(frames)}: labels can't say to which of them they belong"
        )
    text = label.read_text(encoding="utf-8") if label.exists() else ""
    size_px = frames[0].width_px, frames[0].height_px
    picture = LabelledPicture(path.name, path, text, size_px, origin_by_name(path.name))
    _ = picture.grains  # a faulty label is reported now
    return picture


def _as_grains(labels: Sequence[LabelledGrain], size_px: tuple[int, int]) -> Grains:
    """Return labelled grains in pixels of a picture of `size_px` (width, height)."""
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
