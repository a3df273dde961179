"""What tests of the evaluation make detections and evaluations with."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pollen.arrays import FloatArray
from pollen.dataset.labelled import LabelledPicture, Origin
from pollen.dataset.labels import LABEL_NAMES, UNSURE
from pollen.detection.grains import Grains
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.matching import score_picture
from pollen.evaluation.precision import PrecisionMeter
from pollen.models.card import ModelCard

T = TypeVar("T")

CARD = ModelCard.model_validate({"version": "model-1", "sha256": "0" * 64})


def perfect(picture: LabelledPicture, confidence: float = 0.9) -> Grains:
    """What an all-knowing detector would report."""
    number = len(picture.truth)
    return replace(picture.truth, confidence=np.full(number, confidence, np.float32))


def far_away(grains: Grains, confidence: float = 0.9) -> Grains:
    """The first of the grains where none is."""
    moved = grains.take(np.array([0])).placed(1.0, (1000.0, 0.0))
    return replace(moved, confidence=np.array([confidence], np.float32))


def other_class(grains: Grains) -> Grains:
    """The same grains, viable ones called non-viable and the reverse."""
    return replace(grains, classes=1 - grains.classes)


def picture_of(
    truth: Grains,
    name: str = "a.png",
    group: str = "plant",
    slide: str = "slide",
    *,
    unsure: Grains | None = None,
    path: Path | None = None,
    size_px: tuple[int, int] = (2000, 2000),
) -> LabelledPicture:
    """A picture that needs no pixels, labelled with these grains."""
    known = zip(truth.classes.tolist(), truth.outlines, strict=True)
    lines = [_line(number, outline, size_px) for number, outline in known]
    if unsure is not None:
        lines += [_line(LABEL_NAMES.index(UNSURE), one, size_px) for one in unsure.outlines]
    origin = Origin(group, slide)
    return LabelledPicture(name, path or Path(name), "".join(lines), size_px, origin)


def _line(number: int, outline: FloatArray, size_px: tuple[int, int]) -> str:
    """A line of a label without any rounding."""
    points = (outline.astype(np.float64) / size_px).ravel()
    return " ".join([str(number), *(repr(float(value)) for value in points)]) + "\n"


def judged(
    pictures: Sequence[LabelledPicture], found: Sequence[Grains], card: ModelCard = CARD
) -> Evaluation:
    """The evaluation of a model that found this."""
    meter = PrecisionMeter()
    for picture, grains in zip(pictures, found, strict=True):
        meter.add(picture, grains)
    scores = tuple(score_picture(p, grains) for p, grains in zip(pictures, found, strict=True))
    return Evaluation(card, scores, meter.result())


def known(value: T | None) -> T:
    """A figure that must be known."""
    assert value is not None
    return value
