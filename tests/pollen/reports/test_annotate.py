import io

import cv2
import numpy as np
import pytest
from PIL import Image

from pollen.arrays import Pixels
from pollen.classes import GrainClass
from pollen.counting.rules import CountedFrame, count_frame
from pollen.detection.grains import Grains
from pollen.detection.settings import EdgeRule, OverlapRule
from pollen.reports.annotate import (
    Caption,
    annotate,
    encode_jpeg,
    line_width_px,
    thumbnail,
    thumbnail_within,
)
from pollen.reports.legend import ALLOWED_LINE, CLASS_COLOURS, FORBIDDEN_LINE, excluded_colour

VIABLE, NON_VIABLE = GrainClass.VIABLE, GrainClass.NON_VIABLE
MAGENTA, GREY = (159, 24, 85), (208, 208, 211)
Disc = tuple[float, float, float, GrainClass]


def grains_of(discs: list[Disc]) -> Grains:
    """Circles (x, y, radius, class) as grains, the exact truth of what is painted."""
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    outlines = tuple(
        np.stack([x + r * np.cos(turn), y + r * np.sin(turn)], axis=1).astype(np.float32)
        for x, y, r, _ in discs
    )
    return Grains(
        boxes=np.array([[x - r, y - r, x + r, y + r] for x, y, r, _ in discs], np.float32).reshape(
            -1, 4
        ),
        confidence=np.ones(len(discs), np.float32),
        classes=np.array([grain_class for *_, grain_class in discs], np.int64),
        areas_px=np.array([np.pi * r * r for _, _, r, _ in discs], np.float32),
        outlines=outlines,
    )


def painted(discs: list[Disc], width: int, height: int) -> Pixels:
    picture = np.full((height, width, 3), GREY, np.uint8)
    for x, y, r, _ in discs:
        cv2.circle(picture, (int(x), int(y)), int(r), MAGENTA, -1)
    return picture


def counted_frame(
    discs: list[Disc],
    width: int,
    height: int,
    rule: EdgeRule = EdgeRule.ALL,
    overlap: OverlapRule = OverlapRule.COUNT,
) -> CountedFrame:
    return count_frame(grains_of(discs), (width, height), rule, overlap, 0.1)


def drawn(
    discs: list[Disc],
    width: int = 400,
    height: int = 300,
    rule: EdgeRule = EdgeRule.ALL,
    overlap: OverlapRule = OverlapRule.COUNT,
) -> tuple[Pixels, Pixels]:
    """The picture before and after (without the legend)."""
    before = painted(discs, width, height)
    counted = counted_frame(discs, width, height, rule, overlap)
    return before, annotate(before, counted, Caption("a.png", "m1", rule), scale=1)[:height]


def on_outline(picture: Pixels, disc: Disc) -> Pixels:
    """Colours along the circle, `(90, 3)`."""
    x, y, r, _ = disc
    turn = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    at_x = np.clip(np.round(x + r * np.cos(turn)).astype(int), 0, picture.shape[1] - 1)
    at_y = np.clip(np.round(y + r * np.sin(turn)).astype(int), 0, picture.shape[0] - 1)
    return np.asarray(picture[at_y, at_x], np.uint8)


def share_near(colours: Pixels, colour: tuple[int, int, int]) -> float:
    return float(np.mean(np.abs(colours.astype(int) - colour).max(axis=-1) < 40))


@pytest.mark.parametrize("grain_class", GrainClass)
def test_counted_grain_has_a_full_outline_in_its_class_colour(grain_class: GrainClass) -> None:
    disc = (200.0, 150.0, 40.0, grain_class)
    _, picture = drawn([disc])
    assert share_near(on_outline(picture, disc), CLASS_COLOURS[grain_class]) > 0.97


def test_excluded_grain_is_dashed_greyed_and_lettered() -> None:
    disc = (359.5, 150.0, 40.0, VIABLE)
    before, picture = drawn([disc], rule=EdgeRule.FRAME)
    assert share_near(on_outline(picture, disc), CLASS_COLOURS[VIABLE]) == 0
    assert 0.2 < share_near(on_outline(picture, disc), excluded_colour(VIABLE)) < 0.8
    inside = (slice(130, 170), slice(340, 380))
    assert (
        (picture[inside].min(axis=-1) > 200).sum() > 10 > (before[inside].min(axis=-1) > 215).sum()
    )


def test_overlapping_grains_that_count_keep_their_line_and_get_a_dot() -> None:
    discs: list[Disc] = [(150.0, 150.0, 40.0, VIABLE), (200.0, 150.0, 40.0, NON_VIABLE)]
    _, apart = drawn([(150.0, 150.0, 40.0, VIABLE)])
    _, picture = drawn(discs)
    assert tuple(picture[150, 150]) == (238, 240, 244)
    assert tuple(apart[150, 150]) == MAGENTA
    assert share_near(on_outline(picture, discs[0]), CLASS_COLOURS[VIABLE]) > 0.9
    _, left_out = drawn(discs, overlap=OverlapRule.EXCLUDE)
    assert share_near(on_outline(left_out, discs[0]), CLASS_COLOURS[VIABLE]) == 0


def test_a_counted_grain_that_the_frame_cuts_gets_no_dot() -> None:
    disc = (39.0, 150.0, 40.0, VIABLE)
    _, picture = drawn([disc], rule=EdgeRule.FRAME)
    assert tuple(picture[150, 39]) == MAGENTA


def test_line_has_a_dark_halo_on_both_sides() -> None:
    _, picture = drawn([(200.0, 150.0, 40.0, NON_VIABLE)])
    ray = picture[150, 232:250].astype(int).sum(axis=-1)
    line = int(np.abs(ray - sum(CLASS_COLOURS[NON_VIABLE])).argmin())
    # Magenta inside sums to 268, the yellow line to 469, grey outside to 627.
    assert ray[:line].min() < 200
    assert ray[line:].min() < 330


