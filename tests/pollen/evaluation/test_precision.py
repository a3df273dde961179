"""Average precision against worked examples and another implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.precision import (
    IOU_LEVELS,
    ClassPrecision,
    PrecisionMeter,
    precision_curves,
)
from tests.pollen.evaluation.judging import far_away, other_class, perfect, picture_of
from tests.pollen.grain_making import discs


def measure(
    pictures: list[LabelledPicture], found: list[Grains]
) -> dict[GrainClass, ClassPrecision]:
    meter = PrecisionMeter()
    for picture, grains in zip(pictures, found, strict=True):
        meter.add(picture, grains)
    return meter.result()


def test_a_perfect_detector_has_a_precision_of_one(pictures: list[LabelledPicture]) -> None:
    for precision in measure(pictures, [perfect(picture) for picture in pictures]).values():
        assert (precision.ap50, precision.ap50_95) == (1.0, 1.0)


def test_grains_of_the_other_class_do_not_count(pictures: list[LabelledPicture]) -> None:
    found = [other_class(perfect(picture)) for picture in pictures]
    assert measure(pictures, found)[GrainClass.VIABLE].ap50 == 0


def test_precision_sees_the_order_of_confidences(pictures: list[LabelledPicture]) -> None:
    def with_false(confidence: float) -> float | None:
        found = [perfect(picture) for picture in pictures]
        wrong = far_away(found[0], confidence)
        found[0] = Grains.concatenate([found[0], wrong])
        return measure(pictures, found)[GrainClass(int(wrong.classes[0]))].ap50

    assert with_false(0.5) == pytest.approx(1)  # below every true one: costs nothing
    assert (with_false(0.95) or 0) < 0.97


def test_what_no_label_shows_has_no_precision() -> None:
    viable_only = picture_of(discs([(100, 100)], 40))
    result = measure([viable_only], [perfect(viable_only)])
    assert result[GrainClass.VIABLE].ap50 == 1
    assert result[GrainClass.NON_VIABLE].ap50 is None
    assert result[GrainClass.NON_VIABLE].ap50_95 is None


def test_a_model_that_finds_nothing_has_a_precision_of_zero() -> None:
    result = measure([picture_of(discs([(100, 100)], 40))], [Grains.none()])
    assert result[GrainClass.VIABLE].ap50 == 0


def test_a_worked_example() -> None:
    # Hits and misses by falling confidence, 4 labels: recall 1/4, 1/4, 2/4, 3/4; precision at those
    # 1, 1/2, 2/3, 3/4, of which the envelope is 1, 3/4, 3/4, 3/4. Of 101 recalls 26 (0 to 0.25) have
    # 1, 50 (0.26 to 0.75) have 3/4, and 25 have 0.
    hits = np.array([[True, False, True, True]])
    curve = precision_curves(np.array([0.9, 0.8, 0.7, 0.6], np.float32), hits, labelled=4)
    assert curve.mean() == pytest.approx((26 + 50 * 0.75) / 101)


def test_looser_boxes_pass_fewer_levels() -> None:
    picture = picture_of(discs([(100, 100)], 40))
    # Moved by 4 of 40 pixels: 36 / 44 of the union is shared, 0.818.
    precision = measure([picture], [discs([(104, 100)], 40)])[GrainClass.VIABLE]
    assert precision.ap50 == 1
    assert precision.ap50_95 == pytest.approx(np.mean(np.array(IOU_LEVELS) <= 36 / 44))


def slowly(confidence: list[float], hits: list[bool], labelled: int) -> float:
    """The definition, point by point."""
    order = sorted(range(len(hits)), key=lambda i: -confidence[i])
    total = 0.0
    for percent in range(101):
        best = 0.0
        for end in range(1, len(order) + 1):
            right = sum(hits[i] for i in order[:end])
            if 100 * right >= percent * labelled:
                best = max(best, right / end)
        total += best
    return total / 101


@given(
    st.lists(
        st.tuples(st.integers(1, 999), st.booleans()), unique_by=lambda pair: pair[0], max_size=15
    ),
    st.integers(0, 10),
)
def test_it_is_the_definition(pairs: list[tuple[int, bool]], missed: int) -> None:
    confidence = [thousandths / 1000 for thousandths, _ in pairs]
    hits = [hit for _, hit in pairs]
    labelled = sum(hits) + missed
    curve = precision_curves(np.array(confidence, np.float32), np.array([hits], bool), labelled)
    expected = slowly(confidence, hits, labelled) if labelled else 0.0
    # Recalls that should be exactly points of the curve may round to their other side.
    assert curve.mean() == pytest.approx(expected, abs=0.03)
