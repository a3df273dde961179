"""The pictures on which two models, or a model and the labels, disagree most, drawn for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.classes import GrainClass
from pollen.detection.grains import Grains
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.matching import PictureScore, match, overlap_matrix
from pollen.frames import open_frames
from pollen.reports.annotate import encode_jpeg
from pollen.reports.legend import CLASS_COLOURS, HALO

#: Most pictures on the page.
MOST_SHOWN: Final = 12
#: Longer side of one drawing.
PANEL_PX: Final = 400
#: Of pictures whose longer side exceeds this, only a part is shown.
_WHOLE_PX: Final = 800
_FRAME_GAP_PX: Final = 6
_JPEG_QUALITY: Final = 85

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Panel:
    """One drawing of a picture.

    Attributes:
        title: The source of the grains: labels or a model.
        viable: Viable grains in the whole picture.
        non_viable: Non-viable ones.
        jpeg: The encoded drawing.
    """

    title: str
    viable: int
    non_viable: int
    jpeg: bytes


@dataclass(frozen=True)
class Disagreement:
    """A picture with the grains of each side.

    Attributes:
        name: Of the picture.
        grains: Number of grains on which they disagree.
        is_part: Whether the drawings show a part of the picture.
        panels: The labels, the new model, and the model in production if there is one.
    """

    name: str
    grains: int
    is_part: bool
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class _Side:
    """The grains of one side, and a mask of those on which the others disagree."""

    title: str
    grains: Grains
    disputed: NDArray[np.bool_]


def draw_disagreements(
    new: Evaluation, production: Evaluation | None, most: int = MOST_SHOWN
) -> tuple[Disagreement, ...]:
    """Draw the pictures with most disagreement; pictures without any are left out.

    Two models disagree on a grain that only one of them finds or that they put in different classes,
    whatever the labels are. A single model is compared with the labels.

    Args:
        new: The model that is judged.
        production: The model in production on the same pictures.
        most: Most pictures to draw.

    Raises:
        FrameError: If a picture can't be read any more.
    """
    others: Sequence[PictureScore | None] = (
        production.scores if production else [None] * len(new.scores)
    )
    pairs = [
        (_disagreements(score, other), score, other)
        for score, other in zip(new.scores, others, strict=True)
    ]
    ranked = sorted(pairs, key=lambda pair: (-pair[0], pair[1].picture.name))
    return tuple(_draw(*pair) for pair in ranked[:most] if pair[0])


def _disagreements(score: PictureScore, other: PictureScore | None) -> int:
    """Return the number of grains on which two models, or a model and the labels, disagree."""
    if other is None:
        return score.mistakes
    own, theirs = disputed(score.found, other.found)
    # A grain that both find, but class differently, is disputed on both sides: it is one grain.
    pairs = match(overlap_matrix(score.found.boxes, other.found.boxes))
    twice = int((own & (pairs >= 0)).sum())
    return int(own.sum() + theirs.sum()) - twice


def disputed(first: Grains, second: Grains) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks of the grains of each side that the other side lacks or puts in another class."""
    pairs = match(overlap_matrix(first.boxes, second.boxes))
    own, theirs = np.ones(len(first), np.bool_), np.ones(len(second), np.bool_)
    for number in np.flatnonzero(pairs >= 0):
        differ = bool(first.classes[number] != second.classes[pairs[number]])
        own[number] = theirs[pairs[number]] = differ
    return own, theirs


def _draw(grains: int, score: PictureScore, other: PictureScore | None) -> Disagreement:
    sides = _sides(score, other)
    picture = score.picture
    box = _part(picture.size_px, sides)
    with open_frames(picture.path, picture.name) as file:
        pixels = next(iter(file.frames)).read(box)
    return Disagreement(
        name=picture.name,
        grains=grains,
        is_part=(box[2] - box[0], box[3] - box[1]) != picture.size_px,
        panels=tuple(_panel(side, pixels, box) for side in sides),
    )


def _sides(score: PictureScore, other: PictureScore | None) -> tuple[_Side, ...]:
    """Return labels and models, each with the grains to mark."""
    truth = score.picture.truth
    if other is None:
        by_label, by_model = disputed(truth, score.found)
        return _Side("labels", truth, by_label), _Side("new model", score.found, by_model)
    own, theirs = disputed(score.found, other.found)
    missing = disputed(truth, score.found)[0] | disputed(truth, other.found)[0]
    return (
        _Side("labels", truth, missing),
        _Side("new model", score.found, own),
        _Side("production model", other.found, theirs),
    )


def _part(size_px: tuple[int, int], sides: Sequence[_Side]) -> Box:
    """Return the part of a picture to show, x0, y0, x1, y1: the one with most disputed grains."""
    width, height = size_px
    if max(size_px) <= _WHOLE_PX:
        return 0, 0, width, height
    centres = np.concatenate([side.grains.centres[side.disputed] for side in sides])
    near = np.abs(centres[:, None] - centres[None]).max(axis=2) <= _WHOLE_PX / 2
    middle = centres[int(near.sum(axis=1).argmax())]
    sizes = min(width, _WHOLE_PX), min(height, _WHOLE_PX)
    x0 = int(np.clip(middle[0] - sizes[0] / 2, 0, width - sizes[0]))
    y0 = int(np.clip(middle[1] - sizes[1] / 2, 0, height - sizes[1]))
    return x0, y0, x0 + sizes[0], y0 + sizes[1]


def _panel(side: _Side, pixels: NDArray[np.uint8], box: Box) -> Panel:
    height, width = pixels.shape[:2]
    scale = PANEL_PX / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    drawing = np.asarray(cv2.resize(pixels, size, interpolation=method), np.uint8)
    corner = np.array(box[:2], np.float32)
    for outline, grain_class in zip(side.grains.outlines, side.grains.classes, strict=True):
        line = np.round((outline - corner) * np.float32(scale * 8)).astype(np.int32)
        colour = CLASS_COLOURS[GrainClass(int(grain_class))]
        cv2.polylines(drawing, [line], True, colour, 1, cv2.LINE_AA, 3)
    for number in np.flatnonzero(side.disputed):
        frame = (side.grains.boxes[number] - np.tile(corner, 2)) * np.float32(scale)
        _frame(drawing, frame, GrainClass(int(side.grains.classes[number])))
    viable = int(np.count_nonzero(side.grains.classes == GrainClass.VIABLE))
    jpeg = encode_jpeg(drawing, _JPEG_QUALITY)
    return Panel(side.title, viable, len(side.grains) - viable, jpeg)


def _frame(drawing: NDArray[np.uint8], box: FloatArray, grain_class: GrainClass) -> None:
    """Draw attention to a grain without hiding it: a frame some pixels away from `box` `(4,)`."""
    # Inside the drawing, so that grains at a side get a whole frame.
    limit = np.array(drawing.shape[1::-1]) - 3
    low = np.clip(np.floor(box[:2]) - _FRAME_GAP_PX, 2, limit).astype(int).tolist()
    high = np.clip(np.ceil(box[2:]) + _FRAME_GAP_PX, 2, limit).astype(int).tolist()
    cv2.rectangle(drawing, low, high, HALO, 5)
    cv2.rectangle(drawing, low, high, CLASS_COLOURS[grain_class], 2)
