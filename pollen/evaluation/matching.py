"""Match detections with labelled grains, and score one picture."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains, overlaps

#: Detection and label are one grain if their boxes overlap by at least this much.
MATCH_IOU = 0.5

#: Row and column of the confusion matrix that stand for *no grain*.
BACKGROUND = len(GrainClass)


def overlap_matrix(boxes: FloatArray, truth: FloatArray) -> FloatArray:
    """Return the `(N, M)` intersection over union of `N` boxes with `M` others, xyxy."""
    rows = [overlaps(box, truth)[0] for box in boxes]
    return np.array(rows, np.float32).reshape(len(boxes), len(truth))


def match(iou: FloatArray, least_iou: float = MATCH_IOU) -> NDArray[np.int64]:
    """Give each detection the label it overlaps most, each label once; detections choose in order.

    This is the greedy matching of COCO (Lin et al., ECCV 2014), whose order is by confidence.

    Args:
        iou: `(N, M)` overlap of detections and labels.
        least_iou: Smallest overlap of a pair.

    Returns:
        `(N,)` number of each detection's label, -1 if it has none.
    """
    free = iou.copy()
    chosen = np.full(len(iou), -1, np.int64)
    for number in range(len(iou) if iou.shape[1] else 0):
        best = int(free[number].argmax())
        if free[number, best] >= least_iou:
            chosen[number] = best
            free[:, best] = -1
    return chosen


@dataclass(frozen=True)
class PictureScore:
    """The grains found in one picture, compared with its labels.

    Attributes:
        picture: With its labels.
        found: Detected grains, the most confident first.
        labels: `(N,)` label of each detected grain, -1 for false ones.
    """

    picture: LabelledPicture
    found: Grains
    labels: NDArray[np.int64]

    @property
    def true_counts(self) -> tuple[int, int]:
        """Labelled grains: viable, non-viable."""
        return by_class(self.picture.truth.classes)

    @property
    def found_counts(self) -> tuple[int, int]:
        """Detected grains: viable, non-viable."""
        return by_class(self.found.classes)

    @property
    def bias(self) -> int:
        """Detected minus labelled grains."""
        return len(self.found) - len(self.picture.truth)

    @property
    def false(self) -> NDArray[np.bool_]:
        """`(N,)` mask of the detected grains that match no label."""
        return np.asarray(self.labels < 0, np.bool_)

    @property
    def missed(self) -> NDArray[np.bool_]:
        """`(M,)` mask of the labelled grains that match no detection."""
        missed = np.ones(len(self.picture.truth), np.bool_)
        missed[self.labels[~self.false]] = False
        return missed

    @property
    def confused(self) -> NDArray[np.bool_]:
        """`(N,)` mask of the detected grains that match a label of the other class."""
        wrong = np.zeros(len(self.found), np.bool_)
        pairs = np.flatnonzero(~self.false)
        wrong[pairs] = self.found.classes[pairs] != self.picture.truth.classes[self.labels[pairs]]
        return wrong

    @property
    def mistakes(self) -> int:
        """The number of false, missed and wrongly classed grains."""
        return int(self.false.sum() + self.missed.sum() + self.confused.sum())

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """`(3, 3)` grains by label (rows) and by the class the model gave them (columns).

        Order: viable, non-viable, background. The last row holds false grains, the last column
        missed ones.
        """
        table = np.zeros((BACKGROUND + 1, BACKGROUND + 1), np.int64)
        paired = np.where(self.false, 0, self.labels)
        classes = np.append(self.picture.truth.classes, BACKGROUND)  # never empty
        rows = np.where(self.false, BACKGROUND, classes[paired])
        np.add.at(table, (rows, self.found.classes), 1)
        np.add.at(table[:, BACKGROUND], self.picture.truth.classes[self.missed], 1)
        return table

    @property
    def diameters_px(self) -> FloatArray:
        """`(P, 2)` detected and labelled diameter of the matched grains, pixels."""
        pairs = np.flatnonzero(~self.false)
        labelled = self.picture.truth.diameters_px[self.labels[pairs]]
        return np.stack([self.found.diameters_px[pairs], labelled], axis=1)


def by_class(classes: NDArray[np.int64]) -> tuple[int, int]:
    """Return the numbers of viable and of non-viable grains among `(N,)` classes."""
    viable = int(np.count_nonzero(classes == GrainClass.VIABLE))
    return viable, len(classes) - viable


def to_judge(picture: LabelledPicture, grains: Grains) -> Grains:
    """Return the grains found in a picture that can be judged, the most confident first.

    A grain whose label says `unsure` is neither right nor wrong: what was found there is left out,
    unless it overlaps a sure label more.
    """
    found = grains.take(np.argsort(-grains.confidence, kind="stable"))
    if not len(picture.unsure):
        return found
    unsure = overlap_matrix(found.boxes, picture.unsure).max(axis=1)
    sure = overlap_matrix(found.boxes, picture.truth.boxes).max(axis=1, initial=0)
    return found.take((unsure < MATCH_IOU) | (unsure < sure))


def score_picture(picture: LabelledPicture, grains: Grains) -> PictureScore:
    """Compare the grains found in a picture, whatever their class, with its labels."""
    found = to_judge(picture, grains)
    return PictureScore(picture, found, match(overlap_matrix(found.boxes, picture.truth.boxes)))
