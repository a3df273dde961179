"""Add up the figures of an evaluation over pictures."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.evaluation.matching import BACKGROUND, PictureScore
from pollen.evaluation.record import (
    AgreementFigures,
    DiameterError,
    PartFigures,
    Rate,
    SizeRecall,
)
from pollen.statistics.intervals import clustered_viability

#: Names and lower bounds of grain sizes, as multiples of the median labelled diameter.
SIZE_CLASSES = (("small", 0.0), ("typical", 0.7), ("large", 1.4))


def summarise(scores: Sequence[PictureScore]) -> PartFigures:
    """Add up the scores of several pictures; viability is pooled over them."""
    true = np.array([score.true_counts for score in scores], np.int64).reshape(-1, 2)
    found = np.array([score.found_counts for score in scores], np.int64).reshape(-1, 2)
    grains, detected = int(true.sum()), int(found.sum())
    count_error = sum(abs(score.bias) for score in scores)
    labelled, reached = viability_percent(true.sum(axis=0)), viability_percent(found.sum(axis=0))
    return PartFigures(
        pictures=len(scores),
        grains=grains,
        found=detected,
        count_error=count_error,
        count_error_percent=100 * count_error / grains if grains else None,
        bias_percent=100 * (detected - grains) / grains if grains else None,
        false=sum(int(score.false.sum()) for score in scores),
        missed=sum(int(score.missed.sum()) for score in scores),
        confused=sum(int(score.confused.sum()) for score in scores),
        viability_true=labelled,
        viability_found=reached,
        viability_error=None if labelled is None or reached is None else reached - labelled,
    )


def viability_percent(counts: NDArray[np.int64]) -> float | None:
    """Return viable of all grains from `(2,)` counts, percent; `None` without grains."""
    total = int(counts.sum())
    return 100 * int(counts[0]) / total if total else None


def summaries_by(
    scores: Sequence[PictureScore], part_of: Callable[[PictureScore], str]
) -> dict[str, PartFigures]:
    """Return the figures of each part of the pictures (such as a slide), by its name."""
    parts: dict[str, list[PictureScore]] = defaultdict(list)
    for score in scores:
        parts[part_of(score)].append(score)
    return {name: summarise(parts[name]) for name in sorted(parts)}


def called_wrong(scores: Sequence[PictureScore], grain_class: GrainClass) -> Rate:
    """Return how often found grains of a class are called the other, with an interval.

    Grains of one plant share stain and light, so the mistakes of a model come in clusters and the plant is the unit
    (`pollen.statistics.intervals.clustered_viability`). If all pictures are of one plant, the picture is the unit.
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
    return Rate(
        fraction=interval.estimate if interval else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        events=int(table[:, 0].sum()),
        grains=int(table.sum()),
        unit=unit,
        units=len(table),
    )


@dataclass(frozen=True)
class Agreement:
    """Agreement of two measurements of the same things (Bland & Altman, Lancet 327:307, 1986).

    Attributes:
        means: `(N,)` mean of found and labelled.
        differences: `(N,)` found minus labelled.
    """

    means: NDArray[np.float64]
    differences: NDArray[np.float64]

    @property
    def bias(self) -> float:
        """The mean difference."""
        return float(self.differences.mean()) if len(self.differences) else 0.0

    @property
    def limits(self) -> tuple[float, float] | None:
        """Bias -+ 1.96 standard deviations, which holds 95 % of differences; `None` for fewer than two pairs."""
        if len(self.differences) < 2:
            return None
        spread = 1.96 * float(self.differences.std(ddof=1))
        return self.bias - spread, self.bias + spread

    def figures(self) -> AgreementFigures:
        """Return bias and limits for the record."""
        limits = self.limits
        return AgreementFigures(
            n=len(self.differences),
            bias=round(self.bias, 2),
            limits_of_agreement=(round(limits[0], 2), round(limits[1], 2)) if limits else None,
        )

    @classmethod
    def of_counts(cls, scores: Sequence[PictureScore]) -> "Agreement":
        """Compare the grains of each picture."""
        found = np.array([len(score.found) for score in scores], np.float64)
        true = np.array([len(score.picture.truth) for score in scores], np.float64)
        return cls((found + true) / 2, found - true)

    @classmethod
    def of_viability(cls, parts: Sequence[PartFigures]) -> "Agreement":
        """Compare viability, in percent, of the parts in which labels and model both have grains."""
        pairs = np.array(
            [
                (item.viability_found, item.viability_true)
                for item in parts
                if item.viability_error is not None
            ],
            np.float64,
        ).reshape(-1, 2)
        return cls(pairs.mean(axis=1), pairs[:, 0] - pairs[:, 1])


def recall_by_size(scores: Sequence[PictureScore]) -> tuple[SizeRecall, ...]:
    """Count found grains among small, typical and large ones; empty if nothing is labelled."""
    diameters = np.concatenate([np.zeros(0), *(s.picture.truth.diameters_px for s in scores)])
    missed = np.concatenate([np.zeros(0, np.bool_), *(score.missed for score in scores)])
    if not len(diameters):
        return ()
    median = float(np.median(diameters))
    bounds = [*(low * median for _, low in SIZE_CLASSES), float("inf")]
    rows = []
    for (name, _), low, high in zip(SIZE_CLASSES, bounds, bounds[1:], strict=False):
        inside = (diameters >= low) & (diameters < high)
        rows.append(
            SizeRecall(
                name=name,
                from_px=low,
                grains=int(inside.sum()),
                found=int((inside & ~missed).sum()),
            )
        )
    return tuple(rows)


def diameter_error(scores: Sequence[PictureScore]) -> DiameterError:
    """Compare the diameters of matched grains."""
    pairs = np.concatenate([np.zeros((0, 2)), *(score.diameters_px for score in scores)])
    if not len(pairs):
        return DiameterError(median=None, median_absolute=None)
    error = 100 * (pairs[:, 0] / np.maximum(pairs[:, 1], 1) - 1)
    return DiameterError(
        median=float(np.median(error)), median_absolute=float(np.median(np.abs(error)))
    )


def confusion(scores: Sequence[PictureScore]) -> NDArray[np.int64]:
    """Return the `(3, 3)` confusion matrix of all pictures, see `PictureScore.confusion`."""
    total = np.zeros((BACKGROUND + 1, BACKGROUND + 1), np.int64)
    for score in scores:
        total += score.confusion
    return total


def confusion_by_label(table: NDArray[np.int64]) -> dict[str, dict[str, int]]:
    """Return a `(3, 3)` confusion matrix by names: rows are labels, columns the model's classes."""
    classes = {item.label: int(item) for item in GrainClass}
    return {
        **{
            row: {
                **{column: int(table[number, place]) for column, place in classes.items()},
                "missed": int(table[number, BACKGROUND]),
            }
            for row, number in classes.items()
        },
        "no_grain": {column: int(table[BACKGROUND, place]) for column, place in classes.items()},
    }


@dataclass(frozen=True)
class Closeness:
    """On how many pictures the count of one model is closer to the labels than that of another.

    Attributes:
        closer: Pictures on which it is closer.
        further: Pictures on which it is further away.
        equal: Pictures on which both are equally far.
    """

    closer: int
    further: int
    equal: int

    @classmethod
    def of(cls, new: Sequence[PictureScore], other: Sequence[PictureScore]) -> "Closeness":
        """Compare picture by picture; both models saw the same pictures."""
        gains = [abs(theirs.bias) - abs(own.bias) for own, theirs in zip(new, other, strict=True)]
        closer, further = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        return cls(closer, further, len(gains) - closer - further)
