"""Cutting frames into tiles of one size, and deciding which tile owns which grain.

Tiles overlap by at least the largest expected grain. Each tile has a core; the cores share the
frame out without gap or overlap. A grain whose centre lies in a tile's core is seen whole by that
tile, because the core ends half an overlap before the tile does, so the tile that owns the centre
owns the grain and nothing has to be stitched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import Pixels
from pollen.detection.grains import Grains, one_box_per_grain
from pollen.errors import PollenError

#: The grey around a frame that is smaller than a tile: the one YOLO models are trained with.
PADDING_GREY = 114
#: Models end the box of a grain that is cut by the frame a little before the side of the frame. Such a
#: grain would look whole, and would be counted although the edge rule leaves it out.
SNAP_MODEL_PX = 1.5
#: Two tiles may place the centre of one grain up to this part of the largest grain apart. With more,
#: tiles would own grains that their border cuts in half.
SEAM_TOLERANCE = 0.1


class ScaleError(PollenError):
    """Grains and model do not fit together in size; the message says what to do."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, frame pixels: it sees `start..stop` and owns `core_start..core_stop`."""

    start: int
    stop: int
    core_start: float
    core_stop: float


@dataclass(frozen=True)
class Tile:
    """A square window of a frame."""

    x: Span
    y: Span


