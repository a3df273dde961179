"""The size of grains against those a model knows."""

import polars as pl
import pytest

from pollen.counting.rules import CountedFrame, count_frame
from pollen.detection.settings import EdgeRule, OverlapRule
from pollen.models.card import ModelCard
from pollen.quality.grain_size import (
    SCALE_FLAG,
    SCALE_GRAINS,
    PooledSize,
    mostly_empty,
    scale_flags,
    size_to_model,
)
from tests.pollen.grain_making import discs

CARD = ModelCard(version="v1", sha256="0" * 64, grain_diameter_px=50)


def counted(centres: list[tuple[float, float]], diameter: float) -> CountedFrame:
    return count_frame(discs(centres, diameter), (400, 300), EdgeRule.FRAME, OverlapRule.COUNT, 0.1)


@pytest.mark.parametrize(
    ("diameter", "ratio", "flagged"),
    [(50, 1, False), (74, 1, False), (76, 1, True), (32, 1, True), (34, 1, False), (25, 2, False)],
)
def test_grains_of_another_size_are_flagged(diameter: float, ratio: float, flagged: bool) -> None:
    centres = [(80.0 * (n % 5) + 40, 80.0 * (n // 5) + 40) for n in range(SCALE_GRAINS)]
    assert scale_flags(counted(centres, diameter), CARD, ratio) == (
        (SCALE_FLAG,) if flagged else ()
    )


@pytest.mark.parametrize(
    ("diameter", "ratio", "flagged"),
    [(26, 1, True), (28, 1, False), (75, 1, False), (90, 1, False), (90, 2, True)],
)
def test_a_model_of_several_magnifications_knows_all_their_sizes(
    diameter: float, ratio: float, flagged: bool
) -> None:
    card = CARD.model_copy(update={"grain_diameter_range_px": (40.0, 100.0)})
    centres = [(100.0 * (n % 4) + 50, 100.0 * (n // 4) + 50) for n in range(SCALE_GRAINS + 2)]
    assert bool(scale_flags(counted(centres, diameter), card, ratio)) is flagged


def test_few_grains_say_nothing_of_the_scale() -> None:
    assert scale_flags(counted([(100, 100)], 200), CARD, 1) == ()


def test_a_model_that_does_not_know_its_grains_flags_nothing() -> None:
    centres = [(80.0 * (n % 5) + 40, 80.0 * (n // 5) + 40) for n in range(SCALE_GRAINS)]
    card = CARD.model_copy(update={"grain_diameter_px": None})
    assert scale_flags(counted(centres, 10), card, 1) == ()


def test_a_size_is_told_against_the_nearest_one_that_the_model_knows() -> None:
    card = CARD.model_copy(update={"grain_diameter_range_px": (40.0, 80.0)})
    assert size_to_model(counted([(200, 150)], 120), card, 1) == pytest.approx(1.5, abs=0.01)
    assert size_to_model(counted([(200, 150)], 60), card, 1) == 1
    assert size_to_model(counted([(200, 150)], 60), card, 0.5) == pytest.approx(0.75, abs=0.01)
    assert size_to_model(counted([], 60), card, 1) is None


def pooled(*pictures: tuple[float | None, int | None]) -> PooledSize:
    schema = {"size_to_model": pl.Float64, "total_detected": pl.Int64}
    return PooledSize.of(pl.DataFrame(list(pictures), schema=schema, orient="row"))


def test_pictures_of_few_grains_tell_the_scale_together() -> None:
    assert pooled((3.8, 2), (4.2, 3), (None, 0), (1.0, 1), (None, None)) == PooledSize(4.0, 6)
    many = pooled(*[(4.0, 1)] * SCALE_GRAINS)
    assert many.is_off()
    assert not pooled(*[(4.0, 1)] * (SCALE_GRAINS - 1)).is_off()
    assert pooled((4.0, 1), (0.2, 1)).size == pytest.approx(2.1)
    assert pooled() == PooledSize(None, 0)
    assert not pooled((None, 50)).is_off()


@pytest.mark.parametrize(("size", "off"), [(1.0, False), (1.25, False), (1.26, True), (0.79, True)])
def test_the_factor_holds_both_ways(size: float, off: bool) -> None:
    assert pooled((size, SCALE_GRAINS)).is_off() is off


@pytest.mark.parametrize(
    ("grains", "empty"),
    [([0, 0, 2], True), ([0, 0], False), ([0, 0, 2, 2], False), ([3, 2, 1], False), ([], False)],
)
def test_pictures_are_mostly_empty_where_more_than_half_are(grains: list[int], empty: bool) -> None:
    counted = pl.DataFrame({"total_detected": grains}, schema={"total_detected": pl.Int64})
    assert mostly_empty(counted) is empty
