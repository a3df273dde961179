"""What is added up over pictures."""

import numpy as np
import pytest

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.figures import (
    Agreement,
    called_wrong,
    diameter_error,
    recall_by_size,
    summaries_by,
    summarise,
)
from pollen.evaluation.matching import score_picture
from pollen.statistics.intervals import clopper_pearson
from tests.pollen.evaluation.judging import far_away, known, other_class, perfect, picture_of
from tests.pollen.grain_making import discs


def test_errors_of_opposite_sign_do_not_cancel_between_pictures(
    pictures: list[LabelledPicture],
) -> None:
    first, second = perfect(pictures[0]), perfect(pictures[1])
    scores = [
        score_picture(pictures[0], first.take(np.arange(1, len(first)))),
        score_picture(pictures[1], Grains.concatenate([second, second.take(np.array([0]))])),
    ]
    summary = summarise(scores)
    assert (summary.count_error, summary.bias) == (2, 0)
    assert summary.count_error_percent == pytest.approx(200 / (len(first) + len(second)))


def test_without_grains_nothing_is_said_of_viability() -> None:
    empty = picture_of(Grains.none())
    summary = summarise([score_picture(empty, discs([(100, 100)], 40))])
    assert (summary.grains, summary.found, summary.count_error, summary.false) == (0, 1, 1, 1)
    assert summary.viability_true is None
    assert summary.viability_found == 100
    assert summary.viability_error is None
    assert summary.count_error_percent is None


def test_parts_are_told_apart(pictures: list[LabelledPicture]) -> None:
    scores = [score_picture(picture, perfect(picture)) for picture in pictures]
    groups = summaries_by(scores, lambda score: score.picture.group)
    assert {name: item.pictures for name, item in groups.items()} == {"1-1-A_2x": 2, "2-5-C_4x": 2}
    slides = summaries_by(scores, lambda score: score.picture.slide)
    assert list(slides) == ["1-1-A_2x_A", "2-5-C_4x_B"]


def row(number: int, viable: bool = True) -> Grains:
    """A row of grains of one class."""
    classes = [GrainClass.VIABLE if viable else GrainClass.NON_VIABLE] * number
    return discs([(60 * i + 50, 50) for i in range(number)], 40, classes=classes)


def test_grains_called_the_other_class_are_counted_among_those_found() -> None:
    truth = row(10)
    found = Grains.concatenate([other_class(truth.take(np.arange(2))), truth.take(np.arange(2, 8))])
    scores = [score_picture(picture_of(truth, name), found) for name in ("a", "b")]
    rate = called_wrong(scores, GrainClass.VIABLE)
    assert (rate.events, rate.grains, rate.unit, rate.units) == (4, 16, "picture", 2)
    assert rate.fraction == 0.25
    unknown = called_wrong(scores, GrainClass.NON_VIABLE)
    assert (unknown.fraction, unknown.low, unknown.high) == (None, None, None)


def test_the_interval_knows_that_mistakes_come_in_clusters() -> None:
    truth = row(20)
    wrong = other_class(truth)
    pictures = [picture_of(truth, f"{i}", group=f"plant-{i}") for i in range(8)]
    scores = [score_picture(p, wrong if p.name == "0" else truth) for p in pictures]
    rate = called_wrong(scores, GrainClass.VIABLE)
    assert (rate.unit, rate.units, rate.events, rate.grains) == ("group", 8, 20, 160)
    low, high = clopper_pearson(20, 160)
    assert known(rate.high) - known(rate.low) > 1.5 * (high - low)


def test_agreement_by_hand() -> None:
    agreement = Agreement(np.array([2.0, 4.0, 6.0]), np.array([1.0, 0.0, -1.0]) + 2)
    assert agreement.bias == 2
    assert agreement.limits == pytest.approx((2 - 1.96, 2 + 1.96))
    assert Agreement(np.array([1.0]), np.array([1.0])).limits is None


def test_agreement_of_counts_and_viability() -> None:
    truth = row(4)
    more = Grains.concatenate([truth, far_away(truth)])
    scores = [score_picture(picture_of(truth), more), score_picture(picture_of(row(0)), row(0))]
    counts = Agreement.of_counts(scores)
    assert counts.differences.tolist() == [1, 0]
    assert counts.means.tolist() == [4.5, 0]
    summaries = [summarise([score]) for score in scores]
    assert Agreement.of_viability(summaries).differences.tolist() == [0]


def test_recall_is_told_by_size() -> None:
    truth = discs([(100 * i + 100, 100) for i in range(5)], [20, 40, 40, 40, 80])
    score = score_picture(picture_of(truth), truth.take(np.array([1, 2, 4])))
    sizes = recall_by_size([score])
    assert [(size.name, size.grains, size.found) for size in sizes] == [
        ("small", 1, 0),
        ("typical", 3, 2),
        ("large", 1, 1),
    ]
    assert recall_by_size([score_picture(picture_of(Grains.none()), truth)]) == ()


def test_diameters_are_compared_grain_by_grain() -> None:
    truth = row(5)
    larger = discs([(60 * i + 50, 50) for i in range(5)], 44)
    score = score_picture(picture_of(truth), larger)
    error = diameter_error([score])
    assert (error.median, error.median_absolute) == pytest.approx((10, 10), abs=0.1)
    unknown = diameter_error([score_picture(picture_of(truth), Grains.none())])
    assert (unknown.median, unknown.median_absolute) == (None, None)