@dataclass(frozen=True)
class TileGrid:
    """The way in which frames are cut for a model.

    Attributes:
        tile_px: Side of the model's input, in pixels at the working scale.
        scale: Working-scale pixels per frame pixel.
        largest_grain_px: Diameter of the largest expected grain, in frame pixels.
    """

    tile_px: int
    scale: float
    largest_grain_px: float

    def __post_init__(self) -> None:
        """Refuse a scale at which the largest grain fills a tile."""
        if self.window_px < 2 * self.largest_grain_px:
            raise ScaleError(
                f"grains of {self.largest_grain_px:.0f} px, the largest its card expects, do not fit the model's "
                f"window of {self.window_px} px at scale {self.scale:.3g}: publish the model with a smaller "
                "max_grain_px or working_scale, or a larger tile_px"
            )

    @property
    def window_px(self) -> int:
        """Side of a tile in frame pixels."""
        return round(self.tile_px / self.scale)

    @property
    def exact_scale(self) -> float:
        """Working-scale pixels per frame pixel after rounding the window to whole pixels."""
        return self.tile_px / self.window_px

    def tiles(self, width_px: int, height_px: int) -> list[Tile]:
        """Return all tiles of a frame, row by row."""
        columns = spans(width_px, self.window_px, self.largest_grain_px)
        rows = spans(height_px, self.window_px, self.largest_grain_px)
        return [Tile(column, row) for row in rows for column in columns]

    def model_input(self, window: Pixels) -> Pixels:
        """Return a tile's pixels at the working scale, `(tile_px, tile_px, 3)` uint8 RGB.

        A tile cut off by the frame is padded to the right and below, never scaled up.
        """
        if self.window_px == self.tile_px:
            return _padded(window, (self.tile_px, self.tile_px))
        if self.window_px < self.tile_px:
            whole = _padded(window, (self.window_px, self.window_px))
            return _resized(whole, (self.tile_px, self.tile_px), cv2.INTER_LINEAR)
        # Padded to whole model pixels before shrinking, and fully only when it is small: if grains are
        # stated to be large, a tile has gigabytes, of which a small frame fills a corner.
        height, width = (-(-side * self.tile_px // self.window_px) for side in window.shape[:2])
        stored = (round(height / self.exact_scale), round(width / self.exact_scale))
        shrunk = _resized(_padded(window, stored), (height, width), cv2.INTER_AREA)
        return _padded(shrunk, (self.tile_px, self.tile_px))


def _padded(pixels: Pixels, size_px: tuple[int, int]) -> Pixels:
    """Return pixels with grey to the right and below, up to a height and width."""
    below, right = (wanted - side for wanted, side in zip(size_px, pixels.shape[:2], strict=True))
    if below <= 0 and right <= 0:
        return pixels
    return cv2.copyMakeBorder(
        pixels, 0, max(below, 0), 0, max(right, 0), cv2.BORDER_CONSTANT, value=(PADDING_GREY,) * 3
    ).astype(np.uint8, copy=False)


def _resized(pixels: Pixels, size_px: tuple[int, int], method: int) -> Pixels:
    """Return pixels resampled to a height and width."""
    return cv2.resize(pixels, size_px[::-1], interpolation=method).astype(np.uint8, copy=False)


def spans(length_px: int, window_px: int, overlap_px: float) -> list[Span]:
    """Return the tiles along one axis of `length_px`: all of one size, the last one moved back to the end."""
    if length_px <= window_px:
        return [Span(0, length_px, float("-inf"), float("inf"))]
    step = window_px - int(np.ceil(overlap_px))
    count = int(np.ceil((length_px - window_px) / step)) + 1
    starts = [min(number * step, length_px - window_px) for number in range(count)]
    seams = [(second + first + window_px) / 2 for first, second in pairwise(starts)]
    borders = [float("-inf"), *seams, float("inf")]
    return [
        Span(start, start + window_px, core_start, core_stop)
        for start, (core_start, core_stop) in zip(starts, pairwise(borders), strict=True)
    ]


def join_tiles(
    tiles: Sequence[Tile],
    found: Sequence[Grains],
    grid: TileGrid,
    size_px: tuple[int, int],
    merge_iou: float,
) -> Grains:
    """Return the grains of a frame from the grains of its tiles, each grain once.

    A grain is taken from the tile that owns its centre. Two tiles may disagree about a centre by
    a few pixels, so that both or neither would own a grain right at a seam. Sightings a little
    outside their tile's core are therefore kept at first; then doubles are merged, and the sighting
    deepest in its core wins: it is the one least likely to be cut by the border of its tile.

    Args:
        tiles: The tiles of one frame.
        found: Grains per tile, in model-input pixels.
        grid: The grid that made the tiles.
        size_px: Width and height of the frame.
        merge_iou: Sightings around a seam that overlap by more than this are one grain.

    Returns:
        Grains in frame pixels, boxes and outlines clipped to the frame.
    """
    tolerance = SEAM_TOLERANCE * grid.largest_grain_px
    kept, depths = [], []
    for tile, grains in zip(tiles, found, strict=True):
        in_frame = grains.placed(1 / grid.exact_scale, (tile.x.start, tile.y.start))
        placed = _clip(in_frame, size_px, snap_px=SNAP_MODEL_PX / grid.exact_scale)
        depth = _depth_in_core(placed, tile)
        kept.append(placed.take(depth >= -tolerance))
        depths.append(depth[depth >= -tolerance])
    grains = Grains.concatenate(kept)
    if not len(grains):
        return grains
    depth = np.concatenate(depths)
    # If one tile's sighting is kept at -tolerance, the other's lies at +tolerance, or deeper by
    # twice as much: tiles disagree, and a cut grain seems to lie further inside its tile.
    seam = np.flatnonzero(depth <= 3 * tolerance)
    survivors = seam[one_box_per_grain(grains.boxes[seam], depth[seam], merge_iou)]
    dropped = np.setdiff1d(seam, survivors)
    return grains.take(np.setdiff1d(np.arange(len(grains)), dropped))


def _depth_in_core(grains: Grains, tile: Tile) -> NDArray[np.float32]:
    """Return the `(N,)` distance of each centre to the nearest border of the tile's core; negative outside."""
    x, y = grains.centres.T
    depth: NDArray[np.float32] = np.min(
        [x - tile.x.core_start, tile.x.core_stop - x, y - tile.y.core_start, tile.y.core_stop - y],
        axis=0,
    )
    return depth


def _clip(grains: Grains, size_px: tuple[int, int], snap_px: float) -> Grains:
    """Return grains with boxes and outlines inside the frame, without those wholly in the padding.

    A side of a box that ends within `snap_px` of a side of the frame ends there.
    """
    limit = np.asarray(size_px, np.float32)
    boxes = np.clip(grains.boxes, 0, np.tile(limit, 2))
    boxes[:, :2][boxes[:, :2] < snap_px] = 0
    boxes[:, 2:] = np.where(boxes[:, 2:] > limit - snap_px, limit, boxes[:, 2:])
    inside = np.asarray((boxes[:, 2:] - boxes[:, :2] > 0).all(axis=1), np.bool_)
    outlines = tuple(np.clip(outline, 0, limit).astype(np.float32) for outline in grains.outlines)
    return Grains(boxes, grains.confidence, grains.classes, grains.areas_px, outlines).take(inside)
