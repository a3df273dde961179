"""The figures of an evaluation in sentences and table cells, for people who count pollen and train no models."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pollen.classes import GrainClass
from pollen.evaluation.record import Metrics, ModelFigures, PartFigures, Rate

if TYPE_CHECKING:
    from pollen.evaluation.figures import Closeness

_UNITS = {"group": "plants", "picture": "pictures"}


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """Return a figure with its unit, or a dash if it is not known."""
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def signed(value: float | None) -> str:
    """Return a difference in percentage points, with its sign unless it is zero."""
    if value is None:
        return "-"
    text = f"{value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def rate(value: Rate) -> str:
    """Return a rate with its interval and what it is based on."""
    if value.fraction is None or value.low is None or value.high is None:
        return "-"
    return (
        f"{100 * value.fraction:.1f} % ({value.events} of {value.grains} grains of {value.units} "
        f"{_UNITS.get(value.unit or '', 'groups')}; 95 % interval {100 * value.low:.1f} to {100 * value.high:.1f} %)"
    )


def headline(metrics: Metrics) -> str:
    """Return the figures a person wants first, in one line."""
    overall = metrics.new.overall
    count, viability = overall.count_error_percent, overall.viability_error
    return (
        f"on {overall.grains} grains of {metrics.split}: "
        f"count error {'unknown' if count is None else f'{count:.2f} %'}, "
        f"viability error {'unknown' if viability is None else f'{viability:+.2f} points'}"
    )


def sentences(
    new: ModelFigures, production: ModelFigures | None, closeness: "Closeness | None"
) -> tuple[str, ...]:
    """Return what was found, in plain sentences.

    Args:
        new: Figures of the new model.
        production: Figures of the model in production, if there is one.
        closeness: How often the count of the new model is the better one, if there are two.
    """
    beside = production.overall if production else None
    return tuple(
        sentence
        for sentence in (
            _counts(new.overall, beside),
            _closeness(closeness) if closeness else "",
            _viability(new.overall, beside),
            _called_non_viable(_called_wrong(new, GrainClass.VIABLE)),
            _called_viable(_called_wrong(new, GrainClass.NON_VIABLE)),
        )
        if sentence
    )


def _counts(new: PartFigures, production: PartFigures | None) -> str:
    beside = (
        f" (production model: {number(production.count_error_percent)} %)" if production else ""
    )
    share = f", {number(new.count_error_percent)} % of all grains{beside}" if new.grains else ""
    return (
        f"Counting: {number(new.grains, 0)} grains are labelled, and the new model found {number(new.found, 0)}. The "
        f"differences of the single pictures add up to {number(new.count_error, 0)} grains{share}. The model missed "
        f"{number(new.missed, 0)} labelled grains and found {number(new.false, 0)} that are not labelled."
    )


def _closeness(closeness: "Closeness") -> str:
    return (
        "Its count is closer to the labels than the count of the production model on "
        f"{closeness.closer:,} pictures, further away on {closeness.further:,}, and equally far on {closeness.equal:,}."
    )


def _viability(new: PartFigures, production: PartFigures | None) -> str:
    if new.viability_true is None or new.viability_error is None:
        return "Viability: not known, because no grain is labelled or none was found."
    beside = (
        f"; the production model finds {number(production.viability_found)} % "
        f"({signed(production.viability_error)})"
        if production and production.viability_error is not None
        else ""
    )
    return (
        f"Viability: {new.viability_true:.1f} % of the labelled grains are stained viable; the new model "
        f"finds {number(new.viability_found)} % ({signed(new.viability_error)} percentage points){beside}."
    )


def _called_non_viable(wrong: Rate) -> str:
    if wrong.fraction is None:
        return ""
    left = 99 * (1 - wrong.fraction)
    return (
        f"Of the viable grains that it finds, it calls {rate(wrong)} non-viable. In a sample that is 99 % viable, "
        f"this error alone would lower the result to {left:.1f} %."
    )


def _called_viable(wrong: Rate) -> str:
    if wrong.fraction is None:
        return ""
    return f"Of the non-viable grains that it finds, it calls {rate(wrong)} viable."


def _called_wrong(figures: ModelFigures, grain_class: GrainClass) -> Rate:
    return figures.called_wrong.get(grain_class.label, Rate())


@dataclass(frozen=True)
class Row:
    """One figure of both models.

    Attributes:
        name: Name of the figure.
        new: The value of the new model; a dash if it is not known.
        production: The value of the model in production; empty if there is no such model.
        meaning: What the figure means.
        better: `new` or `production`; empty if they are equal or can't be compared.
    """

    name: str
    new: str
    production: str
    meaning: str
    better: str


@dataclass(frozen=True)
class _Figure:
    """A figure of the record: how to take it, how to write it, and which values are better."""

    name: str
    take: Callable[[ModelFigures], float | None]
    form: str
    meaning: str
    better: Literal["small", "large", "neither"] = "small"

    def row(self, new: ModelFigures, production: ModelFigures | None) -> Row:
        """Return the figure of both models."""
        own = self.take(new)
        theirs = self.take(production) if production else None
        better = ""
        if own is not None and theirs is not None and abs(own) != abs(theirs):
            is_large = abs(own) > abs(theirs)
            better = "new" if is_large == (self.better == "large") else "production"
        if self.better == "neither":
            better = ""
        return Row(
            self.name,
            self._text(own),
            self._text(theirs) if production else "",
            self.meaning,
            better,
        )

    def _text(self, value: float | None) -> str:
        return "-" if value is None else self.form.format(value)


def _wrong_percent(grain_class: GrainClass) -> Callable[[ModelFigures], float | None]:
    def take(figures: ModelFigures) -> float | None:
        fraction = _called_wrong(figures, grain_class).fraction
        return None if fraction is None else 100 * fraction

    return take


_FIGURES: Sequence[_Figure] = (
    _Figure(
        "labelled grains",
        lambda f: f.overall.grains,
        "{:,d}",
        "grains that people labelled in these pictures",
        better="neither",
    ),
    _Figure(
        "found grains",
        lambda f: f.overall.found,
        "{:,d}",
        "grains that the model found in them",
        better="neither",
    ),
    _Figure(
        "count error",
        lambda f: f.overall.count_error_percent,
        "{:.2f} %",
        "the differences of all pictures added up, per 100 labelled grains",
    ),
    _Figure(
        "count bias",
        lambda f: f.overall.bias_percent,
        "{:+.2f} %",
        "the same, but surplus and lack cancel: what remains in large samples",
    ),
    _Figure(
        "viability error",
        lambda f: f.overall.viability_error,
        "{:+.2f} points",
        "found minus labelled viability of all grains together, percentage points",
    ),
    _Figure(
        "viable called non-viable",
        _wrong_percent(GrainClass.VIABLE),
        "{:.2f} %",
        "of the viable grains that were found; decides the result of very viable samples",
    ),
    _Figure(
        "non-viable called viable",
        _wrong_percent(GrainClass.NON_VIABLE),
        "{:.2f} %",
        "of the non-viable grains that were found",
    ),
    _Figure("missed grains", lambda f: f.overall.missed, "{:,d}", "labelled, but not found"),
    _Figure("false grains", lambda f: f.overall.false, "{:,d}", "found, but not labelled"),
    _Figure(
        "mAP50, viable",
        lambda f: f.map50.get(GrainClass.VIABLE.label),
        "{:.3f}",
        "1 is perfect: precision over all thresholds",
        better="large",
    ),
    _Figure(
        "mAP50, non-viable",
        lambda f: f.map50.get(GrainClass.NON_VIABLE.label),
        "{:.3f}",
        "the same for the rarer and harder class",
        better="large",
    ),
    _Figure(
        "mAP50-95",
        lambda f: f.mean_map50_95,
        "{:.3f}",
        "mean of both classes; also measures how exactly boxes fit",
        better="large",
    ),
)


def rows(new: ModelFigures, production: ModelFigures | None) -> tuple[Row, ...]:
    """Return the table of figures."""
    return tuple(figure.row(new, production) for figure in _FIGURES)
