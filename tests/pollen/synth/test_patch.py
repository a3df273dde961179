import numpy as np
import pytest

from pollen.synth.patch import Patch, from_density, multiply_into


def test_light_through_stacked_objects_multiplies() -> None:
    canvas = np.full((10, 10, 3), 200.0, np.float32)
    half = from_density(np.full((4, 4, 3), np.log(2.0), np.float32), x0=3, y0=3)
    multiply_into(canvas, half)
    multiply_into(canvas, half)
    assert canvas[4, 4] == pytest.approx([50.0] * 3)
    assert canvas[0, 0] == pytest.approx([200.0] * 3)


@pytest.mark.parametrize(("x0", "y0"), [(-2, -2), (8, 8), (-30, 0), (0, 30)])
def test_patches_are_cut_at_the_canvas(x0: int, y0: int) -> None:
    canvas = np.ones((10, 10, 3), np.float32)
    multiply_into(canvas, Patch(x0, y0, np.zeros((4, 4, 3), np.float32)))
    rows, columns = np.nonzero(canvas[..., 0] == 0)
    expected = [
        (y, x) for y in range(10) for x in range(10) if x0 <= x < x0 + 4 and y0 <= y < y0 + 4
    ]
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == expected


def test_a_band_shows_its_own_rows() -> None:
    canvas = np.ones((10, 10, 3), np.float32)
    multiply_into(canvas, Patch(0, 100, np.zeros((2, 2, 3), np.float32)), first_row=95)
    assert (canvas[5:7, :2] == 0).all()
    assert canvas.sum() == 10 * 10 * 3 - 2 * 2 * 3


def test_neutral_density_covers_three_channels() -> None:
    patch = from_density(np.zeros((5, 6, 1), np.float32), x0=0, y0=0)
    assert patch.blurred(1.0).transmittance.shape == (5, 6, 3)
