"""How good detections are, in the units that matter: counts, viability, then mAP50."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pollen.bundled.pictures import LabelledPicture
from pollen.classes import GrainClass
from pollen.grains import Grains, overlaps

MATCH_IOU = 0.5
"""Detection and label are one grain when their boxes overlap by more than this."""


@dataclass(frozen=True)
class PictureScore:
    """What was found in one picture against its labels.

    Attributes:
        name: Picture.
        plant: Plant it comes from.
        true: Labelled grains by class.
        found: Detected grains by class.
        false: Boxes ``(N, 4)`` of detections that match no label.
        missed: Boxes ``(N, 4)`` of labels that match no detection.
        confused: Boxes ``(N, 4)`` of labels matched by a detection of the other class.
        diameters: ``(N, 2)`` detected and labelled diameter of matched grains, pixels.
    """

    name: str
    plant: str
    true: tuple[int, int]
    found: tuple[int, int]
    false: NDArray[np.float32]
    missed: NDArray[np.float32]
    confused: NDArray[np.float32]
    diameters: NDArray[np.float32]

    @property
    def count_error(self) -> int:
        """Absolute difference between detected and labelled grains."""
        return abs(sum(self.found) - sum(self.true))


@dataclass(frozen=True)
class Summary:
    """Scores of several pictures together."""

    pictures: int
    grains: int
    count_error: int
    false: int
    missed: int
    confused: int
    viability_true: float
    viability_found: float

    @property
    def count_error_percent(self) -> float:
        """Sum over pictures of the absolute count error, per 100 labelled grains."""
        return 100 * self.count_error / max(self.grains, 1)

    @property
    def viability_error(self) -> float:
        """Detected minus labelled viability, percentage points."""
        return self.viability_found - self.viability_true


def true_boxes(picture: LabelledPicture) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes ``(N, 4)`` xyxy and classes ``(N,)`` of the labels."""
    boxes = np.array([outline.box for outline in picture.outlines], np.float32).reshape(-1, 4)
    classes = np.array([outline.grain_class for outline in picture.outlines], np.int64)
    return boxes, classes


def match(
    boxes: NDArray[np.float32], truth: NDArray[np.float32], least_iou: float = MATCH_IOU
) -> list[tuple[int, int]]:
    """Pairs (detection, label), each used once; detections choose in their order."""
    free = np.ones(len(truth), np.bool_)
    pairs = []
    for number, box in enumerate(boxes):
        iou = np.where(free, overlaps(box, truth)[0], 0) if len(truth) else np.zeros(0)
        if len(iou) and iou.max() >= least_iou:
            best = int(iou.argmax())
            free[best] = False
            pairs.append((number, best))
    return pairs


def score_picture(picture: LabelledPicture, grains: Grains) -> PictureScore:
    """Compare the grains found in a picture, most confident first, with its labels."""
    grains = grains.take(np.argsort(-grains.confidence, kind="stable"))
    truth, classes = true_boxes(picture)
    pairs = match(grains.boxes, truth)
    matched = {number for number, _ in pairs}
    seen = {label for _, label in pairs}
    confused = [label for number, label in pairs if grains.classes[number] != classes[label]]
    false = [number for number in range(len(grains)) if number not in matched]
    missed = [label for label in range(len(truth)) if label not in seen]
    true_diameters = [outline.diameter_px for outline in picture.outlines]
    diameters = [(grains.diameters_px[number], true_diameters[label]) for number, label in pairs]
    return PictureScore(
        name=picture.name,
        plant=picture.plant,
        true=_by_class(classes),
        found=_by_class(grains.classes),
        false=grains.boxes[false],
        missed=truth[missed],
        confused=truth[confused],
        diameters=np.array(diameters, np.float32).reshape(-1, 2),
    )


def diameter_error_percent(scores: Sequence[PictureScore]) -> tuple[float, float]:
    """Median signed and median absolute error of the diameters of matched grains, percent."""
    pairs = np.concatenate([score.diameters for score in scores])
    if not len(pairs):
        return float("nan"), float("nan")
    error = 100 * (pairs[:, 0] / np.maximum(pairs[:, 1], 1) - 1)
    return float(np.median(error)), float(np.median(np.abs(error)))


def _by_class(classes: NDArray[np.int64]) -> tuple[int, int]:
    viable = int(np.count_nonzero(classes == GrainClass.VIABLE))
    return viable, len(classes) - viable


def summarise(scores: Sequence[PictureScore]) -> Summary:
    """Add up the scores of several pictures; viability is pooled over them, in percent."""
    true = np.array([score.true for score in scores]).sum(axis=0)
    found = np.array([score.found for score in scores]).sum(axis=0)
    return Summary(
        pictures=len(scores),
        grains=int(true.sum()),
        count_error=sum(score.count_error for score in scores),
        false=sum(len(score.false) for score in scores),
        missed=sum(len(score.missed) for score in scores),
        confused=sum(len(score.confused) for score in scores),
        viability_true=100 * float(true[0]) / max(float(true.sum()), 1),
        viability_found=100 * float(found[0]) / max(float(found.sum()), 1),
    )


def by_plant(scores: Sequence[PictureScore]) -> dict[str, Summary]:
    """Summaries of every plant, by name."""
    groups: dict[str, list[PictureScore]] = defaultdict(list)
    for score in scores:
        groups[score.plant].append(score)
    return {plant: summarise(groups[plant]) for plant in sorted(groups)}


def average_precision(
    pictures: Sequence[LabelledPicture], found: Sequence[Grains], grain_class: GrainClass
) -> float:
    """Box mAP50 of one class: area under the precision-recall curve, 101-point as in COCO.

    Args:
        pictures: With labels.
        found: Detections of every picture down to a confidence of about 0.001.
        grain_class: The class.
    """
    hits: list[bool] = []
    confidences: list[float] = []
    total = 0
    for picture, grains in zip(pictures, found, strict=True):
        truth, classes = true_boxes(picture)
        truth = truth[classes == grain_class]
        total += len(truth)
        own = grains.take(grains.classes == grain_class)
        own = own.take(np.argsort(-own.confidence, kind="stable"))
        matched = {number for number, _ in match(own.boxes, truth)}
        hits += [number in matched for number in range(len(own))]
        confidences += own.confidence.tolist()
    if not total or not hits:
        return 0.0
    order = np.argsort(-np.array(confidences), kind="stable")
    right = np.cumsum(np.array(hits)[order])
    recall = right / total
    precision = right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    points = np.linspace(0, 1, 101)
    positions = np.searchsorted(recall, points, side="left")
    reached = positions < len(envelope)
    return float(np.where(reached, envelope[np.minimum(positions, len(envelope) - 1)], 0).mean())
