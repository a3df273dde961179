import numpy as np
import pytest

from pollen.synth.texture import bump, density, noise, step


@pytest.mark.parametrize("scale_px", [0.9, 2.8, 9.0])
def test_noise_is_standardised_and_smoother_at_larger_scales(scale_px: float) -> None:
    texture = noise(np.random.default_rng(0), (512, 512), scale_px)
    assert texture.mean() == pytest.approx(0.0, abs=1e-3)
    assert texture.std() == pytest.approx(1.0, abs=1e-3)
    # A Gaussian of standard deviation s leaves neighbours correlated by exp(-1 / 4s^2).
    neighbours = float((texture[:, 1:] * texture[:, :-1]).mean())
    assert neighbours == pytest.approx(np.exp(-1 / (4 * scale_px**2)), abs=0.05)


def test_step_and_bump_have_their_shape() -> None:
    values = np.array([-9.0, 0.0, 9.0], np.float32)
    assert step(values, 1.0) == pytest.approx([0.0, 0.5, 1.0])
    assert bump(values, 1.0) == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_density_turns_the_background_into_the_colour() -> None:
    background, colour = (200.0, 210.0, 220.0), (160.0, 24.0, 85.0)
    seen = np.asarray(background) * np.exp(-density(colour, background))
    assert seen == pytest.approx(colour, rel=1e-5)
