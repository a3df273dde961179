"""One model on labelled pictures, through the product's own detection."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.detection.detector import Detector, Profile, detect_frames
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from pollen.evaluation.figures import (
    Rate,
    SizeRecall,
    Summary,
    called_wrong,
    confusion,
    diameter_error_percent,
    recall_by_size,
    summaries_by,
    summarise,
)
from pollen.evaluation.matching import PictureScore, score_picture
from pollen.dataset.labelled import LabelledPicture
from pollen.evaluation.precision import ClassPrecision, PrecisionMeter, mean_of_known
from pollen.frames import Frame, FrameError, open_frames
from pollen.models.card import ModelCard

LEAST_CONFIDENCE = 0.001
"""Average precision looks at detections down to here."""


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on labelled pictures.

    Attributes:
        card: Of the model.
        scores: Every picture, at the thresholds of the card.
        precision: Average precision by class, from all detections down to
            :data:`LEAST_CONFIDENCE`.
    """

    card: ModelCard
    scores: tuple[PictureScore, ...]
    precision: dict[GrainClass, ClassPrecision]

    @cached_property
    def overall(self) -> Summary:
        """All pictures together."""
        return summarise(self.scores)

    @cached_property
    def groups(self) -> dict[str, Summary]:
        """By group: the plant, the unit by which data are split."""
        return summaries_by(self.scores, lambda score: score.picture.group)

    @cached_property
    def slides(self) -> dict[str, Summary]:
        """By slide."""
        return summaries_by(self.scores, lambda score: score.picture.slide)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """``(3, 3)`` grains by label (rows) and found class (columns); background is last."""
        return confusion(self.scores)

    @cached_property
    def called_wrong(self) -> dict[GrainClass, Rate]:
        """How often found grains of each class are called the other."""
        return {item: called_wrong(self.scores, item) for item in GrainClass}

    @property
    def sizes(self) -> tuple[SizeRecall, ...]:
        """How many grains of each size were found."""
        return recall_by_size(self.scores)

    @property
    def diameter_error(self) -> tuple[float, float] | None:
        """Median signed and absolute error of diameters, percent."""
        return diameter_error_percent(self.scores)

    @property
    def map50(self) -> dict[str, float | None]:
        """Box mAP50 by class name; ``None`` where no grain of the class is labelled."""
        return {item.label: self.precision[item].ap50 for item in GrainClass}

    @property
    def map50_95(self) -> float | None:
        """Box mAP50-95, the mean over the classes that have labels."""
        return mean_of_known([self.precision[item].ap50_95 for item in GrainClass])


def evaluate(
    pictures: Sequence[LabelledPicture],
    weights: Path,
    card: ModelCard,
    cache: Path,
    settings: DetectSettings | None = None,
) -> Evaluation:
    """Measure a model on labelled pictures.

    The model runs twice: at the thresholds of its card for everything that is counted, and down
    to :data:`LEAST_CONFIDENCE` for average precision. Taking the counts from the second run would
    not do: where tiles meet, weak detections may stand for stronger ones.

    Args:
        pictures: At least one.
        weights: The ``.pt`` file.
        card: Its card: scale, tile and thresholds.
        cache: Folder for the prepared model.
        settings: Of detection, such as the device. Their edge rule does not matter: grains at the border
            are labelled, so they are to be found.

    Raises:
        ModelError: The weights are not those of the card, or are no model of grains.
        FrameError: A picture can't be read.
        DeviceError: The device asked for can't be used.
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
    """Grains of every picture, in order; only the pictures under way are held in memory.

    Raises:
        ModelError: The weights are not those of the card, or are no model of grains.
        FrameError: A picture can't be read.
        DeviceError: The device asked for can't be used.
    """
    detector = Detector(weights, card, Profile.resolve(card, settings), cache)
    results = detect_frames(
        _frames(pictures),
        detector,
        lambda frame: detector.grid(settings.pixel_size_um or frame.pixel_size_um),
    )
    for picture, (_, result) in zip(pictures, results, strict=True):
        if isinstance(result, FrameError):
            raise result.within(str(picture.path)) from result
        if isinstance(result, Exception):
            raise result
        yield picture, result


def _frames(pictures: Sequence[LabelledPicture]) -> Iterator[Frame]:
    """The one frame of each picture; its file is open until the next one is asked for."""
    for picture in pictures:
        with open_frames(picture.path, picture.name) as file:
            yield next(iter(file.frames))
