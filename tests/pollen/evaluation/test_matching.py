"""Scores of detections whose mistakes are known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.matching import by_class, match, score_picture
from tests.pollen.evaluation.judging import far_away, other_class, perfect, picture_of
from tests.pollen.grain_making import discs


def test_a_perfect_detector_makes_no_mistake(pictures: list[LabelledPicture]) -> None:
    for picture in pictures:
        score = score_picture(picture, perfect(picture))
        assert (score.mistakes, score.bias) == (0, 0)
        assert score.true_counts == score.found_counts
        np.testing.assert_allclose(score.diameters_px[:, 0], score.diameters_px[:, 1])


def test_each_kind_of_mistake_is_counted_as_itself(pictures: list[LabelledPicture]) -> None:
    picture, truth = pictures[0], perfect(pictures[0])
    score = score_picture(picture, truth.take(np.arange(2, len(truth))))
    assert (score.false.sum(), score.missed.sum(), score.confused.sum()) == (0, 2, 0)
    assert score.bias == -2

    score = score_picture(picture, Grains.concatenate([truth, far_away(truth)]))
    assert (score.false.sum(), score.missed.sum(), score.bias) == (1, 0, 1)

    double = Grains.concatenate([truth, truth.take(np.array([0]))])
    assert score_picture(picture, double).false.sum() == 1

    score = score_picture(picture, other_class(truth))
    assert (score.confused.sum(), score.bias) == (len(truth), 0)


def test_the_confident_detection_gets_the_label() -> None:
    picture = picture_of(discs([(100, 100)], 40))
    found = discs([(100, 100), (105, 100)], 40, confidence=[0.25, 0.75])
    score = score_picture(picture, found)
    assert score.found.confidence.tolist() == [0.75, 0.25]
    assert score.labels.tolist() == [0, -1]


def test_an_overlap_of_exactly_a_half_is_a_match() -> None:
    iou = np.array([[0.5], [0.49]], np.float32)
    assert match(iou).tolist() == [0, -1]
    assert match(iou[1:]).tolist() == [-1]


@given(st.data())
def test_confusion_adds_up_to_labels_and_detections(data: st.DataObject) -> None:
    def grains(*, distinct: bool = False) -> Grains:
        places = data.draw(
            st.lists(
                st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 1)),
                max_size=12,
                unique_by=(lambda place: place[:2]) if distinct else None,
            )
        )
        classes = np.array([place[2] for place in places], np.int64)
        return discs([(30 * x + 50, 30 * y + 50) for x, y, _ in places], 40, classes=classes)

    truth, found = grains(distinct=True), grains()  # a label holds each grain once
    score = score_picture(picture_of(truth), found)
    assert tuple(score.confusion[:2].sum(axis=1)) == by_class(truth.classes)
    assert tuple(score.confusion[:, :2].sum(axis=0)) == by_class(found.classes)
    assert score.confusion[2, 2] == 0
    assert score.confusion[:2, 2].sum() == score.missed.sum()
    assert score.confusion[2].sum() == score.false.sum()
    assert score.confusion[0, 1] + score.confusion[1, 0] == score.confused.sum()


def test_grains_people_were_unsure_of_are_neither_right_nor_wrong() -> None:
    grains = discs([(100, 100), (300, 300)], 40)
    sure, unsure = grains.take(np.array([0])), grains.take(np.array([1]))
    picture = picture_of(sure, unsure=unsure)
    assert score_picture(picture, grains).mistakes == 0
    assert score_picture(picture, sure).mistakes == 0
    assert score_picture(picture, unsure).missed.tolist() == [True]


def test_an_unsure_neighbour_does_not_take_a_sure_grain_away() -> None:
    sure, unsure = discs([(100, 100)], 40), discs([(108, 100)], 40)
    picture = picture_of(sure, unsure=unsure)
    assert score_picture(picture, sure).mistakes == 0
