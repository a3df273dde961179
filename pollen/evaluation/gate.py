"""The gate: decide whether a newly trained model goes into production without a person.

The decision depends on figures only. A figure that is missing, not a number or not comparable speaks against the
model, never for it. A refused model is kept, and a person may still promote it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from pollen.classes import GrainClass
from pollen.dataset.manifest import Split
from pollen.evaluation.record import Decision, ModelFigures, PartFigures, Rate


class GateSettings(BaseModel):
    """Thresholds for automatic promotion. The defaults are a little below what the bundled model reaches."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    auto_promote: bool = Field(
        True, description="Promote a model that passes the gate. If off, a person decides."
    )
    accept_val: bool = Field(
        False,
        description="Promote on figures of the val split if a dataset has no test split. Val chose the weights, so its "
        "figures flatter the new model.",
    )
    min_grains: int = Field(
        300,
        ge=1,
        description="Least number of labelled grains in the evaluation: with fewer, chance decides.",
    )
    min_map50_viable: float = Field(0.9, ge=0, le=1, description="Least mAP50 of viable grains.")
    min_map50_non_viable: float = Field(
        0.8, ge=0, le=1, description="Least mAP50 of non-viable grains, which are rarer and harder."
    )
    max_count_error_percent: float = Field(
        8, ge=0, description="Largest error of the counts, per 100 labelled grains."
    )
    max_viability_error_points: float = Field(
        3, ge=0, description="Largest error of the viability, up or down, percentage points."
    )
    max_p_nonviable_given_viable: float = Field(
        0.03,
        ge=0,
        le=1,
        description="Largest part of the viable grains that may be called non-viable: at 99 % true viability this one "
        "error decides the result.",
    )
    worse_points: float = Field(
        0.5,
        ge=0,
        description="By how many percentage points the viability error may exceed that of the model in production.",
    )
    group_worse_points: float = Field(
        2,
        ge=0,
        description="The same for each group (plant), which has fewer grains and so more noise.",
    )
    min_group_grains: int = Field(
        100,
        ge=1,
        description="Groups with fewer labelled grains are judged together: as one group, and by the mean size of "
        "their errors. In a group of 20 a single grain is 5 points: alone, small groups would refuse good models by "
        "chance.",
    )


@dataclass(frozen=True)
class _Part:
    """A group, or the small ones together: the viability errors of both models, points."""

    name: str
    grains: int
    new: float | None
    production: float | None


def decide(
    new: ModelFigures, production: ModelFigures | None, split: Split, settings: GateSettings
) -> Decision:
    """Decide on automatic promotion.

    Args:
        new: Figures of the new model.
        production: Figures of the model in production on the same pictures; None if there is no such model.
        split: The split of the dataset on which both were measured.
        settings: The thresholds; a figure exactly at its threshold passes.
    """
    against = [*_too_little(new, split, settings), *_thresholds(new, split, settings)]
    if production is not None:
        against += _worse_than(production, new, settings)
    if against:
        return Decision(promote=False, reasons=tuple(against))
    passed = _passed(new, production, split)
    if not settings.auto_promote:
        off = "the gate is passed, but auto_promote is off: a person decides"
        return Decision(promote=False, reasons=(off, passed))
    return Decision(promote=True, reasons=(passed,))


def _too_little(new: ModelFigures, split: Split, settings: GateSettings) -> Iterator[str]:
    if split is not Split.TEST and not settings.accept_val:
        yield (
            "the dataset has no test split, and val, which chose the weights, flatters the model: add pictures of "
            "further plants to test, set accept_val, or let a person decide"
        )
    grains = new.overall.grains or 0
    if grains < settings.min_grains:
        yield (
            f"only {grains} labelled grains in {split}, expected at least {settings.min_grains}: too few to judge a "
            "model by; label more pictures, or let a person decide"
        )


def _thresholds(new: ModelFigures, split: Split, settings: GateSettings) -> Iterator[str]:
    """Yield a reason for every figure that is missing or beyond its threshold."""
    for grain_class, least in (
        (GrainClass.VIABLE, settings.min_map50_viable),
        (GrainClass.NON_VIABLE, settings.min_map50_non_viable),
    ):
        name, value = f"mAP50 of {grain_class.label} grains", new.map50.get(grain_class.label)
        if not _is_known(value):
            yield f"{name} is not known on {split}: are grains of this class labelled?"
        elif value < least:
            yield f"{name} is {value:.3f}, expected at least {least:.3f}"
    if not _is_known(new.mean_map50_95):
        yield f"mAP50-95 is not known on {split}"
    called = new.called_wrong.get(GrainClass.VIABLE.label, Rate()).fraction
    for name, value, most, unit in (
        ("count error", new.overall.count_error_percent, settings.max_count_error_percent, "%"),
        (
            "viability error",
            new.overall.viability_error,
            settings.max_viability_error_points,
            "points",
        ),
        (
            "viable grains called non-viable",
            100 * called if _is_known(called) else None,
            100 * settings.max_p_nonviable_given_viable,
            "%",
        ),
    ):
        if not _is_known(value):
            yield f"{name} is not known on {split}"
        elif _exceeds(abs(value), most):
            yield f"{name} is {value:.2f} {unit}, at most {most:g} {unit} are allowed"


