"""The truth of a rendered frame, and the plane geometry it rests on.

Coordinates are continuous: x to the right, y down, the frame spans 0 to width and 0 to height,
and the pixel in column i covers i to i + 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import DoubleArray
from pollen.classes import GrainClass


@dataclass(frozen=True, slots=True, eq=False)
class TrueGrain:
    """One rendered grain, as far as it is visible in the frame.

    Attributes:
        centre_px: Centroid (x, y) of the visible outline.
        box_xyxy: Smallest box around the visible outline, px.
        area_px: Area inside the visible outline, px².
        polygon: (K, 2) visible outline, px, clipped to the frame (or to its crop).
        touching: Whether the outline comes within 1.5 px of another grain's.
        cut: Whether the border of the frame (or of its crop) cuts the grain.
    """

    grain_class: GrainClass
    centre_px: tuple[float, float]
    box_xyxy: tuple[float, float, float, float]
    area_px: float
    polygon: DoubleArray
    touching: bool
    cut: bool

    @property
    def diameter_px(self) -> float:
        """The diameter of the circle of the visible area, px."""
        return 2.0 * sqrt(self.area_px / pi)


@dataclass(frozen=True, slots=True, eq=False)
class RenderedFrame:
    """A rendered frame and its truth.

    Attributes:
        pixels: (H, W, 3) RGB.
        pixel_size_um: Width of a pixel, µm, where the frame is meant to say so.
    """

    pixels: NDArray[np.uint8]
    grains: tuple[TrueGrain, ...]
    pixel_size_um: float | None = None

    def truth_counts(self) -> dict[GrainClass, int]:
        """Return the number of grains of each class, also if it is 0."""
        return {
            grain_class: sum(grain.grain_class is grain_class for grain in self.grains)
            for grain_class in GrainClass
        }

    def yolo_labels(self) -> str:
        """Return YOLO segmentation labels: a line `class x1 y1 x2 y2 ...` per grain, 0 to 1."""
        height, width = self.pixels.shape[:2]
        lines = []
        for grain in self.grains:
            unit = np.clip(grain.polygon / (width, height), 0.0, 1.0)
            lines.append(f"{int(grain.grain_class)} " + " ".join(f"{v:.6f}" for v in unit.ravel()))
        return "".join(line + "\n" for line in lines)


def polygon_area(polygon: DoubleArray) -> float:
    """Return the area of a simple polygon, px² (shoelace formula)."""
    x, y = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2.0)


def polygon_centroid(polygon: DoubleArray) -> tuple[float, float]:
    """Return the centroid (x, y) of a simple polygon with an area above zero."""
    x, y = polygon[:, 0], polygon[:, 1]
    cross = x * np.roll(y, -1) - y * np.roll(x, -1)
    total = 3.0 * cross.sum()
    return (
        float(((x + np.roll(x, -1)) * cross).sum() / total),
        float(((y + np.roll(y, -1)) * cross).sum() / total),
    )


def clip_polygon(polygon: DoubleArray, box_xyxy: tuple[float, float, float, float]) -> DoubleArray:
    """Return the part of a polygon inside a box (Sutherland and Hodgman 1974).

    Returns:
        `(K, 2)` points, K = 0 if nothing is inside. A polygon that leaves and re-enters over
        one side stays one polygon joined along that side, which adds no area.
    """
    x0, y0, x1, y1 = box_xyxy
    for axis, limit, sign in ((0, x0, 1.0), (1, y0, 1.0), (0, x1, -1.0), (1, y1, -1.0)):
        polygon = _clip_half_plane(polygon, axis, limit, sign)
        if len(polygon) == 0:
            break
    return polygon


def _clip_half_plane(polygon: DoubleArray, axis: int, limit: float, sign: float) -> DoubleArray:
    """Return the part of a polygon with sign * (coordinate - limit) >= 0."""
    side = sign * (polygon[:, axis] - limit)
    if (side >= 0).all():
        return polygon
    kept: list[NDArray[np.float64]] = []
    for i in range(len(polygon)):
        here, there = polygon[i], polygon[(i + 1) % len(polygon)]
        a, b = side[i], side[(i + 1) % len(polygon)]
        if a >= 0:
            kept.append(here)
        if (a >= 0) != (b >= 0):
            crossing = here + (there - here) * (a / (a - b))
            crossing[axis] = limit
            kept.append(crossing)
    return np.array(kept, dtype=np.float64).reshape(-1, 2)
