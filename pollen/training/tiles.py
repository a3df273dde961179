"""Labelled pictures as the model sees them: cut and resampled exactly as detection does it.

Ultralytics would stretch every picture until it fills the model's input, so that grains of one size
would come in as many sizes as there are picture sizes. Here a piece has always ``tile_px`` pixels
at the working scale, whatever the picture measures, and nothing is left for Ultralytics to resize.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.detection.tiling import Span, Tile, TileGrid
from pollen.training.collage import Outline, clip_to_canvas, fill_outlines, smooth_background

#: What the border of a piece leaves of a grain is labelled when it is at least so wide, picture
#: pixels: people label slivers down to this width, too.
SLIVER_PX = 5.0
#: Corners of the ellipse that stands for a grain of which only a box is known.
ELLIPSE_CORNERS = 24
#: How far round a grain its halo goes, pixels: covered together with it.
HALO_PX = 9

Task = Literal["detect", "segment"]


@dataclass(frozen=True)
class Piece:
    """One training picture.

    Attributes:
        pixels: ``(tile_px, tile_px, 3)`` uint8 RGB.
        outlines: Grains, in pixels of the piece, clipped to it.
    """

    pixels: Pixels
    outlines: tuple[Outline, ...]

    def label_text(self, task: Task) -> str:
        """YOLO labels: polygons to train segmentation, boxes to train detection."""
        side = self.pixels.shape[0]
        lines = [_line(outline, side, task) for outline in self.outlines]
        return "".join(f"{line}\n" for line in lines)


def _line(outline: Outline, side_px: int, task: Task) -> str:
    if task == "segment":
        values = (outline.points / side_px).reshape(-1)
    else:
        x0, y0, x1, y1 = outline.box
        values = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / side_px
    return " ".join([str(int(outline.grain_class)), *(f"{value:.6f}" for value in values)])


def cut(pixels: Pixels, outlines: Sequence[Outline], grid: TileGrid) -> Iterator[Piece]:
    """Cut a labelled picture into pieces.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        outlines: Its grains, in pixels.
        grid: How detection will cut frames for this model.
    """
    height, width = pixels.shape[:2]
    for tile in grid.tiles(width, height):
        window = pixels[tile.y.start : tile.y.stop, tile.x.start : tile.x.stop]
        yield Piece(grid.model_input(window), tuple(_inside(outlines, tile, grid)))


def _inside(outlines: Sequence[Outline], tile: Tile, grid: TileGrid) -> Iterator[Outline]:
    """What a tile shows of the grains."""
    scale = grid.exact_scale
    shift = np.array([[scale, 0, -tile.x.start * scale], [0, scale, -tile.y.start * scale]])
    least = SLIVER_PX * scale
    for outline in outlines:
        seen = clip_to_canvas(outline.moved(shift), _length(tile.x, scale), _length(tile.y, scale))
        if seen is None:
            continue
        if _is_whole(outline, tile):
            yield seen
            continue
        x0, y0, x1, y1 = seen.box
        if min(x1 - x0, y1 - y0) >= least and seen.area_px >= least**2:
            yield seen


def _length(span: Span, scale: float) -> float:
    return (span.stop - span.start) * scale


def _is_whole(outline: Outline, tile: Tile) -> bool:
    """Whether a tile sees all that the label holds: then it stays a label, however small it is."""
    x0, y0, x1, y1 = outline.box
    across = tile.x.start <= x0 and x1 <= tile.x.stop
    return across and tile.y.start <= y0 and y1 <= tile.y.stop


def ellipse_in(box: tuple[float, float, float, float], grain_class: int) -> Outline:
    """The outline of a grain of which only the box ``x0, y0, x1, y1`` is known: grains are near ellipses."""
    x0, y0, x1, y1 = box
    turn = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    x = (x0 + x1) / 2 + (x1 - x0) / 2 * np.cos(turn)
    y = (y0 + y1) / 2 + (y1 - y0) / 2 * np.sin(turn)
    return Outline(grain_class, np.column_stack([x, y]).astype(np.float32))


def cover(pixels: Pixels, hidden: Sequence[Outline], grains: Sequence[Outline]) -> Pixels:
    """A copy with some grains covered by the background round them.

    Args:
        pixels: ``(H, W, 3)`` uint8 RGB.
        hidden: What is to disappear.
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
