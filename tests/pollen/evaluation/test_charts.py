"""Charts are whole pictures, the same each time, and none fails on sparse data."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pollen.dataset.labelled import LabelledPicture
from pollen.detection.grains import Grains
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.curves import draw_training
from pollen.evaluation.evaluate import Evaluation
from tests.pollen.evaluation.judging import judged, perfect, picture_of
from tests.pollen.grain_making import discs

HEAD = "epoch,time,train/box_loss,train/cls_loss,metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss"


@pytest.fixture(scope="module")
def new(pictures: list[LabelledPicture]) -> Evaluation:
    return judged(pictures, [perfect(picture) for picture in pictures])


def decoded(png: bytes) -> np.ndarray[tuple[int, ...]]:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return np.asarray(pixels)


@pytest.mark.slow
def test_charts_are_drawn_for_one_model_and_for_two(
    new: Evaluation, pictures: list[LabelledPicture]
) -> None:
    worse = judged(pictures, [Grains.none(), *(perfect(picture) for picture in pictures[1:])])
    alone, both = draw_charts(new, None), draw_charts(new, worse)
    assert set(alone) == set(both)
    for name, png in both.items():
        assert decoded(png).std() > 5, name
        assert png != alone[name], name


@pytest.mark.slow
def test_equal_figures_give_equal_bytes_without_time_or_version(
    new: Evaluation, tmp_path: Path
) -> None:
    first, second = draw_charts(new, None), draw_charts(new, None)
    assert first == second
    for png in first.values():
        (tmp_path / "chart.png").write_bytes(png)
        assert set(Image.open(tmp_path / "chart.png").info) <= {"dpi"}


@pytest.mark.slow
def test_the_users_own_style_changes_nothing(new: Evaluation) -> None:
    import matplotlib as mpl

    plain = draw_charts(new, None)
    with mpl.rc_context({"lines.linewidth": 9, "font.size": 30, "figure.facecolor": "red"}):
        assert draw_charts(new, None) == plain
        assert mpl.rcParams["font.size"] == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "truth", [Grains.none(), discs([(50, 50)], 30)], ids=["no grain", "one grain"]
)
@pytest.mark.parametrize("found", [Grains.none(), discs([(50, 50)], 30)], ids=["none", "one"])
def test_sparse_data_is_drawn_too(truth: Grains, found: Grains) -> None:
    sparse = judged([picture_of(truth)], [found])
    for png in draw_charts(sparse, sparse).values():
        decoded(png)


def test_of_many_groups_the_largest_are_drawn() -> None:
    many = [
        picture_of(
            discs([(50 * i, 50) for i in range(1, 2 + number)], 30),
            group=f"{number:03d}",
            size_px=(4000, 100),
        )
        for number in range(60)
    ]
    chart = draw_charts(judged(many, [picture.truth for picture in many]), None)
    assert decoded(chart["viability_by_group.png"]).shape[0] < 1600


def test_the_course_of_a_training_is_drawn(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(f"{HEAD}\n1,9.5,2.0,3.0,0.1,0.05,2.5\n2,19,1.5,2.0,0.5,0.3,nan\n")
    first = draw_training(table)
    assert first is not None
    assert decoded(first).std() > 5
    assert draw_training(table) == first
    table.write_text(table.read_text() + "3,30, 1.0, inf,0.8,0.6,1.5\n")
    assert draw_training(table) not in (None, first)


@pytest.mark.parametrize("tail", ["2,19,1.5", "2,19,1.5,2.0,0.5,0.3,1.5,7,7"])
def test_a_line_that_is_cut_short_or_too_long_stops_nothing(tmp_path: Path, tail: str) -> None:
    table = tmp_path / "results.csv"
    table.write_text(f"{HEAD}\n1,9.5,2.0,3.0,0.1,0.05,2.5\n{tail}")
    assert draw_training(table) is not None


def test_a_training_that_is_not_validated_is_drawn_without_its_zeros(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    table.write_text(f"{HEAD}\n1,9,2.0,3.0,0,0,0\n2,19,1.5,2.0,0,0,0\n")
    zeros = draw_training(table)
    table.write_text("epoch,train/box_loss,train/cls_loss\n1,2.0,3.0\n2,1.5,2.0\n")
    assert draw_training(table) == zeros


@pytest.mark.parametrize("text", [None, "", f"{HEAD}\n"], ids=["no file", "empty", "no epoch"])
def test_without_epochs_there_is_no_curve(tmp_path: Path, text: str | None) -> None:
    table = tmp_path / "results.csv"
    if text is not None:
        table.write_text(text)
    assert draw_training(table) is None
