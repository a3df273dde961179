"""The gate: boundaries, missing figures, comparisons with production, small groups."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pollen.bundled
from pollen.classes import GrainClass
from pollen.dataset.manifest import Split
from pollen.evaluation import gate
from pollen.evaluation.gate import GateSettings
from pollen.evaluation.record import Decision, ModelFigures, PartFigures, Rate

LIMITS = GateSettings()


def decide(
    new: ModelFigures,
    production: ModelFigures | None,
    settings: GateSettings,
    split: Split = Split.TEST,
) -> Decision:
    return gate.decide(new, production, split, settings)


def figures(
    *,
    pictures: int = 40,
    grains: int = 1000,
    map50: dict[str, float | None] | None = None,
    map50_95: float | None = 0.7,
    count_error_percent: float | None = 2.0,
    viability_error: float | None = 1.0,
    called_non_viable: float | None = 0.01,
    groups: dict[str, PartFigures] | None = None,
) -> ModelFigures:
    """Figures that pass, with some of one's own."""
    return ModelFigures(
        map50={"viable": 0.98, "non_viable": 0.95} if map50 is None else map50,
        map50_95={item.label: map50_95 for item in GrainClass},
        overall=PartFigures(
            pictures=pictures,
            grains=grains,
            count_error_percent=count_error_percent,
            viability_error=viability_error,
        ),
        called_wrong={"viable": Rate(fraction=called_non_viable, low=0.005, high=0.02)},
        groups=groups or {},
    )


def groups(*errors: tuple[str, int, float | None]) -> dict[str, PartFigures]:
    return {
        name: PartFigures(grains=grains, viability_error=error) for name, grains, error in errors
    }


def the_reason(decision: Decision) -> str:
    assert not decision.promote
    assert len(decision.reasons) == 1
    return decision.reasons[0]


def test_a_good_model_passes_with_and_without_one_in_production() -> None:
    alone = decide(figures(), None, LIMITS)
    assert alone.promote
    assert "passed on 1000 grains of test" in alone.reasons[0]
    assert "viability error +1.00 points" in alone.reasons[0]
    beside = decide(figures(), figures(viability_error=-1.5), LIMITS)
    assert beside.promote
    assert "(in production: -1.50)" in beside.reasons[0]


BOUNDARIES: dict[str, tuple[Callable[[float], dict[str, Any]], float, int]] = {
    "mAP50 of viable": (
        lambda value: {"map50": {"viable": value, "non_viable": 0.95}},
        LIMITS.min_map50_viable,
        -1,
    ),
    "mAP50 of non_viable": (
        lambda value: {"map50": {"viable": 0.98, "non_viable": value}},
        LIMITS.min_map50_non_viable,
        -1,
    ),
    "count error": (
        lambda value: {"count_error_percent": value},
        LIMITS.max_count_error_percent,
        1,
    ),
    "viability error": (
        lambda value: {"viability_error": value},
        LIMITS.max_viability_error_points,
        1,
    ),
    "viability error ": (
        lambda value: {"viability_error": -value},
        LIMITS.max_viability_error_points,
        1,
    ),
    "viable grains called non-viable": (
        lambda value: {"called_non_viable": value},
        LIMITS.max_p_nonviable_given_viable,
        1,
    ),
}


@pytest.mark.parametrize("name", BOUNDARIES)
def test_a_figure_at_its_threshold_passes_and_one_beyond_does_not(name: str) -> None:
    change, limit, beyond = BOUNDARIES[name]
    assert decide(figures(**change(limit)), None, LIMITS).promote
    reason = the_reason(decide(figures(**change(limit + beyond * 0.001)), None, LIMITS))
    assert name.strip() in reason


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field",
    [
        "viable",
        "non_viable",
        "map50_95",
        "count_error_percent",
        "viability_error",
        "called_non_viable",
    ],
)
def test_a_missing_figure_never_promotes(field: str, missing: float | None) -> None:
    loose = GateSettings(min_map50_viable=0, min_map50_non_viable=0)
    values: dict[str, Any] = {field: missing}
    if field in ("viable", "non_viable"):
        values = {"map50": {"viable": 0.98, "non_viable": 0.95} | values}
    decision = decide(figures(**values), None, loose)
    assert not decision.promote
    assert "is not known" in decision.reasons[0]
    stored = ModelFigures.model_validate_json(figures(**values).model_dump_json())
    assert not decide(stored, None, loose).promote


def test_a_class_without_a_figure_never_promotes() -> None:
    reason = the_reason(decide(figures(map50={"viable": 0.99}), None, LIMITS))
    assert "mAP50 of non_viable grains is not known on test" in reason


def test_too_few_grains_never_promote_and_it_says_so() -> None:
    assert decide(figures(grains=LIMITS.min_grains), None, LIMITS).promote
    reason = the_reason(decide(figures(grains=LIMITS.min_grains - 1), None, LIMITS))
    assert "only 299 labelled grains in test, expected at least 300" in reason


def test_val_counts_only_where_a_person_said_so() -> None:
    assert "has no test split" in the_reason(decide(figures(), None, LIMITS, Split.VAL))
    assert decide(figures(), None, GateSettings(accept_val=True), Split.VAL).promote


