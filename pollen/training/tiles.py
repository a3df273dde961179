"""Labelled pictures as the model sees them: cut and resampled exactly as detection does it.

Ultralytics would stretch every picture until it fills the model's input, so that grains of one size
would come in as many sizes as there are picture sizes. Here a piece has always `tile_px` pixels
at the working scale, whatever the picture measures, and nothing is left for Ultralytics to resize.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from pollen.detection.tiling import Span, Tile, TileGrid
from pollen.training.collage import Outline, clip_to_canvas
from pollen.training.examples import Example

#: What the border of a piece leaves of a grain is labelled when it is at least so wide, picture
#: pixels: people label slivers down to this width, too.
SLIVER_PX = 5.0

Task = Literal["detect", "segment"]


def label_text(example: Example, task: Task) -> str:
    """Return the YOLO labels of an example: polygons to train segmentation, boxes to train detection."""
    side_px = example.pixels.shape[0]
    return "".join(f"{_line(outline, side_px, task)}\n" for outline in example.outlines)


def _line(outline: Outline, side_px: int, task: Task) -> str:
    if task == "segment":
        values = (outline.points / side_px).reshape(-1)
    else:
        x0, y0, x1, y1 = outline.box
        values = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / side_px
    return " ".join([str(int(outline.grain_class)), *(f"{value:.6f}" for value in values)])


def cut(example: Example, grid: TileGrid) -> Iterator[Example]:
    """Cut an example into tiles of the model's input, with their grains clipped to them.

    Args:
        example: A whole picture.
        grid: How detection will cut frames for this model.
    """
    height, width = example.pixels.shape[:2]
    for tile in grid.tiles(width, height):
        window = example.pixels[tile.y.start : tile.y.stop, tile.x.start : tile.x.stop]
        yield Example(grid.model_input(window), tuple(_inside(example.outlines, tile, grid)))


def _inside(outlines: Sequence[Outline], tile: Tile, grid: TileGrid) -> Iterator[Outline]:
    """Yield the parts of the grains that a tile shows."""
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
    """Return whether a tile shows the whole label: the label is then kept, however small it is."""
    x0, y0, x1, y1 = outline.box
    across = tile.x.start <= x0 and x1 <= tile.x.stop
    return across and tile.y.start <= y0 and y1 <= tile.y.stop
