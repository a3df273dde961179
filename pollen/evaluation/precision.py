"""Average precision of boxes, as COCO computes it, gathered picture by picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.matching import match, overlap_matrix, to_judge

#: Overlaps that COCO requires of a match; mAP50 uses the first, mAP50-95 is the mean over all.
IOU_LEVELS = np.linspace(0.5, 0.95, 10)

#: Recalls at which the precision-recall curve is read.
RECALL_POINTS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class ClassPrecision:
    """Precision of one class.

    Attributes:
        labelled: Labelled grains of the class.
        curves: `(10, 101)` precision at `RECALL_POINTS` for each of `IOU_LEVELS`: the
            highest precision at that recall or beyond, 0 where that recall is not reached.
    """

    labelled: int
    curves: NDArray[np.float64]

    @property
    def ap50(self) -> float | None:
        """Average precision at an overlap of 0.5; `None` if the class has no label."""
        return float(self.curves[0].mean()) if self.labelled else None

    @property
    def ap50_95(self) -> float | None:
        """Mean of the average precisions at overlaps of 0.5 to 0.95; `None` if the class has no label."""
        return float(self.curves.mean()) if self.labelled else None


class PrecisionMeter:
    """Measures average precision picture by picture; keeps a few bytes of each detection.

    The matching, the 101 points and the ten overlaps are those of COCO (Lin et al., ECCV 2014, and
    its reference code `pycocotools`). Unlike COCO there is no limit of 100 detections a picture, and a
    detection has the one class that it is called, by the viable odds of the model's card.
    """

    def __init__(self) -> None:
        self._labelled = dict.fromkeys(GrainClass, 0)
        self._confidence: dict[GrainClass, list[FloatArray]] = {item: [] for item in GrainClass}
        self._hits: dict[GrainClass, list[NDArray[np.bool_]]] = {item: [] for item in GrainClass}

    def add(self, picture: LabelledPicture, grains: Grains) -> None:
        """Add a picture.

        Args:
            picture: With its labels.
            grains: Detections down to a confidence of about 0.001.
        """
        grains = to_judge(picture, grains)
        for item in GrainClass:
            own = grains.classes == item
            truth = picture.truth.boxes[picture.truth.classes == item]
            iou = overlap_matrix(grains.boxes[own], truth)
            self._labelled[item] += len(truth)
            self._confidence[item].append(grains.confidence[own])
            self._hits[item].append(np.stack([match(iou, level) >= 0 for level in IOU_LEVELS]))

    def result(self) -> dict[GrainClass, ClassPrecision]:
        """Return the precision of each class over all pictures added."""
        return {
            item: ClassPrecision(
                self._labelled[item],
                precision_curves(
                    np.concatenate([np.zeros(0, np.float32), *self._confidence[item]]),
                    np.concatenate(
                        [np.zeros((len(IOU_LEVELS), 0), np.bool_), *self._hits[item]], axis=1
                    ),
                    self._labelled[item],
                ),
            )
            for item in GrainClass
        }


def precision_curves(
    confidence: FloatArray, hits: NDArray[np.bool_], labelled: int
) -> NDArray[np.float64]:
    """Return the precision at the 101 recalls.

    Args:
        confidence: `(N,)` of the detections of all pictures.
        hits: `(levels, N)` mask of those that matched a label.
        labelled: Number of labelled grains.

    Returns:
        `(levels, 101)`.
    """
    curves = np.zeros((len(hits), len(RECALL_POINTS)))
    if not labelled or not len(confidence):
        return curves
    right = np.cumsum(hits[:, np.argsort(-confidence, kind="stable")], axis=1)
    precision = right / np.arange(1, len(confidence) + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for level, recall in enumerate(right / labelled):
        places = np.searchsorted(recall, RECALL_POINTS, side="left")
        reached = places < len(recall)
        curves[level, reached] = envelope[level, places[reached]]
    return curves
