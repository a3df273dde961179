"""The gate: whether a newly trained model may go into production without a person deciding.

A pure decision on figures. Whatever is missing, not a number or not comparable speaks against a
model, never for it. A refused model is kept; a person may promote it all the same.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeGuard

from pydantic import BaseModel, ConfigDict, Field

from pollen.classes import GrainClass


class Rate(BaseModel):
    """A fraction with its 95 % interval; ``None`` (or NaN) where it can't be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    low: float | None = None
    high: float | None = None


class GroupFigures(BaseModel):
    """One group of pictures that belong together, such as a plant.

    Attributes:
        group: Its name.
        grains: Labelled grains.
        viability_error_points: Detected minus labelled viability, percentage points.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    grains: int = Field(ge=0)
    viability_error_points: float | None


class EvaluationFigures(BaseModel):
    """How good one model is on one split of a dataset; what the gate looks at.

    A figure that can't be told (mAP of a class that no picture has) is ``None`` or NaN.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    split: Literal["test", "val"]
    pictures: int = Field(ge=0)
    grains: int = Field(ge=0, description="Labelled grains.")
    map50: dict[str, float | None] = Field(description="By class label, 0 to 1.")
    map50_95: float | None = Field(description="Mean of both classes, 0 to 1.")
    count_error_percent: float | None = Field(
        description="Sum over pictures of |detected - labelled grains|, per 100 labelled grains."
    )
    viability_error_points: float | None = Field(
        description="Detected minus labelled viability of all pictures together, percentage points."
    )
    p_nonviable_given_viable: Rate = Field(
        description="Part of the viable grains that is called non-viable."
    )
    groups: tuple[GroupFigures, ...] = ()


class GateSettings(BaseModel):
    """When a new model is promoted by itself. The defaults are a little below the bundled model."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    auto_promote: bool = Field(
        True, description="Promote a model that passes the gate; otherwise a person decides."
    )
    accept_val: bool = Field(
        False,
        description="Promote on figures of the val split where a dataset has no test split. Val chose the weights, so "
        "its figures flatter the new model.",
    )
    min_grains: int = Field(
        300,
        ge=1,
        description="Labelled grains the evaluation needs: with fewer, chance decides.",
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
        description="The same for every group (plant), which has fewer grains and so more noise.",
    )
    min_group_grains: int = Field(
        100,
        ge=1,
        description="Groups with fewer labelled grains are judged together: as one group, and by the mean size of "
        "their errors. In a group of 20 a single grain is 5 points: alone, small groups would refuse good models by "
        "chance.",
    )


@dataclass(frozen=True)
class Decision:
    """What the gate says.

    Attributes:
        promote: Whether the model goes into production by itself.
        reasons: One sentence each: everything that speaks against it, or what it passed on.
    """

    promote: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """A group, or the small ones together: the viability errors of both models, points."""

    name: str
    grains: int
    new: float | None
    production: float | None


def decide(
    new: EvaluationFigures, production: EvaluationFigures | None, settings: GateSettings
) -> Decision:
    """Decide on automatic promotion.

    Args:
        new: Figures of the new model.
        production: Figures of the model in production on the same pictures; None where there is none.
        settings: The thresholds; a figure exactly at its threshold passes.
    """
    against = [*_too_little(new, settings), *_thresholds(new, settings)]
    if production is not None:
        against += _worse_than(production, new, settings)
    if against:
        return Decision(False, tuple(against))
    passed = _passed(new, production)
    if not settings.auto_promote:
        off = "the gate is passed, but auto_promote is off: a person decides"
        return Decision(False, (off, passed))
    return Decision(True, (passed,))


def _too_little(new: EvaluationFigures, settings: GateSettings) -> Iterator[str]:
    if new.split != "test" and not settings.accept_val:
        yield (
            "the dataset has no test split, and val, which chose the weights, flatters the model: add pictures of "
            "further plants to test, set accept_val, or let a person decide"
        )
    if new.grains < settings.min_grains:
        yield (
            f"only {new.grains} labelled grains in {new.split}, expected at least {settings.min_grains}: that is too "
            "few to tell a good model by; label more pictures, or let a person decide"
        )


def _thresholds(new: EvaluationFigures, settings: GateSettings) -> Iterator[str]:
    """What is missing or beyond its threshold."""
    for grain_class, least in (
        (GrainClass.VIABLE, settings.min_map50_viable),
        (GrainClass.NON_VIABLE, settings.min_map50_non_viable),
    ):
        name, value = f"mAP50 of {grain_class.label} grains", new.map50.get(grain_class.label)
        if not _is_known(value):
            yield f"{name} could not be told on {new.split}: are grains of this class labelled?"
        elif value < least:
            yield f"{name} is {value:.3f}, expected at least {least:.3f}"
    if not _is_known(new.map50_95):
        yield f"mAP50-95 could not be told on {new.split}"
    called = new.p_nonviable_given_viable.value
    for name, value, most, unit in (
        ("count error", new.count_error_percent, settings.max_count_error_percent, "%"),
        (
            "viability error",
            new.viability_error_points,
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
            yield f"{name} could not be told on {new.split}"
        elif _exceeds(abs(value), most):
            yield f"{name} is {value:.2f} {unit}, at most {most:g} {unit} are allowed"


def _worse_than(
    production: EvaluationFigures, new: EvaluationFigures, settings: GateSettings
) -> Iterator[str]:
    """Where the viability error is larger than that of the model in production."""
    if _pictures(new) != _pictures(production):
        yield (
            "the new model and the one in production were not measured on the same pictures and groups: evaluate both "
            "on one dataset"
        )
        return
    overall = _Part(
        "all pictures", new.grains, new.viability_error_points, production.viability_error_points
    )
    yield from _worse(overall, settings.worse_points)
    parts = _parts(new.groups, production.groups)
    for part in parts:
        if part.grains >= settings.min_group_grains:
            yield from _worse(part, settings.group_worse_points)
    yield from _small_worse(
        [part for part in parts if part.grains < settings.min_group_grains], settings
    )


def _pictures(figures: EvaluationFigures) -> tuple[str, int, int, list[tuple[str, int]]]:
    """What two sets of figures have in common when they are of the same pictures."""
    groups = sorted((group.group, group.grains) for group in figures.groups)
    return figures.split, figures.pictures, figures.grains, groups


def _parts(new: Sequence[GroupFigures], production: Sequence[GroupFigures]) -> list[_Part]:
    """Both models' errors by group; a group without labelled grains has no viability to be wrong about."""
    errors = {group.group: group.viability_error_points for group in production}
    return [
        _Part(group.group, group.grains, group.viability_error_points, errors[group.group])
        for group in new
        if group.grains
    ]


