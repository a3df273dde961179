"""The figures of an evaluation: what is added up over pictures, and how sure it is."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.evaluation.matching import BACKGROUND, PictureScore
from pollen.statistics.intervals import Interval, clustered_viability

SIZE_CLASSES = (("small", 0.0, 0.7), ("typical", 0.7, 1.4), ("large", 1.4, float("inf")))
"""Names and bounds of grain sizes, as multiples of the median labelled diameter."""


@dataclass(frozen=True)
class Summary:
    """Scores of several pictures together; viability is pooled over them.

    Attributes:
        pictures: Number of pictures.
        grains: Labelled grains.
        found: Detected grains.
        count_error: Sum over pictures of the absolute difference of the two, so that one picture's
            surplus does not hide another's lack.
        false: Detected grains that match no label.
        missed: Labelled grains that match no detection.
        confused: Detected grains that match a label of the other class.
        viability_true: Viable of all labelled grains, percent; ``None`` where there is no grain.
        viability_found: Viable of all detected grains, percent; ``None`` where there is none.
    """

    pictures: int
    grains: int
    found: int
    count_error: int
    false: int
    missed: int
    confused: int
    viability_true: float | None
    viability_found: float | None

    @property
    def bias(self) -> int:
        """Detected minus labelled grains: what remains where surplus and lack cancel."""
        return self.found - self.grains

    @property
    def count_error_percent(self) -> float | None:
        """Count error per 100 labelled grains; ``None`` without any."""
        return 100 * self.count_error / self.grains if self.grains else None

    @property
    def bias_percent(self) -> float | None:
        """Detected minus labelled grains, per 100 labelled ones; ``None`` without any."""
        return 100 * self.bias / self.grains if self.grains else None

    @property
    def viability_error(self) -> float | None:
        """Detected minus labelled viability, percentage points; ``None`` where one is unknown."""
        if self.viability_true is None or self.viability_found is None:
            return None
        return self.viability_found - self.viability_true


def summarise(scores: Sequence[PictureScore]) -> Summary:
    """Add up the scores of several pictures."""
    true = np.array([score.true_counts for score in scores], np.int64).reshape(-1, 2)
    found = np.array([score.found_counts for score in scores], np.int64).reshape(-1, 2)
    return Summary(
        pictures=len(scores),
        grains=int(true.sum()),
        found=int(found.sum()),
        count_error=sum(abs(score.bias) for score in scores),
        false=sum(int(score.false.sum()) for score in scores),
        missed=sum(int(score.missed.sum()) for score in scores),
        confused=sum(int(score.confused.sum()) for score in scores),
        viability_true=viability_percent(true.sum(axis=0)),
        viability_found=viability_percent(found.sum(axis=0)),
    )


def viability_percent(counts: NDArray[np.int64]) -> float | None:
    """Viable of all grains from ``(2,)`` counts, percent; ``None`` where there is no grain."""
    total = int(counts.sum())
    return 100 * int(counts[0]) / total if total else None


def summaries_by(
    scores: Sequence[PictureScore], part_of: Callable[[PictureScore], str]
) -> dict[str, Summary]:
    """Summaries of the pictures that have a part (such as the slide) in common, by its name."""
    parts: dict[str, list[PictureScore]] = defaultdict(list)
    for score in scores:
        parts[part_of(score)].append(score)
    return {name: summarise(parts[name]) for name in sorted(parts)}


@dataclass(frozen=True)
class Rate:
    """How often grains of one class are called the other.

    Attributes:
        events: Grains called the other class.
        grains: Labelled grains of the class that were found at all.
        interval: With 95 % bounds; ``None`` where no grain was found.
        unit: What was taken as independent of each other.
        units: How many of them had such grains.
    """

    events: int
    grains: int
    interval: Interval | None
    unit: Literal["group", "picture"]
    units: int


def called_wrong(scores: Sequence[PictureScore], grain_class: GrainClass) -> Rate:
    """How often found grains of a class are called the other.

    Grains of one plant share stain and light, so the mistakes of a model come in clusters and the
    plant is the unit (:func:`pollen.statistics.intervals.clustered_viability`); where all pictures are of one
    plant, the picture is.
    """
    groups = {score.picture.group for score in scores}
    unit: Literal["group", "picture"] = "group" if len(groups) > 1 else "picture"
    counts: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(2, np.int64))
    for score in scores:
        name = score.picture.group if unit == "group" else score.picture.name
        right = score.confusion[grain_class, grain_class]
        wrong = score.confusion[grain_class, 1 - grain_class]
        counts[name] += np.array([wrong, right])
    table = np.array([pair for pair in counts.values() if pair.sum()], np.int64).reshape(-1, 2)
    interval = clustered_viability(table[:, 0], table[:, 1])
    return Rate(int(table[:, 0].sum()), int(table.sum()), interval, unit, len(table))


@dataclass(frozen=True)
class Agreement:
    """Agreement of two measurements of the same things (Bland & Altman, Lancet 327:307, 1986).

    Attributes:
        means: ``(N,)`` mean of found and labelled.
        differences: ``(N,)`` found minus labelled.
    """

    means: NDArray[np.float64]
    differences: NDArray[np.float64]

    @property
    def bias(self) -> float:
        """Mean difference."""
        return float(self.differences.mean()) if len(self.differences) else 0.0

    @property
    def limits(self) -> tuple[float, float] | None:
        """Bias -+ 1.96 standard deviations, where 95 % of differences lie; ``None`` for one pair."""
        if len(self.differences) < 2:
            return None
        spread = 1.96 * float(self.differences.std(ddof=1))
        return self.bias - spread, self.bias + spread

    @classmethod
    def of_counts(cls, scores: Sequence[PictureScore]) -> "Agreement":
        """Grains per picture."""
        found = np.array([len(score.found) for score in scores], np.float64)
        true = np.array([len(score.picture.truth) for score in scores], np.float64)
        return cls((found + true) / 2, found - true)

    @classmethod
    def of_viability(cls, summaries: Sequence[Summary]) -> "Agreement":
        """Viability in percent of those parts where labels and model both have grains."""
        pairs = np.array(
            [
                (item.viability_found, item.viability_true)
                for item in summaries
                if item.viability_error is not None
            ],
            np.float64,
        ).reshape(-1, 2)
        return cls(pairs.mean(axis=1), pairs[:, 0] - pairs[:, 1])


@dataclass(frozen=True)
class SizeRecall:
    """How many labelled grains of a size were found.

    Attributes:
        name: Of the size class.
        low_px: Smallest diameter, pixels.
        high_px: Largest diameter, pixels; infinite for the last class.
        grains: Labelled grains.
        found: Those of them found, whatever their class.
    """

    name: str
    low_px: float
    high_px: float
    grains: int
    found: int


def recall_by_size(scores: Sequence[PictureScore]) -> tuple[SizeRecall, ...]:
    """Found grains among small, typical and large ones; empty where nothing is labelled."""
    diameters = np.concatenate([np.zeros(0), *(s.picture.truth.diameters_px for s in scores)])
    missed = np.concatenate([np.zeros(0, np.bool_), *(score.missed for score in scores)])
    if not len(diameters):
        return ()
    median = float(np.median(diameters))
    rows = []
    for name, low, high in SIZE_CLASSES:
        inside = (diameters >= low * median) & (diameters < high * median)
        rows.append(
            SizeRecall(
                name,
                low * median,
                high * median,
                int(inside.sum()),
                int((inside & ~missed).sum()),
            )
        )
    return tuple(rows)


def diameter_error_percent(scores: Sequence[PictureScore]) -> tuple[float, float] | None:
    """Median signed and median absolute error of the diameters of matched grains, percent."""
    pairs = np.concatenate([np.zeros((0, 2)), *(score.diameters_px for score in scores)])
    if not len(pairs):
        return None
    error = 100 * (pairs[:, 0] / np.maximum(pairs[:, 1], 1) - 1)
    return float(np.median(error)), float(np.median(np.abs(error)))


def confusion(scores: Sequence[PictureScore]) -> NDArray[np.int64]:
    """``(3, 3)`` confusion matrix of all pictures, see :attr:`PictureScore.confusion`."""
    total = np.zeros((BACKGROUND + 1, BACKGROUND + 1), np.int64)
    for score in scores:
        total += score.confusion
    return total
