"""Collages: what is pasted is where its outline says, and looks like what was cut."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollen.arrays import FloatArray, Pixels
from pollen.synth import FrameSpec, render
from pollen.training.collage import (
    Cutout,
    Outline,
    clip_to_canvas,
    content_box,
    cut_debris,
    cut_grains,
    cut_out,
    fill_outlines,
    paste,
    placement,
    smooth_background,
)


def circle(x: float, y: float, radius: float, grain_class: int = 0) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    points = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    return Outline(grain_class, points.astype(np.float32))


def plate(*discs: Outline, size: int = 200, colour: tuple[int, int, int] = (160, 30, 90)) -> Pixels:
    """A grey picture, a little brighter to the right, with evenly coloured discs."""
    ramp = np.linspace(203, 213, size)[None, :, None] * np.ones((size, 1, 3))
    pixels = ramp.astype(np.uint8)
    pixels[fill_outlines((size, size), discs) > 0] = colour
    return pixels


def even_cutout(radius: float = 20) -> Cutout:
    disc = circle(50.3, 48.7, radius)
    return cut_out(plate(disc, size=100), np.full((100, 100, 3), 208, np.float32), disc)


coordinates = st.floats(-60, 160, allow_nan=False, width=32)


@settings(max_examples=200, deadline=None)
@given(x=coordinates, y=coordinates, radius=st.floats(2, 70, width=32))
def test_a_clipped_outline_is_the_part_inside_the_canvas(x: float, y: float, radius: float) -> None:
    outline = circle(x, y, radius)
    # Drawn on a canvas with a wide margin, then cut: an independent way to the same area.
    moved = circle(x + 250, y + 250, radius)
    inside = int(fill_outlines((600, 600), [moved])[250:350, 250:350].sum())

    clipped = clip_to_canvas(outline, 100, 100)

    area = 0.0 if clipped is None else clipped.area_px
    # Drawing fills every pixel that the outline touches: most of a pixel all along the rim.
    assert area == pytest.approx(inside, abs=5 * radius + 8)
    if clipped is not None:
        assert clipped.points.min() >= 0
        assert clipped.points.max() <= 100


def test_an_outline_inside_stays_as_it_is() -> None:
    outline = circle(50, 50, 20, grain_class=1)
    clipped = clip_to_canvas(outline, 100, 100)
    assert clipped is not None
    assert clipped.grain_class == 1
    np.testing.assert_array_equal(clipped.points, outline.points)


@pytest.mark.parametrize("scale", [0.4, 0.5, 0.9, 1.0, 1.7])
@pytest.mark.parametrize("angle", [0.0, 37.0, 180.0, 270.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_outline_moves_exactly_with_the_pixels(
    scale: float, angle: float, mirrored: bool
) -> None:
    canvas: FloatArray = np.full((120, 120, 3), 200, np.float32)
    cutout = even_cutout()

    outline = paste(canvas, cutout, placement(cutout, (61.2, 57.9), scale, angle, mirrored))

    dark = (canvas[..., 1] < 120).astype(np.uint8)
    moments = cv2.moments(dark, binaryImage=True)
    centre = (moments["m10"] / moments["m00"] + 0.5, moments["m01"] / moments["m00"] + 0.5)
    assert centre == pytest.approx(tuple(outline.points.mean(axis=0)), abs=0.6)
    assert int(dark.sum()) == pytest.approx(outline.area_px, rel=0.12)


def test_pasting_a_grain_back_gives_the_picture_it_came_from() -> None:
    frame = render(FrameSpec(n_grains=8, touching_fraction=0), seed=3)
    outlines = [Outline(int(g.grain_class), g.polygon.astype(np.float32)) for g in frame.grains]
    hidden = fill_outlines(frame.pixels.shape[:2], outlines)
    background = smooth_background(frame.pixels, cv2.dilate(hidden, np.ones((15, 15))))  # type: ignore[arg-type]
    for cutout, outline in zip(
        cut_grains(frame.pixels, background, outlines),
        [o for o in outlines if o.points.min() > 4 and o.points.max() < 635],
        strict=True,
    ):
        canvas = background.copy()
        x0, y0, x1, y1 = outline.box
        centre = ((x0 + x1) / 2, (y0 + y1) / 2)
        paste(canvas, cutout, placement(cutout, centre, 1.0, 0.0, False))
        inside = fill_outlines(canvas.shape[:2], [outline]) > 0
        difference = np.abs(canvas[inside] - frame.pixels[inside])
        assert float(difference.mean()) < 2


def test_light_multiplies_where_objects_overlap() -> None:
    canvas: FloatArray = np.full((100, 100, 3), 200, np.float32)
    cutout = even_cutout()
    through = (np.array([160, 30, 90]) / 208) ** 2 * 200
    for _ in range(2):
        paste(canvas, cutout, placement(cutout, (50, 50), 1.0, 0.0, False))
    np.testing.assert_allclose(canvas[50, 50], through, atol=1.5)


def test_pasting_outside_the_canvas_changes_nothing() -> None:
    canvas: FloatArray = np.full((40, 40, 3), 200, np.float32)
    cutout = even_cutout()
    outline = paste(canvas, cutout, placement(cutout, (200, -90), 1.0, 10.0, False))
    assert (canvas == 200).all()
    assert clip_to_canvas(outline, 40, 40) is None


def test_a_neighbour_is_not_cut_out_with_the_grain() -> None:
    left, right = circle(70, 100, 25), circle(121, 100, 25)
    pixels = plate(left, right)
    background = np.full((200, 200, 3), 208, np.float32)
    cutouts = cut_grains(pixels, background, [left, right])
    canvas: FloatArray = np.full((200, 200, 3), 208, np.float32)
    paste(canvas, cutouts[0], placement(cutouts[0], (70, 100), 1.0, 0.0, False))
    assert canvas[100, 104:].min() > 190


def test_debris_is_what_stands_out_and_is_no_grain() -> None:
    grain, flake = circle(60, 60, 20), circle(140, 140, 9)
    cut_by_border = circle(198, 60, 12)
    pixels = plate(grain, flake, cut_by_border)
    background = np.full((200, 200, 3), 208, np.float32)
    debris = cut_debris(pixels, background, [grain])
    assert len(debris) == 1
    assert debris[0].outline.grain_class < 0
    assert debris[0].outline.area_px == pytest.approx(flake.area_px, rel=0.5)


def test_the_background_under_a_grain_is_that_around_it() -> None:
    grain = circle(100, 100, 35)
    gradient = np.linspace(180, 230, 200)[None, :, None] * np.ones((200, 1, 3))
    pixels = gradient.astype(np.uint8)
    pixels[fill_outlines((200, 200), [grain]) > 0] = (150, 20, 80)
    found = smooth_background(pixels, fill_outlines((200, 200), [grain]))
    np.testing.assert_allclose(found[100, 100], gradient[100, 100], atol=6)


def test_padding_is_not_content() -> None:
    pixels = np.zeros((100, 120, 3), np.uint8)
    pixels[20:70, 30:90] = 200
    assert content_box(pixels) == (30, 20, 90, 70)
    assert content_box(np.full((50, 60, 3), 200, np.uint8)) == (0, 0, 60, 50)