def _small_worse(small: Sequence[_Part], settings: GateSettings) -> list[str]:
    """What speaks against small groups: all of them as one, and then each for itself, in the mean.

    Errors up in one plant and down in another cancel in the first, and are errors all the same. Where even all
    small groups together are too few, they are judged within the overall figure only.
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
    """Mean weighted by grains; of signed errors it is the error of the groups as if they were one."""
    total = sum(grains for grains, _ in errors)
    known = [grains * error for grains, error in errors if _is_known(error)]
    return sum(known) / total if len(known) == len(errors) else None


def _size(error: float | None) -> float | None:
    return None if error is None else abs(error)


def _worse(part: _Part, tolerance: float) -> Iterator[str]:
    if not (_is_known(part.new) and _is_known(part.production)):
        yield f"{part.name}: the viability error of one of the models could not be told"
    elif _exceeds(abs(part.new), abs(part.production) + tolerance):
        yield (
            f"{part.name} ({part.grains} grains): viability error {part.new:+.2f} points, the model in production has "
            f"{part.production:+.2f}; at most {tolerance:g} points more are allowed"
        )


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _exceeds(value: float, limit: float) -> bool:
    """Beyond the limit by more than the rounding of sums of decimal fractions."""
    return value > limit + 1e-9


def _passed(new: EvaluationFigures, production: EvaluationFigures | None) -> str:
    """The figures a model passed on, for the note of its promotion."""
    viable, non_viable = (new.map50[item.label] for item in GrainClass)
    compared = (
        "" if production is None else f" (in production: {production.viability_error_points:+.2f})"
    )
    return (
        f"passed on {new.grains} grains of {new.split}: mAP50 {viable:.3f} viable, {non_viable:.3f} non_viable, "
        f"count error {new.count_error_percent:.2f} %, "
        f"viability error {new.viability_error_points:+.2f} points{compared}"
    )
