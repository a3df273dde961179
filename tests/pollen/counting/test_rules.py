import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.counting.rules import (
    CountedFrame,
    Exclusion,
    count_frame,
    excluded_by_edge,
    touched_sides,
)
from pollen.detection.grains import Grains
from pollen.detection.settings import EdgeRule, OverlapRule
from tests.pollen.grain_making import discs

SIZE = (640, 480)
SIDES = ("left", "top", "right", "bottom")
INNER = (100.0, 100.0, 140.0, 140.0)


def box_near(sides: tuple[str, ...], gap_px: float) -> NDArray[np.float32]:
    """`(1, 4)` a box `gap_px` away from the named sides and far from the others."""
    box = list(INNER)
    for side in sides:
        axis, far = SIDES.index(side) % 2, SIDES.index(side) >= 2
        box[axis], box[axis + 2] = (
            (SIZE[axis] - gap_px - 40, SIZE[axis] - gap_px) if far else (gap_px, gap_px + 40)
        )
    return np.array([box], np.float32)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(("gap_px", "touches"), [(0, True), (0.5, True), (1, True), (1.01, False)])
def test_within_one_pixel_touches(side: str, gap_px: float, touches: bool) -> None:
    found = touched_sides(box_near((side,), gap_px), *SIZE)
    assert found.tolist() == [[touches and side == other for other in SIDES]]


@pytest.mark.parametrize(
    ("sides", "by_frame", "by_exclude"),
    [
        ((), False, False),
        (("left",), False, True),
        (("top",), False, True),
        (("left", "top"), False, True),
        (("right",), True, True),
        (("bottom",), True, True),
        (("right", "bottom"), True, True),
        (("left", "bottom"), True, True),  # right or bottom excludes, even if left or top too
        (("top", "right"), True, True),
    ],
)
def test_edge_rules(sides: tuple[str, ...], by_frame: bool, by_exclude: bool) -> None:
    touched = touched_sides(box_near(sides, 0.5), *SIZE)
    assert excluded_by_edge(touched, EdgeRule.FRAME).tolist() == [by_frame]
    assert excluded_by_edge(touched, EdgeRule.EXCLUDE).tolist() == [by_exclude]
    assert excluded_by_edge(touched, EdgeRule.ALL).tolist() == [False]


def test_a_grain_that_fills_the_frame_touches_all_sides() -> None:
    whole = np.array([[0, 0, *SIZE]], np.float32)
    assert touched_sides(whole, *SIZE).all()
    assert excluded_by_edge(touched_sides(whole, *SIZE), EdgeRule.FRAME).all()


def viable_fractions(diameters_px: tuple[float, float], rule: EdgeRule) -> NDArray[np.float64]:
    """`(frames,)` counted viable fractions of many frames cut from one endless slide.

    80 % of the grains are viable, all are strewn evenly and may be cut by the frame: what the
    camera sees of a grain is its box clipped to the frame.
    """
    rng = np.random.default_rng(1977)
    size, margin, frames, grains = 640, 120, 400, 400
    fractions = []
    for _ in range(frames):
        centres = rng.uniform(-margin, size + margin, (grains, 2))
        classes = (rng.random(grains) >= 0.8).astype(np.int64)
        radii = np.asarray(diameters_px)[classes] / 2
        boxes = np.concatenate([centres - radii[:, None], centres + radii[:, None]], axis=1)
        seen = ((boxes[:, :2] < size) & (boxes[:, 2:] > 0)).all(axis=1)
        boxes = np.clip(boxes[seen], 0, size).astype(np.float32)
        counted = ~excluded_by_edge(touched_sides(boxes, size, size), rule)
        fractions.append(np.mean(classes[seen][counted] == GrainClass.VIABLE))
    return np.array(fractions)


@pytest.mark.parametrize("diameters_px", [(80.0, 40.0), (110.0, 31.0), (46.0, 46.0)])
def test_the_counting_frame_is_unbiased(diameters_px: tuple[float, float]) -> None:
    fractions = viable_fractions(diameters_px, EdgeRule.FRAME)
    standard_error = fractions.std() / np.sqrt(len(fractions))
    assert standard_error < 0.0015
    assert abs(fractions.mean() - 0.8) < 4 * standard_error


def test_leaving_out_all_sides_favours_small_grains() -> None:
    """By the formula: a grain of diameter d is counted on (size - d - 2)^2 of the frame."""
    fractions = viable_fractions((110, 31), EdgeRule.EXCLUDE)
    chance = np.array([640 - 110 - 2, 640 - 31 - 2]) ** 2 * (0.8, 0.2)
    biased = chance[0] / chance.sum()
    assert biased < 0.76
    standard_error = fractions.std() / np.sqrt(len(fractions))
    assert abs(fractions.mean() - biased) < 4 * standard_error


def test_counting_all_favours_large_grains() -> None:
    assert viable_fractions((110, 31), EdgeRule.ALL).mean() > 0.82


def crossing(diameter: float, gap_to_right_px: float) -> Grains:
    """Three grains: two lie over one another, one of them near the right side; one is alone."""
    x = SIZE[0] - gap_to_right_px - diameter / 2
    return discs([(x, 200), (x - diameter / 2, 200), (100, 100)], diameter, classes=[0, 1, 1])


