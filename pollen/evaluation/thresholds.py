"""Choose what a card leaves open, confidence and viable odds, by counts and viability.

mAP depends on no confidence threshold, and the best F1 is not the best count: a threshold is right if
surplus and lack cancel picture by picture, and the class rule is right if viability is right plant by
plant. (The odds by which classes are called do change mAP: it is that of the classes a user gets.)
Labelled pictures hold many more non-viable grains than usual samples (97 % viable in the median of
the laboratory's): there viability is wrong by the viable grains that are called non-viable, and so
they count too.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.evaluation.evaluate import find_grains
from pollen.evaluation.figures import viability_percent
from pollen.evaluation.matching import by_class, score_picture
from pollen.models.card import ModelCard

CONFIDENCES: Final = tuple(round(0.1 + 0.05 * step, 2) for step in range(15))
#: Viable odds that are tried: from the likelier class to caution about calling a grain viable.
ODDS: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Sweep:
    """Errors on one set of pictures at every pair of thresholds.

    Attributes:
        name: Of the set.
        count_error_percent: `(confidences, odds)` sum over pictures of the absolute count error,
            per 100 labelled grains.
        viability_error: `(confidences, odds)` mean over groups, weighted by their labelled
            grains, of the absolute viability error, percentage points.
        called_non_viable: `(confidences, odds)` viable grains called non-viable, per 100 viable
            ones found: the viability error in a sample without non-viable grains.
    """

    name: str
    count_error_percent: NDArray[np.float64]
    viability_error: NDArray[np.float64]
    called_non_viable: NDArray[np.float64]

    @property
    def cost(self) -> NDArray[np.float64]:
        """The sum of the three errors, which is to be small."""
        return self.count_error_percent + self.viability_error + self.called_non_viable


@dataclass(frozen=True)
class Thresholds:
    """The chosen pair, and its errors on the sets it was chosen by (means over them)."""

    confidence: float
    viable_odds: float
    count_error_percent: float
    viability_error: float
    called_non_viable: float

    def on(self, card: ModelCard) -> ModelCard:
        """Return a card with these thresholds."""
        return card.model_copy(
            update={"confidence": self.confidence, "viable_odds": self.viable_odds}
        )


def choose_thresholds(sweeps: Sequence[Sweep]) -> Thresholds:
    """Return the pair with the smallest mean cost over the sets and over its neighbours.

    The neighbours count because few pictures make a ragged surface: the middle of a good region
    holds on other plants, a lucky point does not. Of pairs that are equally good the one with the
    odds nearest to even is taken, and of its confidences the one in the middle.
    """
    smoothed = _smoothed(np.mean([sweep.cost for sweep in sweeps], axis=0))
    best = np.argwhere(smoothed <= smoothed.min() + 1e-9)
    column = int(best[:, 1].min())
    rows = best[best[:, 1] == column, 0]
    row = int(rows[len(rows) // 2])
    return Thresholds(
        confidence=CONFIDENCES[row],
        viable_odds=ODDS[column],
        count_error_percent=float(np.mean([s.count_error_percent[row, column] for s in sweeps])),
        viability_error=float(np.mean([s.viability_error[row, column] for s in sweeps])),
        called_non_viable=float(np.mean([s.called_non_viable[row, column] for s in sweeps])),
    )


def _smoothed(cost: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `(R, C)` mean of each value and its neighbours, the value itself counting four times."""
    near = np.pad(cost, 1, mode="edge")
    around = [
        near[i : i + cost.shape[0], j : j + cost.shape[1]] for i in range(3) for j in range(3)
    ]
    return np.asarray((sum(around) + 3 * cost) / 12)


def sweep(
    name: str,
    pictures: Sequence[LabelledPicture],
    weights: Path,
    card: ModelCard,
    cache: Path,
    settings: DetectSettings | None = None,
) -> Sweep:
    """Measure the errors at every pair of thresholds.

    The model runs once for each of `ODDS`: the class is decided where raw scores are decoded.
    All confidences come from one run. (At the seams of tiles, a weak detection may stand for a stronger
    one, so that counts of pictures of many tiles can differ by a grain from a run at that
    confidence. The evaluation counts at the chosen one.)

    Args:
        name: Name of this set of pictures.
        pictures: With at least one labelled grain among them.
        weights: The `.pt` file.
        card: Its card; its thresholds are not used.
        cache: Folder for the prepared model.
        settings: Of detection, such as the device.

    Raises:
        PollenError: If no grain is labelled.
    """
    labelled = sum(len(picture.truth) for picture in pictures)
    if not labelled:
        raise PollenError(
            f"{name}: no labelled grain among {len(pictures)} pictures, so no threshold can be chosen by it"
        )
    wanted = settings or DetectSettings.model_validate({})
    unsure = wanted.model_copy(update={"confidence": CONFIDENCES[0]})
    true = np.array([by_class(picture.truth.classes) for picture in pictures], np.int64)
    groups = [picture.group for picture in pictures]
    errors = np.zeros((3, len(CONFIDENCES), len(ODDS)))
    for column, odds in enumerate(ODDS):
        trial = card.model_copy(update={"viable_odds": odds})
        found, viable = _counts(find_grains(pictures, weights, trial, cache, unsure))
        for row in range(len(CONFIDENCES)):
            difference = np.abs(found[row].sum(axis=1) - true.sum(axis=1))
            errors[0, row, column] = 100 * difference.sum() / labelled
            errors[1, row, column] = mean_viability_error(true, found[row], groups)
            errors[2, row, column] = 100 * viable[row, 1] / max(viable[row].sum(), 1)
    return Sweep(name, *errors)


def _counts(
    found: Iterable[tuple[LabelledPicture, Grains]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count grains at each confidence.

    Returns:
        `(confidences, pictures, 2)` found grains, viable and non-viable; and `(confidences, 2)`
        the classes of the labelled viable grains among them.
    """
    counts, viable = [], np.zeros((len(CONFIDENCES), len(GrainClass)), np.int64)
    for picture, grains in found:
        # The confident choose their labels first, so those of a higher threshold choose the same.
        score = score_picture(picture, grains)
        classes, confidence = score.found.classes, score.found.confidence
        right = np.append(picture.truth.classes, -1)[score.labels] == GrainClass.VIABLE
        sure = [confidence >= least for least in CONFIDENCES]
        counts.append([by_class(classes[row]) for row in sure])
        viable += np.array([by_class(classes[row & right]) for row in sure])
    return np.array(counts, np.int64).transpose(1, 0, 2), viable


def mean_viability_error(
    true: NDArray[np.int64], found: NDArray[np.int64], groups: Sequence[str]
) -> float:
    """Return the mean absolute viability error over groups, weighted by their labelled grains.

    A group of which no grain is found counts with 100 points: lower confidence can only help it.

    Args:
        true: `(pictures, 2)` labelled grains, viable and non-viable.
        found: `(pictures, 2)` the same for found grains.
        groups: Of each picture.

    Returns:
        Percentage points.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    weighted = 0.0
    for places in members.values():
        labelled = true[places].sum(axis=0)
        expected, reached = (
            viability_percent(labelled),
            viability_percent(found[places].sum(axis=0)),
        )
        if expected is not None:
            error = 100.0 if reached is None else abs(reached - expected)
            weighted += error * float(labelled.sum())
    return weighted / max(float(true.sum()), 1)
