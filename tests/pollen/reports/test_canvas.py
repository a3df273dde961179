"""One picture of bounded size, whatever the frame."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.reports.canvas import BAND_PX, LONGEST_SIDE_PX, fitted_scale, whole_picture


class Noted:
    """A frame in memory that notes which regions are read."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.pixels = pixels
        self.height_px, self.width_px = pixels.shape[:2]
        self.pixel_size_um: float | None = None
        self.rows_read: list[int] = []

    def read(self, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        x0, y0, x1, y1 = box
        self.rows_read.append(y1 - y0)
        return self.pixels[y0:y1, x0:x1].copy()


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0.1, 100))
def test_the_scale_keeps_the_limits(width: int, height: int, megapixels: float) -> None:
    scale = fitted_scale(width, height, megapixels)
    assert 0 < scale <= 1
    assert width * height * scale**2 <= megapixels * 1e6 * 1.0001
    assert max(width, height) * scale <= LONGEST_SIDE_PX * 1.0001


def test_small_frames_stay_as_they_are() -> None:
    frame = Noted(np.random.default_rng(1).integers(0, 255, (30, 40, 3), np.uint8))
    assert np.array_equal(whole_picture(frame, 1.0), frame.pixels)


def test_bands_give_what_the_whole_would_give() -> None:
    smooth = cv2.GaussianBlur(
        np.random.default_rng(2).integers(0, 255, (3 * BAND_PX, 90, 3), np.uint8), (0, 0), 6
    )
    frame = Noted(np.asarray(smooth, np.uint8))
    made = whole_picture(frame, 1 / 3)
    assert made.shape == (BAND_PX, 30, 3)
    whole = cv2.resize(frame.pixels, (30, BAND_PX), interpolation=cv2.INTER_AREA)
    assert np.abs(made.astype(int) - whole.astype(int)).max() <= 2
    assert len(frame.rows_read) > 1
    assert max(frame.rows_read) <= BAND_PX + 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_odd_shapes(shape: tuple[int, int]) -> None:
    frame = Noted(np.zeros((*shape, 3), np.uint8))
    made = whole_picture(frame, 0.01)
    assert made.shape == (max(1, round(shape[0] * 0.01)), max(1, round(shape[1] * 0.01)), 3)