def test_switched_off_it_still_tells_what_it_found() -> None:
    off = GateSettings(auto_promote=False)
    decision = decide(figures(), None, off)
    assert not decision.promote
    assert "auto_promote is off" in decision.reasons[0]
    assert "passed on 1000 grains" in decision.reasons[1]
    assert "count error is 50.00 %" in the_reason(
        decide(figures(count_error_percent=50), None, off)
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_viability_error_may_be_worse_by_the_tolerance_only(sign: int) -> None:
    production = figures(viability_error=1.2)
    assert decide(figures(viability_error=sign * 1.7), production, LIMITS).promote
    reason = the_reason(decide(figures(viability_error=sign * 1.71), production, LIMITS))
    assert "all pictures (1000 grains): viability error" in reason
    assert "the model in production has +1.20" in reason


def test_a_large_group_is_judged_alone() -> None:
    production = figures(groups=groups(("A", 500, 0.5), ("B", 500, -0.5)))
    same = figures(groups=groups(("A", 500, -2.5), ("B", 500, 2.5)))
    assert decide(same, production, LIMITS).promote
    worse = figures(groups=groups(("A", 500, -2.51), ("B", 500, 2.5)))
    assert the_reason(decide(worse, production, LIMITS)).startswith("A (500 grains): viability")


def test_small_groups_are_judged_together() -> None:
    small = [(f"plant {number}", 20, 0.0) for number in range(10)]
    production = figures(groups=groups(*small))
    chance = [("plant 0", 20, 10.0), *small[1:]]  # two grains of 200: 1 point of all
    assert decide(figures(groups=groups(*chance)), production, LIMITS).promote
    shift = [(name, grains, -5.0) for name, grains, _ in small]
    reason = the_reason(decide(figures(groups=groups(*shift)), production, LIMITS))
    assert reason.startswith("10 small groups together (200 grains): viability error -5.00")


def test_errors_of_small_groups_that_cancel_are_errors_all_the_same() -> None:
    production = figures(groups=groups(*[(f"plant {number}", 90, 0.0) for number in range(6)]))
    new = [(f"plant {number}", 90, 20.0 * (-1) ** number) for number in range(6)]
    reason = the_reason(decide(figures(groups=groups(*new)), production, LIMITS))
    assert (
        "6 small groups, each for itself, in the mean (540 grains): viability error +20.00"
        in reason
    )
    swapped = [(name, grains, -error) for name, grains, error in new]
    assert decide(figures(groups=groups(*swapped)), figures(groups=groups(*new)), LIMITS).promote


def test_small_groups_that_are_too_few_even_together_are_part_of_the_whole_only() -> None:
    production = figures(groups=groups(("A", 961, 0.0), ("B", 20, 0.0), ("C", 19, 0.0)))
    new = figures(groups=groups(("A", 961, 0.0), ("B", 20, 50.0), ("C", 19, 50.0)))
    assert decide(new, production, LIMITS).promote


def test_a_group_without_grains_has_no_viability() -> None:
    production = figures(groups=groups(("A", 1000, 0.0), ("empty", 0, None)))
    assert decide(figures(groups=production.groups), production, LIMITS).promote


@pytest.mark.parametrize("missing", [None, math.nan])
@pytest.mark.parametrize("size", [500, 50])
def test_a_group_that_could_not_be_judged_never_promotes(size: int, missing: float | None) -> None:
    known = figures(groups=groups(("A", size, 0.0), ("B", 1000 - size, 0.0), ("C", 60, 0.0)))
    unknown = figures(groups=groups(("A", size, missing), ("B", 1000 - size, 0.0), ("C", 60, 0.0)))
    for new, production in ((known, unknown), (unknown, known)):
        assert "is not known" in the_reason(decide(new, production, LIMITS))


@pytest.mark.parametrize(
    "other",
    [
        {"pictures": 41},
        {"grains": 1001},
        {"groups": groups(("A", 1000, 0.0))},
        {"groups": groups(("B", 1000, 0.0))},
    ],
)
def test_figures_of_other_pictures_are_not_compared(other: dict[str, Any]) -> None:
    production = figures(**{"groups": groups(("A", 999, 0.0))} | other)
    new = figures(groups=groups(("A", 999, 0.0)))
    assert "not measured on the same pictures" in the_reason(decide(new, production, LIMITS))


FIGURE = st.none() | st.floats()


@given(
    st.builds(
        figures,
        map50=st.fixed_dictionaries({"viable": FIGURE, "non_viable": FIGURE}),
        count_error_percent=FIGURE,
        viability_error=FIGURE,
        grains=st.integers(0, 2000),
    ),
    st.builds(figures, viability_error=FIGURE) | st.none(),
)
def test_what_is_promoted_holds_every_threshold(
    new: ModelFigures, production: ModelFigures | None
) -> None:
    decision = decide(new, production, LIMITS)
    assert decision.reasons
    if decision.promote:
        assert (new.overall.grains or 0) >= LIMITS.min_grains
        assert (new.map50["viable"] or 0) >= LIMITS.min_map50_viable
        assert abs(new.overall.viability_error or 0) <= LIMITS.max_viability_error_points + 1e-9
        assert decide(new, None, LIMITS).promote


def test_the_shipped_model_would_pass_on_its_plants_if_they_were_a_test_split() -> None:
    """The defaults are meant to let a model as good as the bundled one through."""
    card = json.loads(Path(str(pollen.bundled.__file__)).with_name("model.json").read_text())
    val = card["metrics"]["val"]
    assert decide(ModelFigures.model_validate(val), None, LIMITS).promote