def _worse_than(
    production: ModelFigures, new: ModelFigures, settings: GateSettings
) -> Iterator[str]:
    """Yield a reason for every part whose viability error is larger than that of the model in production."""
    if _pictures(new) != _pictures(production):
        yield (
            "the new model and the one in production were not measured on the same pictures and groups: evaluate both "
            "on one dataset"
        )
        return
    overall = _Part(
        "all pictures",
        new.overall.grains or 0,
        new.overall.viability_error,
        production.overall.viability_error,
    )
    yield from _worse(overall, settings.worse_points)
    parts = _parts(new.groups, production.groups)
    for part in parts:
        if part.grains >= settings.min_group_grains:
            yield from _worse(part, settings.group_worse_points)
    yield from _small_worse(
        [part for part in parts if part.grains < settings.min_group_grains], settings
    )


def _pictures(figures: ModelFigures) -> tuple[int | None, int | None, dict[str, int | None]]:
    """Return what two sets of figures have in common if they are of the same pictures."""
    overall = figures.overall
    groups = {name: group.grains for name, group in figures.groups.items()}
    return overall.pictures, overall.grains, groups


def _parts(new: Mapping[str, PartFigures], production: Mapping[str, PartFigures]) -> list[_Part]:
    """Return both models' errors by group; groups without labelled grains have no viability and are left out."""
    return [
        _Part(name, group.grains, group.viability_error, production[name].viability_error)
        for name, group in new.items()
        if group.grains
    ]


def _small_worse(small: Sequence[_Part], settings: GateSettings) -> list[str]:
    """Return what speaks against small groups: judged as one group, then by the mean size of their errors.

    Errors up in one plant and down in another cancel in the first judgement, not in the second. If all small groups
    together have too few grains, only the overall figure judges them.
    """
    grains = sum(part.grains for part in small)
    if grains < settings.min_group_grains:
        return []
    as_one = _Part(
        f"{len(small)} small groups together",
        grains,
        _pooled([(part.grains, part.new) for part in small]),
        _pooled([(part.grains, part.production) for part in small]),
    )
    each = _Part(
        f"{len(small)} small groups, each for itself, in the mean",
        grains,
        _pooled([(part.grains, _size(part.new)) for part in small]),
        _pooled([(part.grains, _size(part.production)) for part in small]),
    )
    tolerance = settings.group_worse_points
    return list(_worse(as_one, tolerance)) or list(_worse(each, tolerance))


def _pooled(errors: Sequence[tuple[int, float | None]]) -> float | None:
    """Return the mean weighted by grains; of signed errors that is the error of all groups as one."""
    total = sum(grains for grains, _ in errors)
    known = [grains * error for grains, error in errors if _is_known(error)]
    return sum(known) / total if len(known) == len(errors) else None


def _size(error: float | None) -> float | None:
    return None if error is None else abs(error)


def _worse(part: _Part, tolerance: float) -> Iterator[str]:
    if not (_is_known(part.new) and _is_known(part.production)):
        yield f"{part.name}: the viability error of one of the models is not known"
    elif _exceeds(abs(part.new), abs(part.production) + tolerance):
        yield (
            f"{part.name} ({part.grains} grains): viability error {part.new:+.2f} points, the model in production has "
            f"{part.production:+.2f}; at most {tolerance:g} points more are allowed"
        )


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _exceeds(value: float, limit: float) -> bool:
    """Return whether a value is beyond the limit by more than the rounding of sums of decimal fractions."""
    return value > limit + 1e-9


def _passed(new: ModelFigures, production: ModelFigures | None, split: Split) -> str:
    """Return the figures a model passed with, for the note of its promotion."""
    viable, non_viable = (new.map50[item.label] for item in GrainClass)
    compared = (
        "" if production is None else f" (in production: {production.overall.viability_error:+.2f})"
    )
    return (
        f"passed on {new.overall.grains} grains of {split}: mAP50 {viable:.3f} viable, {non_viable:.3f} non_viable, "
        f"count error {new.overall.count_error_percent:.2f} %, "
        f"viability error {new.overall.viability_error:+.2f} points{compared}"
    )
