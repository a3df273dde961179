"""Pieces of debris: cut whole, from any ground, and nothing that looks like a grain."""

import cv2
import numpy as np
import pytest

from pollen.arrays import Pixels
from pollen.synth.debris import flake
from pollen.synth.patch import Patch
from pollen.training.collage import paste, placement
from pollen.training.negatives.cutouts import find_pieces, inner_box, light_behind
from tests.pollen.training.negatives.debris_making import SPEC, plain, smudges, with_grains


def a_flake() -> Patch:
    return flake(np.random.default_rng(11), (60, 60), SPEC)


def largest(pixels: Pixels) -> float:
    return max((piece.cutout.outline.area_px for piece in find_pieces("x", pixels)), default=0.0)


@pytest.mark.parametrize("level", [120, 180, 230, 250])
def test_a_flake_is_found_on_any_ground(level: int) -> None:
    patch = a_flake()
    stained = int((patch.transmittance.min(axis=2) < 0.9).sum())
    assert largest(plain(patch, level)) == pytest.approx(stained, rel=0.4)


def test_a_flake_pasted_back_gives_its_picture_again() -> None:
    pixels = plain(a_flake(), level=208)
    (piece,) = [p for p in find_pieces("x", pixels) if p.cutout.outline.diameter_px > 20]
    height, width = pixels.shape[:2]
    canvas = np.full((height, width, 3), 208, np.float32)
    contours = np.abs(pixels.astype(np.float32) - 208).max(axis=2) > 30
    ys, xs = np.nonzero(contours)
    assert len(ys) > 200
    x0, y0, x1, y1 = piece.cutout.outline.box
    middle_x, middle_y = (xs.min() + xs.max() + 1) / 2, (ys.min() + ys.max() + 1) / 2
    paste(canvas, piece.cutout, placement(piece.cutout, (middle_x, middle_y), 1.0, 0.0, False))
    assert (x1 - x0) >= xs.max() - xs.min() - 4
    assert (y1 - y0) >= ys.max() - ys.min() - 4
    # The middle may be off by a pixel or two: its rim is ragged.
    assert float(np.abs(canvas - pixels).mean()) < 0.4 * float(np.abs(208.0 - pixels).mean())


def test_a_close_cutout_on_white_keeps_its_colours() -> None:
    """As a transparent PNG is read: nothing around, and no ground in the picture."""
    patch = a_flake()
    stained = patch.transmittance.min(axis=2) < 0.85
    kept = cv2.morphologyEx(stained.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    on_white = np.where(kept[..., None] > 0, patch.transmittance * 255, 255)
    pixels = np.pad(
        np.clip(on_white, 0, 255).astype(np.uint8), ((9, 9), (9, 9), (0, 0)), constant_values=255
    )
    np.testing.assert_allclose(light_behind(pixels), 255, atol=1)
    assert largest(pixels) == pytest.approx(float(kept.sum()), rel=0.5)


def test_a_crop_on_a_grey_canvas_is_no_piece() -> None:
    canvas = np.full((300, 300, 3), 245, np.uint8)
    crop = plain(a_flake(), level=205)
    height, width = crop.shape[:2]
    canvas[40 : 40 + height, 60 : 60 + width] = crop
    x0, y0, x1, y1 = inner_box(canvas)
    expected = (60, 40, 60 + width, 40 + height)
    np.testing.assert_allclose((x0, y0, x1, y1), expected, atol=4)
    assert largest(canvas) < 0.7 * crop.shape[0] * crop.shape[1]


def test_an_object_on_a_plain_ground_is_no_crop() -> None:
    pixels = np.full((200, 220, 3), 240, np.uint8)
    cv2.ellipse(pixels, (100, 90), (60, 14), 30, 0, 360, (170, 40, 110), -1)
    assert inner_box(pixels) == (0, 0, 220, 200)
    assert largest(pixels) > 2000


@pytest.mark.parametrize("seed", range(5))
def test_grains_are_no_pieces(seed: int) -> None:
    pixels, outlines = with_grains(seed, grains=3)
    inside = [o for o in outlines if o.points.min() > 6 and o.points.max() < 314]
    for piece in find_pieces("x", pixels):
        # A piece holds no grain of its own size; what is left is the frame's own debris.
        assert not any(
            0.7 < piece.cutout.outline.area_px / o.area_px < 1.3
            and piece.cutout.outline.area_px
            > 0.88 * cv2.contourArea(cv2.convexHull(piece.cutout.outline.points))
            for o in inside
        )


def test_a_round_stained_disc_is_no_piece_but_a_black_ring_is() -> None:
    pixels = plain(Patch(0, 0, np.ones((200, 200, 3), np.float32)))
    disc, ring = pixels.copy(), pixels.copy()
    cv2.circle(disc, (110, 110), 30, (165, 40, 110), -1)
    cv2.circle(ring, (110, 110), 30, (25, 25, 25), 6)
    assert find_pieces("disc", disc) == []
    assert largest(ring) > 2000


def test_scale_bars_are_no_pieces() -> None:
    pixels = plain(Patch(0, 0, np.ones((200, 300, 3), np.float32)))
    cv2.putText(pixels, "100 um", (40, 100), cv2.FONT_HERSHEY_SIMPLEX, 2, (0, 0, 0), 5)
    cv2.rectangle(pixels, (40, 140), (260, 148), (0, 0, 0), -1)
    assert find_pieces("bar", pixels) == []


@pytest.mark.parametrize(("turn", "side"), list(enumerate([(0, -1), (-1, 0), (0, 1), (1, 0)])))
def test_what_the_border_cuts_knows_its_side(turn: int, side: tuple[int, int]) -> None:
    pixels = plain(Patch(0, 0, np.ones((120, 160, 3), np.float32)))
    cv2.line(pixels, (60, 20), (100, 120), (150, 40, 110), 7)
    pixels = np.rot90(pixels, turn)
    assert [piece.cut_sides for piece in find_pieces("x", pixels)] == [()]
    cut = np.rot90(np.rot90(pixels, -turn)[40:], turn)
    assert [piece.cut_sides for piece in find_pieces("x", cut)] == [(side,)]


def test_what_fills_the_picture_from_side_to_side_is_no_piece() -> None:
    pixels = plain(Patch(0, 0, np.ones((200, 200, 3), np.float32)))
    pixels[90:120] = (150, 60, 110)
    assert find_pieces("x", pixels) == []


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64)])
def test_pictures_of_nothing_have_no_pieces(level: int, shape: tuple[int, int]) -> None:
    assert find_pieces("x", np.full((*shape, 3), level, np.uint8)) == []


def test_noise_is_no_debris() -> None:
    noise = np.random.default_rng(0).normal(200, 1.0, (160, 160, 3))
    assert find_pieces("x", np.round(noise).astype(np.uint8)) == []


def test_most_rendered_debris_gives_pieces() -> None:
    assert sum(bool(find_pieces(s.name, s.pixels)) for s in smudges(12)) >= 8
