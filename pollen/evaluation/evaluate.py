"""Evaluate one model on labelled pictures, through the product's own detection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.detector import Detector
from pollen.detection.grains import Grains
from pollen.detection.pipeline import detect_frames
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.evaluation.figures import (
    Agreement,
    called_wrong,
    confusion,
    confusion_by_label,
    diameter_error,
    recall_by_size,
    summaries_by,
    summarise,
)
from pollen.evaluation.matching import PictureScore, score_picture
from pollen.evaluation.precision import ClassPrecision, PrecisionMeter
from pollen.evaluation.record import MeasuredModel, ModelFigures
from pollen.frames import Frame, FrameError, open_frames
from pollen.models.card import ModelCard

#: Average precision is computed from detections down to this confidence.
LEAST_CONFIDENCE = 0.001


@dataclass(frozen=True)
class Evaluation:
    """The detections of a model on labelled pictures, compared with the labels.

    Attributes:
        card: Of the model.
        scores: Every picture, at the thresholds of the card.
        precision: Average precision by class, from all detections down to `LEAST_CONFIDENCE`.
    """

    card: ModelCard
    scores: tuple[PictureScore, ...]
    precision: dict[GrainClass, ClassPrecision]

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """`(3, 3)` grains by label (rows) and found class (columns); background is last."""
        return confusion(self.scores)

    @cached_property
    def figures(self) -> ModelFigures:
        """All figures, exact; they are rounded when they are written."""
        card = self.card
        slides = summaries_by(self.scores, lambda score: score.picture.slide)
        return ModelFigures(
            model=MeasuredModel(
                version=card.version,
                sha256=card.sha256,
                confidence=card.confidence,
                merge_iou=card.merge_iou,
                viable_odds=card.viable_odds,
            ),
            map50={item.label: self.precision[item].ap50 for item in GrainClass},
            map50_95={item.label: self.precision[item].ap50_95 for item in GrainClass},
            overall=summarise(self.scores),
            groups=summaries_by(self.scores, lambda score: score.picture.group),
            slides=slides,
            confusion=confusion_by_label(self.confusion),
            called_wrong={item.label: called_wrong(self.scores, item) for item in GrainClass},
            counts_per_picture=Agreement.of_counts(self.scores).figures(),
            viability_per_slide=Agreement.of_viability(list(slides.values())).figures(),
            recall_by_size=recall_by_size(self.scores),
            diameter_error_percent=diameter_error(self.scores),
        )


def evaluate(
    pictures: Sequence[LabelledPicture],
    weights: Path,
    card: ModelCard,
    cache: Path,
    settings: DetectSettings | None = None,
) -> Evaluation:
    """Measure a model on labelled pictures.

    The model runs twice: at the thresholds of its card for everything that is counted, and down
    to `LEAST_CONFIDENCE` for average precision. The counts can't be taken from the second run: at the
    seams of tiles, weak detections may stand for stronger ones.

    Args:
        pictures: At least one.
        weights: The `.pt` file.
        card: Its card: scale, tile and thresholds.
        cache: Folder for the prepared model.
        settings: Of detection, such as the device. Their edge rule does not matter: grains at the border
            are labelled, so they are to be found.

    Raises:
        ModelError: If the weights are not those of the card, or are no model of grains.
        FrameError: If a picture can't be read.
        DeviceError: If the device asked for can't be used.
    """
    wanted = settings or DetectSettings.model_validate({})
    found = find_grains(pictures, weights, card, cache, wanted)
    scores = tuple(score_picture(picture, grains) for picture, grains in found)
    unsure = wanted.model_copy(update={"confidence": LEAST_CONFIDENCE})
    meter = PrecisionMeter()
    for picture, grains in find_grains(pictures, weights, card, cache, unsure):
        meter.add(picture, grains)
    return Evaluation(card, scores, meter.result())


def find_grains(
    pictures: Sequence[LabelledPicture],
    weights: Path,
    card: ModelCard,
    cache: Path,
    settings: DetectSettings,
) -> Iterator[tuple[LabelledPicture, Grains]]:
    """Yield the grains of every picture, in order; only the pictures in progress are held in memory.

    Raises:
        ModelError: If the weights are not those of the card, or are no model of grains.
        FrameError: If a picture can't be read.
        DeviceError: If the device asked for can't be used.
    """
    detector = Detector(weights, card, Profile.resolve(card, settings), cache)
    results = detect_frames(_frames(pictures), detector)
    for picture, (_, result) in zip(pictures, results, strict=True):
        if isinstance(result, FrameError):
            raise result.within(str(picture.path)) from result
        if isinstance(result, Exception):
            raise result
        yield picture, result


def _frames(pictures: Sequence[LabelledPicture]) -> Iterator[Frame]:
    """Yield the one frame of each picture; its file is open until the next one is taken."""
    for picture in pictures:
        with open_frames(picture.path, picture.name) as file:
            yield next(iter(file.frames))
