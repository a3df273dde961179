import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.detection.grains import Grains, one_box_per_grain, overlapping, overlaps
from tests.pollen.grain_making import discs, equal

IOU = 0.5
CONTAINED = 0.85


@st.composite
def crowds(draw: st.DrawFn, least: int = 0) -> Grains:
    """Grains of all sizes in a small picture, so that many overlap; no two equally confident."""
    number = draw(st.integers(least, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    centres = rng.uniform(0, draw(st.sampled_from([60, 200, 600])), (number, 2))
    return discs(
        centres,
        rng.uniform(5, 80, number),
        confidence=rng.permutation(np.linspace(0.3, 0.9, number)),
        classes=rng.integers(0, 2, number),
    )


@given(crowds(), st.randoms(use_true_random=False))
def test_suppression_does_not_depend_on_input_order(grains: Grains, random: object) -> None:
    order = np.arange(len(grains))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = grains.take(order)
    kept = one_box_per_grain(grains.boxes, grains.confidence, IOU)
    kept_shuffled = one_box_per_grain(shuffled.boxes, shuffled.confidence, IOU)
    assert kept.tolist() == order[kept_shuffled].tolist()


@given(crowds())
def test_suppressing_twice_changes_nothing(grains: Grains) -> None:
    once = grains.take(one_box_per_grain(grains.boxes, grains.confidence, IOU))
    again = one_box_per_grain(once.boxes, once.confidence, IOU)
    assert again.tolist() == list(range(len(once)))


@given(crowds(least=1))
def test_kept_boxes_differ_and_dropped_ones_had_a_reason(grains: Grains) -> None:
    kept = one_box_per_grain(grains.boxes, grains.confidence, IOU, CONTAINED)
    for row in range(len(grains)):
        better = kept[grains.confidence[kept] > grains.confidence[row]]
        by_union, by_smaller = overlaps(grains.boxes[row], grains.boxes[better])
        covered = bool(((by_union > IOU) | (by_smaller > CONTAINED)).any())
        assert covered == (row not in kept)


def test_most_confident_first_and_ties_keep_their_order() -> None:
    grains = discs([(0, 0), (100, 0), (200, 0), (300, 0)], 20, confidence=[0.5, 0.9, 0.5, 0.9])
    assert one_box_per_grain(grains.boxes, grains.confidence, IOU).tolist() == [1, 3, 0, 2]


def test_equal_boxes_are_one_grain() -> None:
    grains = discs([(50, 50)] * 5, 40, confidence=[0.4, 0.4, 0.8, 0.4, 0.4])
    assert one_box_per_grain(grains.boxes, grains.confidence, 0.99).tolist() == [2]


@given(
    st.floats(20, 160),
    st.floats(0.5, 1),
    st.floats(0, 2 * math.pi),
)
def test_touching_grains_stay_two(diameter: float, ratio: float, angle: float) -> None:
    """Circles side by side in any direction, of equal size or one half the other."""
    distance = diameter * (1 + ratio) / 2
    other = distance * math.cos(angle), distance * math.sin(angle)
    grains = discs([(200, 200), (200 + other[0], 200 + other[1])], [diameter, diameter * ratio])
    assert len(one_box_per_grain(grains.boxes, grains.confidence, IOU)) == 2
    assert not overlapping(grains, 0.1).any()


def test_a_fragment_inside_a_grain_is_no_grain() -> None:
    grains = discs([(50, 50), (58, 50)], [60, 24])
    by_union, _ = overlaps(grains.boxes[0], grains.boxes[1:])
    assert by_union[0] < IOU  # intersection over union alone would keep it
    assert one_box_per_grain(grains.boxes, grains.confidence, IOU).tolist() == [0]


def test_thousands_of_boxes_are_not_cut_short() -> None:
    rows, columns = np.mgrid[0:60, 0:60]
    grains = discs(np.stack([columns.ravel(), rows.ravel()], axis=1) * 30.0, 28)
    assert len(one_box_per_grain(grains.boxes, grains.confidence, IOU)) == 3600


@given(st.floats(0, 100), st.floats(0, 100), st.floats(1, 50), st.floats(1, 50))
def test_overlap_of_boxes(x: float, y: float, width: float, height: float) -> None:
    """Against the same intersection computed in double precision."""
    own = np.array([20, 20, 60, 70], np.float32)
    other = np.array([[x, y, x + width, y + height]], np.float32)
    shared = max(0.0, min(60, x + width) - max(20, x)) * max(0.0, min(70, y + height) - max(20, y))
    by_union, by_smaller = overlaps(own, other)
    assert by_union[0] == pytest.approx(shared / (2000 + width * height - shared), abs=1e-4)
    assert by_smaller[0] == pytest.approx(shared / min(2000, width * height), abs=1e-3)


def test_boxes_without_area_share_nothing() -> None:
    empty = np.array([5, 5, 5, 5], np.float32)
    assert [part.tolist() for part in overlaps(empty, empty[None])] == [[0.0], [0.0]]


def lens(diameter: float, distance: float) -> float:
    """Part of a disc's area that an equal disc at `distance` covers (circle-circle lens)."""
    radius = diameter / 2
    half = math.acos(distance / diameter)
    shared = 2 * radius**2 * half - distance / 2 * math.sqrt(4 * radius**2 - distance**2)
    return shared / (math.pi * radius**2)


def disc_mask(centre: tuple[float, float], diameter: float) -> NDArray[np.uint8]:
    """`(240, 240)` pixels whose centres lie inside a disc."""
    y, x = np.mgrid[0:240, 0:240] + 0.5
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= (diameter / 2) ** 2
    return np.asarray(inside, np.uint8)


def drawn(centre: tuple[float, float], diameter: float) -> Grains:
    """A disc as a mask model gives it: area and outline of the pixels inside."""
    mask = disc_mask(centre, diameter)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    disc = discs([centre], diameter)
    outline = (contours[0][:, 0, :] + 0.5).astype(np.float32)
    area = np.array([mask.sum()], np.float32)
    return Grains(disc.boxes, disc.confidence, disc.classes, area, (outline,))


@given(
    st.tuples(st.floats(120, 121), st.floats(120, 121)),
    st.floats(30, 80),
    st.floats(0.3, 0.95),
    st.floats(0, 2 * math.pi),
)
def test_overlap_of_discs_is_what_their_pixels_share(
    centre: tuple[float, float], diameter: float, apart: float, angle: float
) -> None:
    distance = apart * diameter
    other = centre[0] + distance * math.cos(angle), centre[1] + distance * math.sin(angle)
    both = Grains.concatenate([drawn(centre, diameter), drawn(other, diameter)])
    masks = [disc_mask(middle, diameter) for middle in (centre, other)]
    smaller = min(int(mask.sum()) for mask in masks)
    shared = np.count_nonzero(masks[0] & masks[1]) / smaller
    few_pixels = 6 / smaller  # lines cut off by the border of the drawing
    assert shared == pytest.approx(lens(diameter, distance), abs=0.02)
    assert not overlapping(both, shared + few_pixels).any()
    if shared > few_pixels:
        assert overlapping(both, shared - few_pixels).all()


@given(crowds(), st.randoms(use_true_random=False))
def test_overlap_does_not_depend_on_order(grains: Grains, random: object) -> None:
    order = np.arange(len(grains))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert np.array_equal(overlapping(grains, 0.1)[order], overlapping(grains.take(order), 0.1))


def test_a_small_grain_under_a_large_one_hides_both() -> None:
    grains = discs([(50, 50), (80, 50), (200, 50)], [80, 20, 40])
    assert overlapping(grains, 0.1).tolist() == [True, True, False]


@given(crowds(), st.floats(0.2, 5), st.floats(-500, 500), st.floats(-500, 500))
def test_placing_and_placing_back(grains: Grains, scale: float, x: float, y: float) -> None:
    there = grains.placed(scale, (x, y))
    back = there.placed(1 / scale, (-x / scale, -y / scale))
    assert back.boxes == pytest.approx(grains.boxes, abs=0.01)
    assert back.areas_px == pytest.approx(grains.areas_px, rel=1e-4)
    assert there.diameters_px == pytest.approx(grains.diameters_px * scale, rel=1e-4)
    for ours, theirs in zip(back.outlines, grains.outlines, strict=True):
        assert ours == pytest.approx(theirs, abs=0.01)
    assert back.classes.tolist() == grains.classes.tolist()
    assert there.boxes.dtype == there.areas_px.dtype == np.float32


@given(crowds(), st.randoms(use_true_random=False))
def test_reading_order(grains: Grains, random: object) -> None:
    order = np.arange(len(grains))
    random.shuffle(order)  # type: ignore[attr-defined]
    read = grains.in_reading_order()
    assert equal(read, grains.take(order).in_reading_order())
    assert equal(read, read.in_reading_order())
    places = [(round(float(y), 1), round(float(x), 1)) for x, y in read.centres]
    assert places == sorted(places)
    assert sorted(read.confidence) == sorted(grains.confidence)


def test_reading_order_ignores_the_last_bits() -> None:
    """Rows found at 50.04 and 49.98 px are one row, read from left to right."""
    grains = discs([(80, 49.98), (20, 50.04)], 20)
    assert grains.in_reading_order().centres[:, 0].tolist() == [20, 80]


def test_no_grains() -> None:
    none = Grains.none()
    assert len(none) == 0
    assert one_box_per_grain(none.boxes, none.confidence, IOU).shape == (0,)
    assert overlapping(none, 0.1).shape == (0,)
    assert equal(none.placed(2, (1, 1)).in_reading_order(), none)
    assert equal(Grains.concatenate([]), none)
    assert equal(Grains.concatenate([none, none]), none)


def test_columns_must_agree() -> None:
    two: NDArray[np.float32] = np.zeros((2, 4), np.float32)
    one = np.zeros(1, np.float32)
    with pytest.raises(ValueError, match=r"different lengths: \[1, 2\]"):
        Grains(two, one, np.zeros(1, np.int64), one, (two[:, :2],))


@given(crowds(least=1), st.data())
def test_taking_by_mask_and_by_number(grains: Grains, data: st.DataObject) -> None:
    mask = np.array(
        data.draw(st.lists(st.booleans(), min_size=len(grains), max_size=len(grains))), np.bool_
    )
    assert equal(grains.take(mask), grains.take(np.flatnonzero(mask)))
    both = Grains.concatenate([grains.take(mask), grains.take(~mask)])
    assert sorted(both.confidence) == sorted(grains.confidence)
