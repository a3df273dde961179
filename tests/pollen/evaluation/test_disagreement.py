"""Which pictures are shown, and what is drawn into them."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.disagreement import PANEL_PX, disputed, draw_disagreements
from pollen.reports.annotate import decode_jpeg
from tests.pollen.evaluation.judging import far_away, judged, other_class, perfect, picture_of
from tests.pollen.grain_making import discs


def test_what_only_one_side_has_or_classes_differently_is_disputed() -> None:
    grains = discs([(50, 50), (150, 50), (250, 50)], 40)
    first = grains.take(np.array([0, 1]))
    second = Grains.concatenate(
        [other_class(grains.take(np.array([1]))), grains.take(np.array([2]))]
    )
    own, theirs = disputed(first, second)
    assert own.tolist() == [True, True]
    assert theirs.tolist() == [True, True]
    assert not any(side.any() for side in disputed(grains, grains))


def test_the_worst_come_first_and_those_in_agreement_never(
    pictures: list[LabelledPicture],
) -> None:
    found = [perfect(picture) for picture in pictures]
    two_missing = found[1].take(np.arange(2, len(found[1])))
    one_false = Grains.concatenate([found[2], discs([(20, 20)], 10)])
    new = judged(pictures, [found[0], two_missing, one_false, found[3]])
    shown = draw_disagreements(new, None)
    assert [item.name for item in shown] == [pictures[1].name, pictures[2].name]
    assert [item.grains for item in shown] == [2, 1]
    assert [panel.title for panel in shown[0].panels] == ["labels", "new model"]
    viable, non_viable = shown[0].panels[0].viable, shown[0].panels[0].non_viable
    assert viable + non_viable == len(pictures[1].truth)
    assert len(draw_disagreements(new, None, most=1)) == 1


def test_two_models_are_compared_with_each_other_whatever_the_labels_say(
    pictures: list[LabelledPicture],
) -> None:
    found = [perfect(picture) for picture in pictures]
    wrong = [other_class(found[0]), *found[1:]]
    assert draw_disagreements(judged(pictures, wrong), judged(pictures, wrong)) == ()
    (shown,) = draw_disagreements(judged(pictures, wrong), judged(pictures, found))
    assert shown.grains == len(found[0])  # a grain in two classes is one grain, not two
    assert [panel.title for panel in shown.panels] == ["labels", "new model", "production model"]


def test_disputed_grains_are_framed(pictures: list[LabelledPicture]) -> None:
    picture, found = pictures[0], perfect(pictures[0])
    (shown,) = draw_disagreements(judged([picture], [found.take(np.arange(1, len(found)))]), None)
    labels, model = (decode_jpeg(panel.jpeg).astype(int) for panel in shown.panels)
    assert max(labels.shape) == PANEL_PX
    scale = PANEL_PX / max(picture.size_px)
    x0, y0, x1, y1 = (picture.truth.boxes[0] * scale).astype(int)
    around = np.s_[max(y0 - 8, 0) : y1 + 9, max(x0 - 8, 0) : x1 + 9]
    assert np.abs(labels[around] - model[around]).mean() > 15
    differs = np.abs(labels - model).max(axis=2) > 40
    differs[around] = False
    assert differs.mean() < 0.01


@pytest.fixture
def large(tmp_path: Path) -> LabelledPicture:
    """A picture of 3000 x 1000 px with grains at both ends."""
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), np.full((1000, 3000, 3), 210, np.uint8))
    truth = discs([(100, 100), (2800, 800), (2850, 900), (2900, 700)], 40)
    return picture_of(truth, "large.png", path=path, size_px=(3000, 1000))


def test_of_a_large_picture_the_part_with_most_dispute_is_shown(large: LabelledPicture) -> None:
    (shown,) = draw_disagreements(judged([large], [Grains.none()]), None)
    assert (shown.grains, shown.is_part) == (4, True)
    labels = decode_jpeg(shown.panels[0].jpeg)
    assert labels.shape == (PANEL_PX, PANEL_PX, 3)
    # Three frames lie to the right and below the middle.
    drawn = np.abs(labels.astype(int) - 210).max(axis=2) > 60
    assert drawn[PANEL_PX // 2 :, PANEL_PX // 2 :].mean() > drawn[: PANEL_PX // 2].mean()


def test_false_grains_outside_the_shown_part_are_no_error(large: LabelledPicture) -> None:
    found = Grains.concatenate([large.truth, far_away(large.truth)])
    (shown,) = draw_disagreements(judged([large], [found]), None)
    assert shown.grains == 1
