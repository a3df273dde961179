from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.statistics.intervals import (
    ASSUMED_CORRELATION,
    Interval,
    IntervalMethod,
    clopper_pearson,
    clustered_viability,
    percent,
    ratio_variance,
    stored,
    viability_interval,
    wilson,
)

Bounds = Callable[..., tuple[float, float]]

counts = st.tuples(st.integers(0, 500), st.integers(0, 500)).filter(lambda pair: sum(pair) > 0)
pictures = st.lists(counts, min_size=1, max_size=12)


# Newcombe, Statistics in Medicine 17:857 (1998), table I, methods 3 and 5.
@pytest.mark.parametrize(
    ("successes", "n", "score", "exact"),
    [
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_published_intervals(
    successes: int, n: int, score: tuple[float, float], exact: tuple[float, float]
) -> None:
    assert wilson(successes, n) == pytest.approx(score, abs=6e-5)
    assert clopper_pearson(successes, n) == pytest.approx(exact, abs=6e-5)


def test_exact_bound_at_no_event_solves_its_equation() -> None:
    _, high = clopper_pearson(0, 342)
    assert (1 - high) ** 342 == pytest.approx(0.025)


@pytest.mark.parametrize("method", [wilson, clopper_pearson])
@given(pair=counts)
def test_bounds_hold_the_fraction_and_mirror(method: Bounds, pair: tuple[int, int]) -> None:
    successes, n = pair[0], sum(pair)
    low, high = method(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert method(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    wide_low, wide_high = method(successes, n, 0.99)
    assert wide_low <= low
    assert wide_high >= high


@given(counts)
def test_bounds_rise_with_the_events(pair: tuple[int, int]) -> None:
    successes, n = pair[0], sum(pair) + 1
    for method in (wilson, clopper_pearson):
        fewer, more = method(successes, n), method(successes + 1, n)
        assert fewer[0] <= more[0] + 1e-12
        assert fewer[1] <= more[1] + 1e-12


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    for method in (wilson, clopper_pearson):
        with pytest.raises(ValueError, match=f"{successes} of {n}"):
            method(successes, n)


def test_one_picture() -> None:
    assert viability_interval(0, 0) is None
    mixed = viability_interval(81, 182)
    assert mixed == Interval(81 / 263, *wilson(81, 263), IntervalMethod.WILSON)
    all_viable = viability_interval(20, 0)
    assert all_viable is not None
    assert all_viable.low == pytest.approx(1 - 0.1684, abs=6e-5)
    assert all_viable.high == 1.0
    none_viable = viability_interval(0, 20)
    assert none_viable is not None
    assert none_viable.low == 0.0
    assert none_viable.method is IntervalMethod.EXACT


def test_ratio_variance_of_equal_pictures_is_that_of_their_mean() -> None:
    events = np.array([40.0, 45, 38, 50])
    sizes = np.full(4, 50.0)
    assert ratio_variance(events, sizes) == pytest.approx(np.var(events / 50, ddof=1) / 4)


def test_ratio_variance_worked_by_hand() -> None:
    # f = 12 / 15; residuals 8 - 0.8 * 10 = 0 and 4 - 0.8 * 5 = 0: the pictures agree.
    assert ratio_variance(np.array([8.0, 4]), np.array([10.0, 5])) == pytest.approx(0, abs=1e-15)
    # f = 0.7; residuals 2 and -2: 2 / 1 * 8 / 20^2.
    assert ratio_variance(np.array([9.0, 5]), np.array([10.0, 10])) == pytest.approx(0.04)


def as_columns(rows: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [viable for viable, _ in rows], [non_viable for _, non_viable in rows]


def clustered(rows: list[tuple[int, int]]) -> Interval:
    interval = clustered_viability(*as_columns(rows))
    assert interval is not None
    return interval


@given(pictures)
def test_sample_interval_laws(rows: list[tuple[int, int]]) -> None:
    interval = clustered(rows)
    viable, non_viable = map(sum, as_columns(rows))
    assert interval.estimate == pytest.approx(viable / (viable + non_viable))
    assert 0 <= interval.low <= interval.estimate + 1e-9
    assert interval.estimate - 1e-9 <= interval.high <= 1
    mirrored = clustered([(non, via) for via, non in rows])
    assert (mirrored.low, mirrored.high) == pytest.approx(
        (1 - interval.high, 1 - interval.low), abs=1e-6
    )
    turned = clustered(rows[::-1])
    assert (turned.low, turned.high) == pytest.approx((interval.low, interval.high))


@given(pictures)
def test_sample_interval_is_never_narrower_than_that_of_independent_grains(
    rows: list[tuple[int, int]],
) -> None:
    viable, non_viable = map(sum, as_columns(rows))
    low, high = clopper_pearson(viable, viable + non_viable)
    interval = clustered(rows)
    assert interval.low <= low + 1e-9
    assert interval.high >= high - 1e-9


@given(pictures)
def test_pictures_without_grains_change_nothing(rows: list[tuple[int, int]]) -> None:
    assert clustered([*rows, (0, 0)]) == clustered(rows)


def test_no_grain_in_the_sample_is_no_viability() -> None:
    assert clustered_viability([], []) is None
    assert clustered_viability([0, 0], [0, 0]) is None


def test_unlike_pictures_widen_the_interval() -> None:
    alike = clustered([(90, 10)] * 6)
    unlike = clustered([(100, 0), (70, 30)] * 2 + [(95, 5)] * 2)
    assert unlike.high - unlike.low > 1.5 * (alike.high - alike.low)


def test_interval_goes_on_smoothly_to_no_event() -> None:
    rows = [(100, 0)] * 5
    none, one = clustered(rows), clustered([*rows[:4], (99, 1)])
    assert one.low < none.low < one.low + 0.02
    assert none.high == 1.0


def beta_binomial(
    rng: np.random.Generator, images: int, viability: float, correlation: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Viable and non-viable grains of pictures with about 110 grains each."""
    sizes = np.maximum(1, np.round(110 * np.exp(rng.normal(0, 0.5, images)))).astype(np.int64)
    strength = (1 - correlation) / correlation
    own = rng.beta(viability * strength, (1 - viability) * strength, images)
    viable = rng.binomial(sizes, own)
    return viable, sizes - viable


@pytest.mark.parametrize("correlation", [0.03, 0.1])
@pytest.mark.parametrize("images", [3, 5, 10, 30])
@pytest.mark.parametrize("viability", [0.8, 0.95, 0.99])
def test_coverage_of_correlated_pictures(correlation: float, images: int, viability: float) -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        interval = clustered_viability(*beta_binomial(rng, images, viability, correlation))
        assert interval is not None
        hits += interval.low <= viability <= interval.high
    # 91.6 % at worst in long simulations; the chance of 300 runs is some points more.
    assert hits / 300 > 0.885


def test_one_picture_is_covered_at_the_assumed_correlation() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        interval = clustered_viability(*beta_binomial(rng, 1, 0.9, ASSUMED_CORRELATION))
        assert interval is not None
        hits += interval.low <= 0.9 <= interval.high
    assert hits / 300 > 0.92


def test_pooling_the_grains_would_not_cover() -> None:
    """Why the picture is the unit: the bound that the tests above hold fails for pooled grains."""
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(300):
        viable, non_viable = beta_binomial(rng, 5, 0.8, 0.03)
        low, high = wilson(int(viable.sum()), int(viable.sum() + non_viable.sum()))
        hits += low <= 0.8 <= high
    assert hits / 300 < 0.75


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.912, "91.2 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.9998, "99.98 %"),
        (0.0004, "0.04 %"),
        (0.1, "10.0 %"),
        (0.01, "1.0 %"),
        (0.99995, "99.995 %"),
        (1 - 1e-9, "99.9999999 %"),
    ],
)
def test_percent_never_rounds_to_all_or_none(fraction: float, text: str) -> None:
    assert percent(fraction) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("fraction", "value"),
    [
        (0.91234567, 0.912346),
        (0.0, 0.0),
        (1.0, 1.0),
        (0.99998, 0.99998),
        (0.000012345, 0.000012),
        (1e-9, 1e-6),
        (1 - 1e-9, 1 - 1e-6),
    ],
)
def test_stored_fractions_are_all_or_none_only_where_it_is_so(
    fraction: float, value: float
) -> None:
    assert stored(fraction) == value


def test_a_stored_fraction_is_shown_as_the_fraction_itself() -> None:
    assert percent(stored(4 / 21)) == percent(4 / 21) == "19.0\N{NO-BREAK SPACE}%"
