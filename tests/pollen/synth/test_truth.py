import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.classes import GrainClass
from pollen.synth.truth import (
    RenderedFrame,
    TrueGrain,
    clip_polygon,
    polygon_area,
    polygon_centroid,
)

SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])


def grain(grain_class: GrainClass) -> TrueGrain:
    return TrueGrain(grain_class, (2.0, 2.0), (0.0, 0.0, 4.0, 4.0), 16.0, SQUARE, False, True)


def test_area_and_centroid_of_a_square() -> None:
    assert polygon_area(SQUARE) == 16.0
    assert polygon_area(SQUARE[::-1]) == 16.0
    assert polygon_centroid(SQUARE + 3.0) == pytest.approx((5.0, 5.0))


def test_diameter_is_that_of_the_equal_circle() -> None:
    assert grain(GrainClass.VIABLE).diameter_px == pytest.approx(4.5135, abs=1e-4)


def test_clipping_keeps_the_part_inside() -> None:
    half = clip_polygon(SQUARE, (2.0, -1.0, 9.0, 9.0))
    assert polygon_area(half) == 8.0
    assert half[:, 0].min() == 2.0


def test_clipping_away_everything_leaves_no_points() -> None:
    assert clip_polygon(SQUARE, (5.0, 5.0, 9.0, 9.0)).shape == (0, 2)


def test_a_polygon_inside_comes_back_as_it_is() -> None:
    assert clip_polygon(SQUARE, (0.0, 0.0, 4.0, 4.0)) is SQUARE


def test_labels_are_lines_of_class_and_unit_coordinates() -> None:
    frame = RenderedFrame(np.zeros((8, 16, 3), np.uint8), (grain(GrainClass.NON_VIABLE),))
    assert frame.yolo_labels() == (
        "1 0.000000 0.000000 0.250000 0.000000 0.250000 0.500000 0.000000 0.500000\n"
    )
    assert frame.truth_counts() == {GrainClass.VIABLE: 0, GrainClass.NON_VIABLE: 1}


@given(x=st.floats(-30, 30), y=st.floats(-30, 30), radius=st.floats(1, 25), cut=st.floats(-20, 20))
def test_the_two_sides_of_a_cut_add_up(x: float, y: float, radius: float, cut: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)
    left = clip_polygon(circle, (-99.0, -99.0, cut, 99.0))
    right = clip_polygon(circle, (cut, -99.0, 99.0, 99.0))
    total = sum(polygon_area(part) for part in (left, right) if len(part))
    assert total == pytest.approx(polygon_area(circle), rel=1e-9)
