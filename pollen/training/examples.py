"""Labelled pictures as training takes them: pixels in memory, grains as outlines in pixels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.labels import LabelledGrain
from pollen.training.collage import Outline, fill_outlines, smooth_background

#: Corners of the ellipse that stands for a grain of which only a box is known.
ELLIPSE_CORNERS = 24
#: How far round a grain its halo goes, pixels: covered together with it.
HALO_PX = 9


@dataclass(frozen=True)
class Example:
    """A picture to learn from.

    Attributes:
        pixels: `(H, W, 3)` uint8 RGB.
        outlines: The grains in it, in its pixels.
    """

    pixels: Pixels
    outlines: tuple[Outline, ...]


def example_of(picture: LabelledPicture) -> Example:
    """Read a labelled picture; grains of class `unsure` are covered with background.

    Raises:
        FrameError: If the picture can't be read.
        PollenError: If its label can't be used.
    """
    known, unsure = outlines_of(picture.grains, picture.size_px)
    return Example(cover(picture.pixels(), unsure, known), tuple(known))


def outlines_of(
    grains: Iterable[LabelledGrain], size_px: tuple[int, int]
) -> tuple[list[Outline], list[Outline]]:
    """Return outlines in pixels: of the grains of a known class, and of those of class `unsure`."""
    size = np.array(size_px, np.float64)
    known: list[Outline] = []
    unsure: list[Outline] = []
    for grain in grains:
        points = grain.points * size
        outline = Outline(grain.number, points.astype(np.float32))
        if grain.is_box:
            outline = ellipse_in(outline.box, grain.number)
        (unsure if grain.grain_class is None else known).append(outline)
    return known, unsure


def ellipse_in(box: tuple[float, float, float, float], grain_class: int) -> Outline:
    """Return the outline of a grain of which only the box `x0, y0, x1, y1` is known: grains are near ellipses."""
    x0, y0, x1, y1 = box
    turn = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(turn)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(turn)
    return Outline(grain_class, np.column_stack([x, y]).astype(np.float32))


def cover(pixels: Pixels, hidden: Sequence[Outline], grains: Sequence[Outline]) -> Pixels:
    """Return a copy with some grains covered by the background round them.

    Args:
        pixels: `(H, W, 3)` uint8 RGB.
        hidden: The grains to cover.
        grains: All other grains: the background is taken from between them, and they stay.
    """
    if not hidden:
        return pixels
    shape = (pixels.shape[0], pixels.shape[1])
    halo = np.ones((HALO_PX, HALO_PX), np.uint8)
    own, others = fill_outlines(shape, hidden), fill_outlines(shape, grains)
    everything = np.asarray(cv2.dilate(np.maximum(own, others), halo), np.uint8)
    background = np.clip(smooth_background(pixels, everything), 0, 255).astype(np.uint8)
    gone = (cv2.dilate(own, halo) > 0) & (others == 0)
    return np.where(gone[..., None], background, pixels)
