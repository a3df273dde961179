import numpy as np
import pytest

from pollen.synth import EmptySlide, FrameSpec, Optics
from pollen.synth.camera import background_rows, coarse_background, digitise, jpeg_round_trip


def test_background_has_the_colour_asked_for() -> None:
    spec = FrameSpec(background=EmptySlide(rgb=(190.0, 200.0, 210.0)))
    rows = background_rows(coarse_background(np.random.default_rng(0), spec), 640, 0, 640)
    assert rows.shape == (640, 640, 3)
    assert rows.mean(axis=(0, 1)) == pytest.approx([190.0, 200.0, 210.0], abs=6.0)


def test_background_rows_join_without_a_seam() -> None:
    spec = FrameSpec(background=EmptySlide(gradient_levels=40.0))
    coarse = coarse_background(np.random.default_rng(1), spec)
    whole = background_rows(coarse, 640, 0, 640)
    parts = [background_rows(coarse, 640, first, first + 160) for first in range(0, 640, 160)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-3)


@pytest.mark.parametrize("levels", [0.3, 1.0, 3.0])
def test_noise_has_the_strength_asked_for(levels: float) -> None:
    flat = np.full((200, 200, 3), 200.3, np.float32)
    pixels = digitise(np.random.default_rng(0), flat, Optics(noise_levels=levels))
    # Rounding to whole levels adds a variance of 1/12.
    measured = np.sqrt(max(pixels.astype(float).var() - 1 / 12, 0.0))
    assert measured == pytest.approx(levels, rel=0.35)


def test_jpeg_keeps_channels_in_order() -> None:
    pixels = np.full((32, 32, 3), (200, 100, 50), np.uint8)
    assert jpeg_round_trip(pixels, 95)[16, 16] == pytest.approx([200, 100, 50], abs=3)
