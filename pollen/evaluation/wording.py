"""An evaluation in sentences and table cells, for people who count pollen and train no models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pollen.classes import GrainClass
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.figures import Rate, Summary

_UNITS = {"group": "plants", "picture": "pictures"}


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure with its unit, or a dash where nothing is known."""
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def signed(value: float | None) -> str:
    """A difference in percentage points, with its sign where it is not zero."""
    if value is None:
        return "-"
    text = f"{value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def rate(value: Rate) -> str:
    """A rate with its interval and what it stands on."""
    if value.interval is None:
        return "-"
    found = value.interval
    return (
        f"{100 * found.estimate:.1f} % ({value.events} of {value.grains} grains of {value.units} "
        f"{_UNITS[value.unit]}; 95 % interval {100 * found.low:.1f} to {100 * found.high:.1f} %)"
    )


@dataclass(frozen=True)
class Standing:
    """On how many pictures the count of one model is closer to the labels than that of another."""

    closer: int
    further: int
    equal: int

    @classmethod
    def of(cls, new: Evaluation, production: Evaluation) -> "Standing":
        """Compare picture by picture."""
        pairs = zip(new.scores, production.scores, strict=True)
        gains = [abs(theirs.bias) - abs(own.bias) for own, theirs in pairs]
        closer, further = sum(gain > 0 for gain in gains), sum(gain < 0 for gain in gains)
        return cls(closer, further, len(gains) - closer - further)


def sentences(new: Evaluation, production: Evaluation | None) -> tuple[str, ...]:
    """What was found, in plain sentences."""
    return tuple(
        sentence
        for sentence in (
            _counts(new.overall, production.overall if production else None),
            _standing(Standing.of(new, production)) if production else "",
            _viability(new.overall, production.overall if production else None),
            _called_non_viable(new),
            _called_viable(new),
        )
        if sentence
    )


def _counts(new: Summary, production: Summary | None) -> str:
    beside = (
        f" (production model: {number(production.count_error_percent)} %)" if production else ""
    )
    share = f", {number(new.count_error_percent)} % of all grains{beside}" if new.grains else ""
    return (
        f"Counting: {new.grains:,} grains are labelled, the new model found {new.found:,}. Picture by "
        f"picture the differences add up to {new.count_error:,} grains{share}. It missed "
        f"{new.missed:,} labelled grains and found {new.false:,} where none is labelled."
    )


def _standing(standing: Standing) -> str:
    return (
        f"Its count is closer to the labels than that of the production model on {standing.closer:,} "
        f"pictures, further away on {standing.further:,}, and equally far on {standing.equal:,}."
    )


def _viability(new: Summary, production: Summary | None) -> str:
    if new.viability_true is None or new.viability_error is None:
        return "Viability: there are no labelled grains, or none was found, so nothing can be said."
    beside = (
        f"; the production model says {number(production.viability_found)} % "
        f"({signed(production.viability_error)})"
        if production and production.viability_error is not None
        else ""
    )
    return (
        f"Viability: {new.viability_true:.1f} % of the labelled grains are stained viable; the new model "
        f"says {number(new.viability_found)} % ({signed(new.viability_error)} percentage points){beside}."
    )


def _called_non_viable(new: Evaluation) -> str:
    wrong = new.called_wrong[GrainClass.VIABLE]
    if wrong.interval is None:
        return ""
    left = 99 * (1 - wrong.interval.estimate)
    return (
        f"Of the viable grains it finds, it calls {rate(wrong)} non-viable. In a sample that is 99 % "
        f"viable, this mistake alone would make {left:.1f} % of it."
    )


def _called_viable(new: Evaluation) -> str:
    wrong = new.called_wrong[GrainClass.NON_VIABLE]
    if wrong.interval is None:
        return ""
    return f"Of the non-viable grains it finds, it calls {rate(wrong)} viable."


@dataclass(frozen=True)
class Row:
    """One figure of both models.

    Attributes:
        name: Of the figure.
        new: Of the new model.
        production: Of the one in production; empty where there is none.
        meaning: What it tells.
        better: ``new`` or ``production``, or empty where they are equal or can't be compared.
    """

    name: str
    new: str
    production: str
    meaning: str
    better: str


@dataclass(frozen=True)
class _Figure:
    """How to take a figure from an evaluation, and how to write it; small is good or large is."""

    name: str
    take: Callable[[Evaluation], float | None]
    form: str
    meaning: str
    large_is_good: bool = False

    def row(self, new: Evaluation, production: Evaluation | None) -> Row:
        """The figure of both models."""
        own = self.take(new)
        theirs = self.take(production) if production else None
        better = ""
        if own is not None and theirs is not None and abs(own) != abs(theirs):
            better = "new" if (abs(own) > abs(theirs)) == self.large_is_good else "production"
        return Row(
            self.name,
            self._text(own),
            self._text(theirs) if production else "",
            self.meaning,
            better,
        )

    def _text(self, value: float | None) -> str:
        return "-" if value is None else self.form.format(value)


def _wrong(grain_class: GrainClass) -> Callable[[Evaluation], float | None]:
    def take(evaluation: Evaluation) -> float | None:
        interval = evaluation.called_wrong[grain_class].interval
        return 100 * interval.estimate if interval else None

    return take


_FIGURES: Sequence[_Figure] = (
    _Figure(
        "count error",
        lambda e: e.overall.count_error_percent,
        "{:.2f} %",
        "differences of all pictures added up, per 100 labelled grains",
    ),
    _Figure(
        "count bias",
        lambda e: e.overall.bias_percent,
        "{:+.2f} %",
        "the same, but surplus and lack cancel: what remains in large samples",
    ),
    _Figure(
        "viability error",
        lambda e: e.overall.viability_error,
        "{:+.2f}",
        "found minus labelled viability of all grains together, percentage points",
    ),
    _Figure(
        "viable called non-viable",
        _wrong(GrainClass.VIABLE),
        "{:.2f} %",
        "of the viable grains that were found; decides the result of very viable samples",
    ),
    _Figure(
        "non-viable called viable",
        _wrong(GrainClass.NON_VIABLE),
        "{:.2f} %",
        "of the non-viable grains that were found",
    ),
    _Figure("missed grains", lambda e: e.overall.missed, "{:d}", "labelled, but not found"),
    _Figure("false grains", lambda e: e.overall.false, "{:d}", "found where none is labelled"),
    _Figure(
        "mAP50, viable",
        lambda e: e.map50[GrainClass.VIABLE.label],
        "{:.4f}",
        "1 is perfect: precision over all thresholds",
        large_is_good=True,
    ),
    _Figure(
        "mAP50, non-viable",
        lambda e: e.map50[GrainClass.NON_VIABLE.label],
        "{:.4f}",
        "the same for the rarer and harder class",
        large_is_good=True,
    ),
    _Figure(
        "mAP50-95",
        lambda e: e.map50_95,
        "{:.4f}",
        "mean of both classes; also asks how exactly boxes fit",
        large_is_good=True,
    ),
)


def rows(new: Evaluation, production: Evaluation | None) -> tuple[Row, ...]:
    """The table of figures."""
    return tuple(figure.row(new, production) for figure in _FIGURES)
