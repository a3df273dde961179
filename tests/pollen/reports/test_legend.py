import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.arrays import Pixels
from pollen.classes import GrainClass
from pollen.counting.rules import CountedFrame, count_frame
from pollen.detection.grains import Grains
from pollen.detection.settings import EdgeRule, OverlapRule
from pollen.reports.legend import (
    CLASS_COLOURS,
    FORBIDDEN_LINE,
    Caption,
    Colour,
    legend_strip,
    scale_bar_um,
    shorten_middle,
)


def some_grains(viable: int, non_viable: int) -> CountedFrame:
    """Grains in a row, far from one another and from the border."""
    number = viable + non_viable
    left = 10 + 30 * np.arange(number, dtype=np.float32)
    boxes = np.stack([left, np.full(number, 10), left + 20, np.full(number, 30)], axis=1).astype(
        np.float32
    )
    grains = Grains(
        boxes=boxes,
        confidence=np.ones(number, np.float32),
        classes=np.array([0] * viable + [1] * non_viable, np.int64),
        areas_px=np.full(number, 300, np.float32),
        outlines=tuple(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2) for box in boxes),
    )
    return count_frame(grains, (100_000, 1000), EdgeRule.FRAME, OverlapRule.COUNT, 0.1)


def strip(
    width: int = 640,
    name: str = "a.png",
    rule: EdgeRule = EdgeRule.ALL,
    pixel_size_um: float | None = None,
    scale: float = 1.0,
) -> Pixels:
    return legend_strip(
        width, some_grains(5, 2), Caption(name, "m1", rule, pixel_size_um), scale=scale
    )


def pixels_of(picture: Pixels, colour: Colour) -> int:
    return int(np.all(picture == colour, axis=-1).sum())


def longest_run(picture: Pixels, colour: Colour) -> int:
    """Length of the longest horizontal line of one colour, pixels."""
    best = 0
    for row in np.all(picture == colour, axis=-1):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        best = max([best, *(edges[1::2] - edges[::2]).tolist()])
    return best


@pytest.mark.parametrize("width", [1, 7, 60, 640, 4140])
def test_strip_is_as_wide_as_the_picture_and_low(width: int) -> None:
    picture = strip(width, rule=EdgeRule.FRAME, pixel_size_um=0.3)
    assert picture.shape[1:] == (width, 3)
    if width >= 640:
        assert picture.shape[0] < 0.16 * width


def test_both_class_colours_are_explained() -> None:
    for colour in CLASS_COLOURS.values():
        assert pixels_of(strip(), colour) > 20


def test_the_edge_rule_is_explained_only_where_there_is_one() -> None:
    assert pixels_of(strip(rule=EdgeRule.FRAME), FORBIDDEN_LINE) > 20
    assert pixels_of(strip(rule=EdgeRule.ALL), FORBIDDEN_LINE) == 0


@pytest.mark.parametrize(
    ("pixel_size_um", "scale", "length"), [(0.5, 1.0, 100), (0.5, 0.5, 100), (0.3, 1.0, 67)]
)
def test_scale_bar_has_the_length_it_says(pixel_size_um: float, scale: float, length: int) -> None:
    # 640 px wide, a fifth of it at most: 50 um at 0.5 um, 100 um at 1 um (halved), 20 um at 0.3 um.
    picture = strip(pixel_size_um=pixel_size_um, scale=scale)
    assert longest_run(picture, (238, 240, 244)) == length
    assert longest_run(strip(), (238, 240, 244)) < 20


@given(st.floats(1e-4, 1e4), st.floats(1, 1e5))
def test_scale_bar_is_round_and_fills_at_least_two_fifths_of_its_room(
    um_per_px: float, room: float
) -> None:
    length = scale_bar_um(um_per_px, room)
    assert 0.399 * um_per_px * room <= length <= um_per_px * room * 1.0001
    assert f"{length:e}"[:8] in {"1.000000", "2.000000", "5.000000"}


@given(st.text(max_size=60), st.integers(1, 70))
def test_shortened_names_fit_and_keep_both_ends(text: str, room: int) -> None:
    short = shorten_middle(text, lambda piece: len(piece) <= room)
    assert len(short) <= room
    if len(text) <= room:
        assert short == text
    else:
        head, tail = short[: (room - 1) // 2], short[-(room // 2) :] if room > 1 else ""
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize(
    "name",
    [
        "żółć/Ελλάδα/снимок.tif",
        "名前.png",
        "a\nb\tc.png",
        "<script>.jpg",
        "x" * 500 + ".czi#scene=2",
        "",
    ],
)
def test_any_file_name_can_be_written_without_changing_the_strip(name: str) -> None:
    assert strip(name=name).shape == strip().shape


def test_letters_outside_latin_are_drawn_and_differ() -> None:
    assert not np.array_equal(strip(name="снимок.tif"), strip(name="картин.tif"))


def test_no_grain_counted_is_no_zero_percent() -> None:
    nothing = count_frame(Grains.none(), (640, 640), EdgeRule.ALL, OverlapRule.COUNT, 0.1)
    assert nothing.count(GrainClass.VIABLE) == 0
    caption = Caption("a.png", "m1", EdgeRule.ALL)
    assert legend_strip(640, nothing, caption, scale=1).shape[1] == 640
