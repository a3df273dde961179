"""A real model on labelled pictures, through the same code as detection."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture, read_pictures
from pollen.detection.grains import Grains
from pollen.detection.pipeline import detect_frames
from pollen.detection.settings import DetectSettings
from pollen.evaluation.evaluate import Evaluation, evaluate, find_grains
from pollen.frames import FrameError, open_frames
from tests.pollen.conftest import Prepared
from tests.pollen.evaluation.judging import known

ON_CPU = DetectSettings.model_validate({"device": "cpu"})


@pytest.fixture(scope="module")
def reached(pictures: list[LabelledPicture], bundled: Prepared) -> Evaluation:
    return evaluate(pictures, bundled.weights, bundled.card, bundled.cache, ON_CPU)


def written(evaluation: Evaluation) -> str:
    return json.dumps(evaluation.figures.model_dump(mode="json"), allow_nan=False)


def test_the_bundled_model_counts_rendered_pictures(reached: Evaluation) -> None:
    assert (reached.figures.overall.pictures, reached.figures.overall.grains) == (4, 24)
    assert known(reached.figures.overall.count_error) <= 2
    assert (reached.figures.map50["viable"] or 0) > 0.9
    assert (reached.figures.mean_map50_95 or 0) > 0.5
    assert set(reached.figures.groups) == {"1-1-A_2x", "2-5-C_4x"}


def test_counts_are_those_of_detection(
    reached: Evaluation, pictures: list[LabelledPicture], bundled: Prepared
) -> None:
    detector = bundled.detector()
    for score in reached.scores:
        with open_frames(score.picture.path, score.picture.name) as file:
            ((_, grains),) = detect_frames(file.frames, detector)
        assert isinstance(grains, Grains)
        assert len(grains) == len(score.found)


def test_precision_sees_what_the_card_leaves_out(
    reached: Evaluation, pictures: list[LabelledPicture], bundled: Prepared
) -> None:
    strict = bundled.card.model_copy(update={"confidence": 0.93})
    fewer = evaluate(pictures, bundled.weights, strict, bundled.cache, ON_CPU)
    assert known(fewer.figures.overall.found) < known(reached.figures.overall.found)
    assert fewer.figures.map50 == reached.figures.map50
    assert fewer.figures.map50_95 == reached.figures.map50_95


def test_figures_are_plain_numbers_and_equal_each_time(
    reached: Evaluation, pictures: list[LabelledPicture], bundled: Prepared
) -> None:
    again = evaluate(pictures, bundled.weights, bundled.card, bundled.cache, ON_CPU)
    text = written(reached)
    assert text == written(again)
    figures = json.loads(text)
    assert figures["overall"]["grains"] == 24
    assert figures["model"]["sha256"] == bundled.card.sha256
    assert figures["confusion"]["viable"]["viable"] == reached.confusion[0, 0]
    assert figures["groups"]["2-5-C_4x"]["pictures"] == 2


def test_figures_are_exact_until_they_are_written(reached: Evaluation) -> None:
    figures, metrics = reached.figures, json.loads(written(reached))
    error = known(figures.overall.viability_error)
    assert metrics["overall"]["viability_error"] == round(error, 2) != error
    assert list(figures.groups) == list(metrics["groups"])
    rate = figures.called_wrong["viable"]
    high = known(rate.high)
    assert metrics["called_wrong"]["viable"]["high"] == round(high, 4) != high
    assert high > known(rate.fraction)


def test_a_picture_larger_than_a_tile_is_counted_once(
    pictures: list[LabelledPicture], tmp_path: Path, bundled: Prepared
) -> None:
    # Four copies of a picture side by side: as many grains four times, across the seams of tiles.
    single = cv2.imread(str(pictures[0].path))
    assert single is not None
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "four.png"), np.tile(single, (2, 2, 1)))
    lines = [
        f"{grain_class} {(x0 + x1) / 4 / 320 + dx} {(y0 + y1) / 4 / 320 + dy} "
        f"{(x1 - x0) / 640} {(y1 - y0) / 640}\n"
        for dx in (0, 0.5)
        for dy in (0, 0.5)
        for (x0, y0, x1, y1), grain_class in zip(
            pictures[0].truth.boxes, pictures[0].truth.classes, strict=True
        )
    ]
    (tmp_path / "labels" / "four.txt").write_text("".join(lines))
    reached = evaluate(
        read_pictures(tmp_path), bundled.weights, bundled.card, bundled.cache, ON_CPU
    )
    assert reached.figures.overall.grains == 4 * len(pictures[0].truth)
    assert known(reached.figures.overall.missed) <= 1
    assert (
        known(reached.figures.overall.false) <= 4
    )  # cut grains at the inner borders may look like two


def test_a_damaged_picture_stops_the_evaluation(
    pictures: list[LabelledPicture], tmp_path: Path, bundled: Prepared
) -> None:
    (tmp_path / "images").mkdir()
    broken = tmp_path / "images" / "broken.png"
    broken.write_bytes(pictures[0].path.read_bytes())
    (picture,) = read_pictures(tmp_path)
    broken.write_bytes(pictures[0].path.read_bytes()[:20_000])
    with pytest.raises(FrameError, match="broken"):
        evaluate([picture], bundled.weights, bundled.card, bundled.cache, ON_CPU)


@pytest.mark.slow
def test_pictures_are_read_one_after_the_other(
    pictures: list[LabelledPicture], tmp_path: Path, bundled: Prepared
) -> None:
    (tmp_path / "images").mkdir()
    for number in range(40):
        copy = tmp_path / "images" / f"{number:02d}.png"
        copy.write_bytes(pictures[0].path.read_bytes())
    copies = read_pictures(tmp_path)
    found = find_grains(copies, bundled.weights, bundled.card, bundled.cache, ON_CPU)
    next(found)
    copies[-1].path.write_bytes(pictures[0].path.read_bytes()[:20_000])
    with pytest.raises(FrameError, match=r"39\.png: the file ends early"):
        list(found)


def test_classes_with_no_label_are_told_as_unknown(
    pictures: list[LabelledPicture], bundled: Prepared
) -> None:
    empty = [picture for picture in pictures if not len(picture.truth)]
    reached = evaluate(empty, bundled.weights, bundled.card, bundled.cache, ON_CPU)
    assert reached.figures.map50 == {item.label: None for item in GrainClass}
    figures = json.loads(written(reached))
    assert figures["overall"]["viability_true"] is None
    assert figures["called_wrong"]["viable"]["fraction"] is None
    assert figures["recall_by_size"] == []
