"""What the Prefect UI shows of two models: every figure that is there, and charts that weigh little."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import ultralytics
from PIL import Image, ImageColor

from pollen.dataset.labelled import LabelledPicture
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.comparison import (
    CHART_PX,
    MOST_BYTES,
    chart_lines,
    comparison_lines,
    small_chart,
)
from pollen.evaluation.curves import _LOSSES, draw_training
from pollen.evaluation.record import Metrics
from tests.pollen.evaluation.judging import judged, perfect

NAME = "a|b`c\n# d<script>[x](y)_z_"


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    pixels = np.full((height, width, 3), 255, np.uint8)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((500, 400), (500, 400)),
        ((3040, 2000), (CHART_PX, 500)),
        ((5000, 1), (CHART_PX, 1)),
    ],
)
def test_a_chart_is_as_wide_as_is_shown_at_most(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    small = small_chart(png(*size))
    assert small is not None
    with Image.open(io.BytesIO(small)) as chart:
        assert (chart.format, chart.size) == ("PNG", expected)


def test_lines_are_told_apart_by_colour_as_in_the_chart(tmp_path: Path) -> None:
    rows = ",".join(["epoch", *(f"{part}/{name}" for part in ("train", "val") for name in _LOSSES)])
    for epoch in range(1, 41):
        rows += f"\n{epoch}," + ",".join(str(number + 20 / epoch) for number in range(8))
    table = tmp_path / "results.csv"
    table.write_text(rows, encoding="utf-8")
    chart = draw_training(table)
    assert chart is not None
    small = small_chart(chart)
    assert small is not None
    with Image.open(io.BytesIO(small)) as shown:
        colours = np.asarray(shown.convert("RGB"), np.int64).reshape(-1, 3)
    for _, colour in _LOSSES.values():
        wanted = np.array(ImageColor.getrgb(colour))
        assert np.abs(colours - wanted).max(axis=1).min() < 40, colour


@pytest.mark.slow
def test_the_charts_of_a_training_are_small_enough(pictures: list[LabelledPicture]) -> None:
    evaluation = judged(pictures, [perfect(picture) for picture in pictures])
    charts = draw_charts(evaluation, evaluation)
    small = small_chart(charts["viability_by_group.png"])
    assert small is not None
    assert len(small) <= MOST_BYTES


@pytest.mark.slow
def test_a_chart_that_stays_heavy_is_not_shown_and_one_that_is_none_is_an_error() -> None:
    assert ultralytics.__version__  # importing it changes how Pillow opens pictures
    assert small_chart(png(900, 900, noise=True)) is None
    with pytest.raises(OSError, match="not a PNG"):
        small_chart(b"no picture")
    with pytest.raises(OSError, match="truncated"):
        small_chart(png(300, 300, noise=True)[:9_000])


def test_charts_that_are_there_are_shown_with_what_they_show() -> None:
    assert chart_lines({}) == []
    lines = chart_lines({"training.png": b"x", "other.png": b"y"})
    assert lines == ["", "### Course of the training", "", "![chart](data:image/png;base64,eA==)"]


def test_what_was_not_measured_is_a_dash_and_hostile_names_stay_text() -> None:
    content = {
        "split": NAME,
        "new": {
            "model": {"version": NAME},
            "overall": {"grains": 1234, "found": None, "viability_error": -0.4, "missed": "many"},
            "map50": {"viable": 0.91234},
        },
    }
    lines = comparison_lines(Metrics.from_json(json.dumps(content).encode()))
    text = "\n".join(lines)
    assert "| labelled grains | 1,234 | - |" in lines
    assert "| viability error | -0.40 points | - |" in lines
    assert "| mAP50, viable | 0.912 | - |" in lines
    for name in ("found grains", "missed grains", "count error", "mAP50, non-viable"):
        assert f"| {name} | - | - |" in lines
    assert text.count(r"a\|b\`c") == 2
    assert r"\<script\>\[x\](y)\_z\_" in text
    assert len(text.splitlines()) == len(lines)
