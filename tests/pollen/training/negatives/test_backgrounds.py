"""Backgrounds: no grain is left, the rest is the frame itself, and noise gives nothing away."""

import cv2
import numpy as np
import pytest

from pollen.arrays import FloatArray, Pixels
from pollen.training.collage import fill_outlines
from pollen.training.negatives.backgrounds import BORDER_PX, debris_of, empty_frame
from tests.pollen.training.negatives.debris_making import with_grains


def fine(pixels: Pixels) -> FloatArray:
    """The noise: what a Gaussian takes away."""
    wide = pixels.astype(np.float32)
    return np.asarray(wide - cv2.GaussianBlur(wide, (0, 0), 2), np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_no_grain_is_left(seed: int) -> None:
    pixels, grains = with_grains(seed)
    empty = empty_frame(pixels, grains, 300)
    assert empty is not None
    assert empty.shape == (320 - 2 * BORDER_PX, 320 - 2 * BORDER_PX, 3)
    inside = fill_outlines((320, 320), grains)[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX] > 0
    before = pixels[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    light = np.median(empty.reshape(-1, 3), axis=0)
    assert float(np.abs(before[inside] - light).mean()) > 40
    # Gradients across the frame remain; a stained grain differs by 100 grey levels.
    assert float(np.abs(empty[inside].astype(float) - light).mean()) < 12


def test_empty_places_are_the_frame_itself() -> None:
    pixels, grains = with_grains(1)
    empty = empty_frame(pixels, grains, 300)
    assert empty is not None
    same = (empty == pixels[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]).all(axis=2)
    assert same.mean() > 0.4


def test_covered_places_have_the_noise_of_the_frame() -> None:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 4, (320, 320, 3)), (0, 0), 0.7)
    pixels, grains = with_grains(2, grains=4)
    noisy = np.clip(np.round(pixels + noise), 0, 255).astype(np.uint8)
    empty = empty_frame(noisy, grains, 300)
    assert empty is not None
    inside = fill_outlines((320, 320), grains)[BORDER_PX:-BORDER_PX, BORDER_PX:-BORDER_PX]
    core = cv2.erode(inside, np.ones((7, 7), np.uint8)) > 0
    expected = float(fine(np.round(208 + noise).astype(np.uint8)).std())
    assert float(fine(empty)[core].std()) == pytest.approx(expected, rel=0.2)


def test_a_grain_that_nobody_labelled_is_covered_too() -> None:
    pixels = np.full((320, 320, 3), 205, np.uint8)
    cv2.circle(pixels, (150, 160), 22, (160, 30, 90), -1)
    cv2.ellipse(pixels, (230, 70), (40, 6), 20, 0, 360, (160, 30, 90), -1)
    empty = empty_frame(pixels, (), 300)
    assert empty is not None
    assert empty[160 - BORDER_PX, 150 - BORDER_PX, 1] > 195  # the disc
    assert empty[70 - BORDER_PX, 230 - BORDER_PX, 1] < 60  # the fibre


def test_slivers_at_the_border_are_covered() -> None:
    pixels = np.full((320, 320, 3), 205, np.uint8)
    cv2.circle(pixels, (160, -12), 30, (160, 30, 90), -1)
    empty = empty_frame(pixels, (), 300)
    assert empty is not None
    assert int(empty[:10].min()) > 195


def test_small_full_and_cut_frames_are_no_backgrounds() -> None:
    pixels, grains = with_grains(3)
    assert empty_frame(pixels, grains, 400) is None
    full, many = with_grains(5, grains=60)
    assert empty_frame(full, many, 300) is None
    # A sheet that reaches under a grain would end in the middle of nothing.
    sheet, (first, *_) = with_grains(1)
    x0, y0, x1, y1 = (int(side) for side in first.box)
    sheet[max(y0 - 60, 0) : y1 + 60, max(x0 - 30, 0) : x1 + 60] = (150, 120, 140)
    assert empty_frame(sheet, (first,), 300) is None


def test_padding_is_no_background() -> None:
    pixels, grains = with_grains(1)
    padded = np.zeros((640, 640, 3), np.uint8)
    padded[100:420, 200:520] = pixels
    shift = np.array([[1, 0, 200], [0, 1, 100]], np.float64)
    empty = empty_frame(padded, [grain.moved(shift) for grain in grains], 300)
    assert empty is not None
    assert max(empty.shape[:2]) <= 320
    assert int(empty.min(axis=2).max()) > 150
    assert float((empty < 60).mean()) < 0.01


def test_debris_among_grains_is_found_and_grains_are_not() -> None:
    noise = np.random.default_rng(0).normal(205, 0.6, (320, 320, 3))
    pixels = np.round(noise).astype(np.uint8)
    cv2.ellipse(pixels, (230, 70), (40, 8), 20, 0, 360, (160, 30, 90), -1)
    cv2.circle(pixels, (110, 200), 24, (150, 25, 80), -1)  # nobody labelled it
    (piece,) = debris_of("frame.png", pixels, ())
    assert piece.source == "frame.png"
    assert piece.cut_sides == ()
