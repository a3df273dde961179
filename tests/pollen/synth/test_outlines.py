import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollen.synth.outlines import (
    N_DIRECTIONS,
    RadialOutline,
    empty_outline,
    full_outline,
    polar_grid,
)
from pollen.synth.spec import EmptyLook
from pollen.synth.truth import polygon_area


def circle(x: float, y: float, radius: float) -> RadialOutline:
    return RadialOutline(x, y, np.full(N_DIRECTIONS, radius))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    diameter=st.floats(8, 200),
    look=st.one_of(st.none(), st.sampled_from(EmptyLook)),
)
def test_outlines_have_the_area_asked_for(
    seed: int, diameter: float, look: EmptyLook | None
) -> None:
    rng = np.random.default_rng(seed)
    outline = full_outline(rng, diameter) if look is None else empty_outline(rng, look, diameter)
    assert outline.radii_px.min() > 0
    assert polygon_area(outline.polygon) == pytest.approx(np.pi * diameter**2 / 4)
    assert outline.reach_px < 1.6 * diameter


def test_viable_grains_are_rounder_than_empty_ones() -> None:
    rng = np.random.default_rng(0)

    def axis_ratio(outline: RadialOutline) -> float:
        moments = cv2.moments(outline.polygon.astype(np.float32).reshape(-1, 1, 2))
        across = np.array([[moments["mu20"], moments["mu11"]], [moments["mu11"], moments["mu02"]]])
        spread = np.linalg.eigvalsh(across)
        return float(np.sqrt(spread[0] / spread[1]))

    full = [axis_ratio(full_outline(rng, 50.0)) for _ in range(200)]
    empty = [axis_ratio(empty_outline(rng, look, 50.0)) for look in EmptyLook for _ in range(25)]
    # Real grains, measured alike, 5, 50 and 95 %.
    np.testing.assert_allclose(np.percentile(full, [5, 50, 95]), (0.84, 0.95, 0.99), atol=0.03)
    np.testing.assert_allclose(np.percentile(empty, [5, 50, 95]), (0.60, 0.90, 0.98), atol=0.06)


def test_gap_is_the_distance_between_circles() -> None:
    a, b = circle(0.0, 0.0, 10.0), circle(25.0, 0.0, 12.0)
    assert a.gap_px(b) == pytest.approx(3.0)
    assert b.gap_px(a) == pytest.approx(3.0)
    assert a.gap_px(circle(20.0, 0.0, 12.0)) == pytest.approx(-2.0)


def test_outlines_that_coincide_overlap_by_the_smaller_one() -> None:
    a, b = circle(0.0, 0.0, 10.0), circle(0.5, 0.0, 12.0)
    assert a.gap_px(b) == pytest.approx(-10.0, rel=0.01)
    assert b.gap_px(a) == pytest.approx(-10.0, rel=0.01)


def test_polar_grid_measures_from_pixel_centres() -> None:
    grid = polar_grid(circle(10.5, 20.5, 5.0), margin_px=2.0)
    row, column = 20 - grid.y0, 10 - grid.x0
    assert grid.depth[row, column] == pytest.approx(5.0)
    assert grid.depth[row, column + 4] == pytest.approx(1.0)
    assert grid.unit[row + 5, column] == pytest.approx(1.0)
    assert grid.angle[row + 3, column] == pytest.approx(np.pi / 2)
