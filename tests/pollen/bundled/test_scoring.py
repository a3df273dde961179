"""Scores of detections whose mistakes are known."""

import numpy as np
import pytest

from pollen.bundled.evaluate import judge, report
from pollen.bundled.pictures import LabelledPicture
from pollen.bundled.scoring import (
    average_precision,
    diameter_error_percent,
    score_picture,
    summarise,
    true_boxes,
)
from pollen.classes import GrainClass
from pollen.grains import Grains


def perfect(picture: LabelledPicture) -> Grains:
    """What an all-knowing detector would report."""
    boxes, classes = true_boxes(picture)
    outlines = tuple(outline.points for outline in picture.outlines)
    areas = np.array([outline.area_px for outline in picture.outlines], np.float32)
    return Grains(boxes, np.full(len(boxes), 0.9, np.float32), classes, areas, outlines)


def test_a_perfect_detector_makes_no_mistake(pictures: list[LabelledPicture]) -> None:
    found = [perfect(picture) for picture in pictures]
    summary = summarise([score_picture(p, g) for p, g in zip(pictures, found, strict=True)])
    assert (summary.count_error, summary.false, summary.missed, summary.confused) == (0, 0, 0, 0)
    assert summary.viability_error == pytest.approx(0)
    for grain_class in GrainClass:
        assert average_precision(pictures, found, grain_class) == pytest.approx(1)


def test_each_kind_of_mistake_is_counted_as_itself(pictures: list[LabelledPicture]) -> None:
    picture, truth = pictures[0], perfect(pictures[0])
    missing_two = truth.take(np.arange(2, len(truth)))
    score = score_picture(picture, missing_two)
    assert (len(score.false), len(score.missed), len(score.confused)) == (0, 2, 0)
    assert score.count_error == 2

    far = truth.take(np.array([0])).placed(1.0, (1000.0, 0.0))
    score = score_picture(picture, Grains.concatenate([truth, far]))
    assert (len(score.false), len(score.missed), score.count_error) == (1, 0, 1)

    double = Grains.concatenate([truth, truth.take(np.array([0]))])
    assert len(score_picture(picture, double).false) == 1

    other = Grains(truth.boxes, truth.confidence, 1 - truth.classes, truth.areas_px, truth.outlines)
    score = score_picture(picture, other)
    assert (len(score.confused), score.count_error) == (len(truth), 0)


def test_errors_of_opposite_sign_do_not_cancel_between_pictures(
    pictures: list[LabelledPicture],
) -> None:
    first, second = perfect(pictures[0]), perfect(pictures[1])
    scores = [
        score_picture(pictures[0], first.take(np.arange(1, len(first)))),
        score_picture(pictures[1], Grains.concatenate([second, second.take(np.array([0]))])),
    ]
    assert summarise(scores).count_error == 2


def test_precision_sees_the_order_of_confidences(pictures: list[LabelledPicture]) -> None:
    truth = [perfect(picture) for picture in pictures]

    def with_false(confidence: float) -> float:
        wrong = truth[0].take(np.array([0])).placed(1.0, (1000.0, 0.0))
        wrong = Grains(
            wrong.boxes,
            np.array([confidence], np.float32),
            wrong.classes,
            wrong.areas_px,
            wrong.outlines,
        )
        found = [Grains.concatenate([truth[0], wrong]), *truth[1:]]
        return average_precision(pictures, found, GrainClass(int(wrong.classes[0])))

    assert with_false(0.5) == pytest.approx(1)  # below every true one: costs nothing
    assert with_false(0.95) < 0.97


def test_the_report_names_plants_and_worst_pictures(pictures: list[LabelledPicture]) -> None:
    found = [perfect(picture) for picture in pictures]
    found[1] = Grains.none()
    text = report(judge(pictures, found, found))
    assert "plant-2" in text
    assert f"2.png: 0, {len(pictures[1].outlines)}, 0" in text
    assert "1.png" not in text


def test_diameters_are_compared_grain_by_grain(pictures: list[LabelledPicture]) -> None:
    truth = perfect(pictures[0])
    larger = Grains(
        truth.boxes,
        truth.confidence,
        truth.classes,
        truth.areas_px * np.float32(1.21),
        truth.outlines,
    )
    bias, spread = diameter_error_percent([score_picture(pictures[0], larger)])
    assert bias == pytest.approx(10, abs=0.1)
    assert spread == pytest.approx(10, abs=0.1)