def reasons(counted: CountedFrame) -> list[str]:
    """Exclusion reasons by reading order."""
    return [str(reason) for reason in counted.exclusions]


def test_overlapping_grains_are_counted_but_not_measured() -> None:
    counted = count_frame(crossing(40, 50), SIZE, EdgeRule.FRAME, OverlapRule.COUNT, 0.1)
    assert reasons(counted) == ["", "", ""]
    assert counted.measured.tolist() == [True, False, False]
    assert (counted.count(GrainClass.VIABLE), counted.count(GrainClass.NON_VIABLE)) == (1, 2)


def test_overlapping_grains_are_left_out_where_asked() -> None:
    counted = count_frame(crossing(40, 50), SIZE, EdgeRule.FRAME, OverlapRule.EXCLUDE, 0.1)
    assert reasons(counted) == ["", "overlap", "overlap"]
    assert counted.count(GrainClass.VIABLE) == 0
    assert counted.count(GrainClass.VIABLE, counted=False) == 1
    assert counted.count(GrainClass.NON_VIABLE) == 1
    assert counted.count(GrainClass.NON_VIABLE, counted=False) == 1


def test_the_edge_is_named_before_the_overlap() -> None:
    counted = count_frame(crossing(40, 0.5), SIZE, EdgeRule.FRAME, OverlapRule.EXCLUDE, 0.1)
    assert reasons(counted) == ["", "overlap", "edge"]
    assert counted.measured.tolist() == [True, False, False]


def test_a_grain_left_out_at_the_edge_still_hides_its_neighbour() -> None:
    """Whether a grain can be measured does not depend on the counting rules."""
    frame = count_frame(crossing(40, 0.5), SIZE, EdgeRule.FRAME, OverlapRule.COUNT, 0.1)
    everything = count_frame(crossing(40, 0.5), SIZE, EdgeRule.ALL, OverlapRule.COUNT, 0.1)
    assert frame.measured.tolist() == everything.measured.tolist()
    assert reasons(frame) == ["", "", "edge"]
    assert reasons(everything) == ["", "", ""]


def test_touching_grains_do_not_overlap() -> None:
    pair = discs([(100, 100), (140, 100)], 40)
    counted = count_frame(pair, SIZE, EdgeRule.ALL, OverlapRule.EXCLUDE, 0.1)
    assert reasons(counted) == ["", ""]


def test_overlap_fraction_decides() -> None:
    """Two equal discs half a diameter apart share 39.1 % of each."""
    pair = discs([(100, 100), (120, 100)], 40)
    for fraction, overlap in ((0.35, True), (0.43, False)):
        counted = count_frame(pair, SIZE, EdgeRule.ALL, OverlapRule.COUNT, fraction)
        assert (~counted.measured).tolist() == [overlap, overlap]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 40),
    st.sampled_from(EdgeRule),
    st.sampled_from(OverlapRule),
)
def test_every_grain_is_counted_or_left_out(
    seed: int, number: int, edge_rule: EdgeRule, overlap_rule: OverlapRule
) -> None:
    rng = np.random.default_rng(seed)
    grains = discs(
        rng.uniform(0, SIZE, (number, 2)),
        rng.uniform(10, 110, number),
        classes=rng.integers(0, 2, number),
    )
    counted = count_frame(grains, SIZE, edge_rule, overlap_rule, 0.1)
    both = [counted.count(kind, counted=side) for kind in GrainClass for side in (True, False)]
    assert sum(both) == len(counted.exclusions) == number
    assert counted.counted.tolist() == [reason is Exclusion.NONE for reason in counted.exclusions]
    if edge_rule is EdgeRule.ALL and overlap_rule is OverlapRule.COUNT:
        assert counted.counted.all()
    if overlap_rule is OverlapRule.EXCLUDE:
        assert not (counted.counted & counted.overlapping).any()
    assert not (counted.measured & (counted.overlapping | counted.cut)).any()


@pytest.mark.parametrize("rule", EdgeRule)
@pytest.mark.parametrize("side", SIDES)
def test_a_grain_cut_by_any_side_is_not_measured(side: str, rule: EdgeRule) -> None:
    """Also where it counts: a part of a grain has no size of its own."""
    axis, far = SIDES.index(side) % 2, SIDES.index(side) >= 2
    centre = [200.0, 200.0]
    centre[axis] = SIZE[axis] - 20.5 if far else 20.5
    counted = count_frame(
        discs([(centre[0], centre[1]), (300, 300)], 40), SIZE, rule, OverlapRule.COUNT, 0.1
    )
    assert sorted(counted.measured.tolist()) == [False, True]
    assert not counted.overlapping.any()


def test_an_empty_frame_counts_nothing() -> None:
    counted = count_frame(Grains.none(), SIZE, EdgeRule.FRAME, OverlapRule.EXCLUDE, 0.1)
    assert len(counted.grains) == len(counted.exclusions) == 0
    assert [counted.count(kind) for kind in GrainClass] == [0, 0]
    assert counted.counted.shape == counted.measured.shape == (0,)