def test_picture_is_untouched_away_from_grains_and_the_original_everywhere() -> None:
    disc = (200.0, 150.0, 40.0, VIABLE)
    before = painted([disc], 400, 300)
    kept = before.copy()
    counted = counted_frame([disc], 400, 300)
    sheet = annotate(before, counted, Caption("a.png", "m1", EdgeRule.ALL), scale=1)
    np.testing.assert_array_equal(before, kept)
    assert sheet.shape[0] > 300
    assert sheet.shape[1:] == (400, 3)
    changed = np.any(sheet[:300] != before, axis=-1)
    rows, columns = np.nonzero(changed)
    distance = np.hypot(columns - 200, rows - 150)
    assert 35 < distance.min() < distance.max() < 45


@pytest.mark.parametrize(
    ("rule", "left", "right"),
    [
        (EdgeRule.FRAME, ALLOWED_LINE, FORBIDDEN_LINE),
        (EdgeRule.EXCLUDE, FORBIDDEN_LINE, FORBIDDEN_LINE),
        (EdgeRule.ALL, GREY, GREY),
    ],
)
def test_edge_lines_show_the_rule(
    rule: EdgeRule, left: tuple[int, int, int], right: tuple[int, int, int]
) -> None:
    _, picture = drawn([], rule=rule)
    assert tuple(picture[2, 0]) == left
    assert tuple(picture[0, 2]) == left
    assert tuple(picture[200, -1]) == right
    assert tuple(picture[-1, 200]) == right
    solid = np.all(picture[:, -1] == right, axis=-1).mean()
    assert solid == 1.0
    if rule is EdgeRule.FRAME:
        assert 0.3 < np.all(picture[:, 0] == left, axis=-1).mean() < 0.7


def test_grains_are_in_frame_pixels_and_scaled_to_the_picture() -> None:
    disc = (200.0, 150.0, 40.0, VIABLE)
    counted = counted_frame([disc], 400, 300)
    half = cv2.resize(painted([disc], 400, 300), (200, 150), interpolation=cv2.INTER_AREA)
    sheet = annotate(
        np.asarray(half, np.uint8), counted, Caption("a", "m", EdgeRule.ALL), scale=0.5
    )
    small = (100.0, 75.0, 20.0, VIABLE)
    assert share_near(on_outline(sheet, small), CLASS_COLOURS[VIABLE]) > 0.95


def test_odd_outlines_do_no_harm() -> None:
    empty = np.zeros((0, 2), np.float32)
    point = np.full((1, 2), 20, np.float32)
    grains = Grains(
        boxes=np.array([[5, 5, 9, 9], [20, 20, 20, 20]], np.float32),
        confidence=np.ones(2, np.float32),
        classes=np.array([0, 1]),
        areas_px=np.ones(2, np.float32),
        outlines=(empty, point),
    )
    counted = count_frame(grains, (30, 30), EdgeRule.ALL, OverlapRule.COUNT, 0.1)
    sheet = annotate(
        np.full((30, 30, 3), GREY, np.uint8), counted, Caption("a", "m", EdgeRule.ALL), scale=1
    )
    assert sheet.shape[1] == 30


def test_lines_grow_with_the_picture() -> None:
    assert line_width_px(640, 640) == 2
    assert line_width_px(4140, 3096) == line_width_px(3096, 4140) == 4


def test_jpeg_keeps_size_and_colour() -> None:
    disc = (100.0, 100.0, 60.0, VIABLE)
    picture = painted([disc], 200, 200)
    with Image.open(io.BytesIO(encode_jpeg(picture))) as back:
        pixels = np.asarray(back)
    assert pixels.shape == picture.shape
    assert np.abs(pixels[100, 100].astype(int) - MAGENTA).max() < 6
    assert len(encode_jpeg(picture, quality=30)) < len(encode_jpeg(picture, quality=95))


def test_jpeg_too_long_for_the_format_says_so() -> None:
    with pytest.raises(ValueError, match="65535 px"):
        encode_jpeg(np.zeros((1, 70_000, 3), np.uint8))


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 200), (100, 50)), ((50, 20), (50, 20)), ((900, 1), (100, 1))]
)
def test_thumbnail_fits_and_is_never_scaled_up(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    data = thumbnail(np.zeros((size[1], size[0], 3), np.uint8), 100)
    with Image.open(io.BytesIO(data)) as small:
        assert small.size == expected


@pytest.mark.parametrize("size", [(1, 1), (30, 20), (240, 240), (2000, 1500), (1, 3000), (3000, 7)])
def test_a_thumbnail_of_noise_is_made_smaller_until_it_fits(size: tuple[int, int]) -> None:
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    data = thumbnail_within(noise, 240, 9_000)
    assert len(data) <= 9_000
    with Image.open(io.BytesIO(data)) as small:
        assert max(small.size) <= min(240, max(size))
        assert max(small.size) >= min(64, max(size))
        assert (
            small.width / small.height == pytest.approx(width / height, rel=0.05) or 1 in small.size
        )


def test_a_thumbnail_that_fits_gives_nothing_up() -> None:
    plain = np.full((300, 400, 3), GREY, np.uint8)
    assert thumbnail_within(plain, 240, 9_000) == thumbnail(plain, 240)


def test_a_thumbnail_ends_small_whatever_it_may_weigh() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    with Image.open(io.BytesIO(thumbnail_within(noise, 240, 1))) as small:
        assert 40 < max(small.size) < 64
