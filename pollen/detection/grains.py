"""Grains of one frame as arrays, and removing doubles: one box for each grain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class Grains:
    """Detected grains, one per row, in pixels of the picture they were found in.

    Attributes:
        boxes: `(N, 4)` xyxy, pixels.
        confidence: `(N,)` in 0..1.
        classes: `(N,)` values of `pollen.classes.GrainClass`.
        areas_px: `(N,)` area in square pixels, from the mask if the model makes masks,
            else of the ellipse that fills the box.
        outlines: `N` arrays `(K, 2)` xy, pixels; the mask's outer contour, or the box's
            ellipse if the model makes no masks.
    """

    boxes: FloatArray
    confidence: FloatArray
    classes: NDArray[np.int64]
    areas_px: FloatArray
    outlines: tuple[FloatArray, ...]

    def __post_init__(self) -> None:
        """Check that all columns have the same number of grains."""
        lengths = {
            len(self.boxes),
            len(self.confidence),
            len(self.classes),
            len(self.areas_px),
            len(self.outlines),
        }
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        """Return the number of grains."""
        return len(self.boxes)

    @classmethod
    def none(cls) -> Self:
        """Return no grains."""
        zero = np.zeros(0, np.float32)
        return cls(zero.reshape(0, 4), zero, np.zeros(0, np.int64), zero, ())

    @classmethod
    def concatenate(cls, parts: Sequence["Grains"]) -> Self:
        """Return all grains of `parts`, in their order."""
        if not parts:
            return cls.none()
        return cls(
            boxes=np.concatenate([part.boxes for part in parts]),
            confidence=np.concatenate([part.confidence for part in parts]),
            classes=np.concatenate([part.classes for part in parts]),
            areas_px=np.concatenate([part.areas_px for part in parts]),
            outlines=tuple(outline for part in parts for outline in part.outlines),
        )

    @property
    def centres(self) -> FloatArray:
        """`(N, 2)` xy of the box centres, pixels."""
        return ((self.boxes[:, :2] + self.boxes[:, 2:]) / 2).astype(np.float32)

    @property
    def diameters_px(self) -> FloatArray:
        """`(N,)` diameter of the circle of equal area, pixels: 2 * sqrt(area / pi)."""
        return np.asarray(2 * np.sqrt(self.areas_px / np.pi), np.float32)

    def take(self, rows: NDArray[np.int64] | BoolArray) -> Self:
        """Return the grains at `rows` (numbers or a mask), in that order."""
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return type(self)(
            boxes=self.boxes[numbers],
            confidence=self.confidence[numbers],
            classes=self.classes[numbers],
            areas_px=self.areas_px[numbers],
            outlines=tuple(self.outlines[number] for number in numbers),
        )

    def placed(self, scale: float, offset: tuple[float, float]) -> Self:
        """Return the grains in another picture's pixels: `scale * xy + offset` (x, y)."""
        shift = np.asarray(offset, np.float32)
        return type(self)(
            boxes=self.boxes * np.float32(scale) + np.tile(shift, 2),
            confidence=self.confidence,
            classes=self.classes,
            areas_px=self.areas_px * np.float32(scale**2),
            outlines=tuple(outline * np.float32(scale) + shift for outline in self.outlines),
        )

    def in_reading_order(self) -> Self:
        """Return the grains from top to bottom, then left to right: the order in which they are numbered."""
        x, y = np.round(self.centres, 1).T
        return self.take(np.lexsort((self.confidence, x, y)))


def overlaps(box: FloatArray, boxes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return how much `box` shares with each of `boxes`.

    Args:
        box: `(4,)` xyxy, pixels.
        boxes: `(N, 4)` xyxy, pixels.

    Returns:
        Intersection over union, and intersection over the smaller box; both `(N,)`.
    """
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.clip(sides, 0, None), axis=1)
    own = float(np.prod(box[2:] - box[:2]))
    others = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    tiny = np.float32(1e-9)
    return shared / np.maximum(own + others - shared, tiny), shared / np.maximum(
        np.minimum(own, others), tiny
    )


def one_box_per_grain(
    boxes: FloatArray, rank: FloatArray, iou: float, contained: float = 0.85
) -> NDArray[np.int64]:
    """Drop boxes that show a grain again: greedy non-maximum suppression across classes.

    A box is dropped when one of higher rank overlaps it by more than `iou`, or when one of
    the two lies inside the other by more than `contained` (a fragment or a halo of the same
    grain, which intersection over union alone would keep). Touching grains stay two: round
    neighbours share little of their boxes.

    Unlike the usual library routines this has no limit on the number of boxes and no time limit,
    so it can't shorten a count.

    Args:
        boxes: `(N, 4)` xyxy, pixels.
        rank: `(N,)`; of two boxes that overlap, the one of higher rank is kept. Usually the confidence.
        iou: Greatest intersection over union of two grains.
        contained: Greatest part of a grain's box inside another's.

    Returns:
        Row numbers of the boxes kept, those of highest rank first; ties keep their order.
    """
    waiting = np.argsort(-rank, kind="stable")
    kept: list[int] = []
    while len(waiting):
        best, rest = waiting[0], waiting[1:]
        kept.append(int(best))
        by_union, by_smaller = overlaps(boxes[best], boxes[rest])
        waiting = rest[(by_union <= iou) & (by_smaller <= contained)]
    return np.asarray(kept, np.int64)


def overlapping(grains: Grains, fraction: float) -> BoolArray:
    """Return which grains lie over or under another one, so that they can't be measured.

    Two grains overlap when their outlines share more than `fraction` of the smaller one's area.
    Grains that only touch do not.

    Returns:
        `(N,)` mask.
    """
    found = np.zeros(len(grains), np.bool_)
    order = np.argsort(grains.boxes[:, 0], kind="stable")
    for position, row in enumerate(order):
        for other in order[position + 1 :]:
            if grains.boxes[other, 0] >= grains.boxes[row, 2]:
                break
            if _shared_fraction(grains, int(row), int(other)) > fraction:
                found[[row, other]] = True
    return found


def _shared_fraction(grains: Grains, first: int, second: int) -> float:
    """Return the shared area of two grains' outlines as a fraction of the smaller one's area.

    The outlines are drawn in the box that the grains have in common.
    """
    a, b = grains.boxes[first], grains.boxes[second]
    low, high = np.floor(np.maximum(a[:2], b[:2])), np.ceil(np.minimum(a[2:], b[2:]))
    width, height = (high - low).astype(int)
    if width <= 0 or height <= 0:
        return 0.0
    drawn = []
    for row in (first, second):
        canvas = np.zeros((height, width), np.uint8)
        # The pixel in column i covers i to i + 1: floor, because rounding turns a mask's outline,
        # which runs through pixel centres, to even numbers.
        cv2.fillPoly(canvas, [np.floor(grains.outlines[row] - low).astype(np.int32)], 1)
        drawn.append(canvas)
    smaller = max(float(min(grains.areas_px[first], grains.areas_px[second])), 1.0)
    return float(np.count_nonzero(drawn[0] & drawn[1])) / smaller
