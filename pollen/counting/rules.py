"""The edge and overlap rules: which grains of a frame are counted, and which are measured."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import BoolArray, FloatArray
from pollen.classes import GrainClass
from pollen.detection.grains import Grains, overlapping
from pollen.detection.settings import EdgeRule, OverlapRule

#: A grain touches a side if its box comes within this many pixels of it.
EDGE_MARGIN_PX = 1.0


class Exclusion(StrEnum):
    """The reason why a grain is not in the counts."""

    NONE = ""
    EDGE = "edge"
    OVERLAP = "overlap"


@dataclass(frozen=True)
class CountedFrame:
    """The grains of one frame and the result of the rules for each.

    Attributes:
        grains: All grains after merging, in reading order.
        exclusions: One per grain; `Exclusion.NONE` if it counts.
        overlapping: `(N,)` mask of the grains that lie over or under another one.
        cut: `(N,)` mask of the grains that touch a side of the frame, under any edge rule.
    """

    grains: Grains
    exclusions: tuple[Exclusion, ...]
    overlapping: BoolArray
    cut: BoolArray

    @property
    def measured(self) -> BoolArray:
        """`(N,)` mask of the grains that have sizes: those that are wholly visible."""
        return np.asarray(~(self.overlapping | self.cut), np.bool_)

    @property
    def counted(self) -> BoolArray:
        """`(N,)` mask of the grains that count."""
        return np.array([reason is Exclusion.NONE for reason in self.exclusions], np.bool_)

    def count(self, grain_class: GrainClass, *, counted: bool = True) -> int:
        """Return the number of grains of a class that count (or, with `counted=False`, are left out)."""
        chosen = self.counted if counted else ~self.counted
        return int(np.count_nonzero(chosen & (self.grains.classes == grain_class)))

    def left_out(self, grain_class: GrainClass, reason: Exclusion) -> int:
        """Return the number of grains of a class that are left out for a reason.

        A grain that both rules leave out is listed under the edge rule.
        """
        chosen = np.array([found is reason for found in self.exclusions], np.bool_)
        return int(np.count_nonzero(chosen & (self.grains.classes == grain_class)))


def touched_sides(boxes: FloatArray, width_px: int, height_px: int) -> NDArray[np.bool_]:
    """Return which sides of the frame each box touches.

    Args:
        boxes: `(N, 4)` xyxy, pixels.
        width_px: Width of the frame.
        height_px: Height of the frame.

    Returns:
        `(N, 4)` mask in the order left, top, right, bottom.
    """
    near = boxes[:, :2] <= EDGE_MARGIN_PX
    far = boxes[:, 2:] >= np.array([width_px, height_px], np.float32) - EDGE_MARGIN_PX
    return np.concatenate([near, far], axis=1)


def excluded_by_edge(sides: NDArray[np.bool_], rule: EdgeRule) -> BoolArray:
    """Return which grains the edge rule leaves out.

    `frame`: right or bottom, even if left or top is touched too (the two-edge unbiased counting
    frame of Gundersen, J. Microsc. 111:219, 1977). `exclude`: any side. `all`: none.
    """
    match rule:
        case EdgeRule.FRAME:
            return np.asarray(sides[:, 2:].any(axis=1))
        case EdgeRule.EXCLUDE:
            return np.asarray(sides.any(axis=1))
        case EdgeRule.ALL:
            return np.zeros(len(sides), np.bool_)


def count_frame(
    grains: Grains,
    size_px: tuple[int, int],
    edge_rule: EdgeRule,
    overlap_rule: OverlapRule,
    overlap_fraction: float,
) -> CountedFrame:
    """Apply the rules to the grains of one frame of `size_px` (width, height)."""
    ordered = grains.in_reading_order()
    sides = touched_sides(ordered.boxes, *size_px)
    by_edge = excluded_by_edge(sides, edge_rule)
    hidden = overlapping(ordered, overlap_fraction)
    by_overlap = hidden if overlap_rule is OverlapRule.EXCLUDE else np.zeros_like(hidden)
    exclusions = tuple(
        Exclusion.EDGE if edge else Exclusion.OVERLAP if overlap else Exclusion.NONE
        for edge, overlap in zip(by_edge, by_overlap, strict=True)
    )
    return CountedFrame(ordered, exclusions, hidden, np.asarray(sides.any(axis=1), np.bool_))
