"""Training: it can be killed at any time, and it learns."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pollen.training.recipe.fitting import FitOptions, Fitter, RecipeStage
from pollen.training.recipe.network import new_network
from pollen.training.recipe.scenes import SceneMaker, SceneMix, Stock

MIX = SceneMix(real=1, collage=1)
OPTIONS = FitOptions(workers=0, save_every=2, bfloat16=False)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: sums in another order would differ in the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stage(steps: int = 4) -> RecipeStage:
    return RecipeStage(
        "tiny", MIX, side_px=96, scale=0.5, steps=steps, batch=2, warmup=1, seed=9, mean_every=2
    )


def fitter(stock: list[Stock], folder: Path, steps: int = 4) -> Fitter:
    chosen = stage(steps)
    maker = SceneMaker(stock, [], chosen.mix, chosen.side_px, chosen.scale, chosen.seed)
    return Fitter(new_network(seed=1), chosen, maker, folder, OPTIONS)


def test_a_killed_training_ends_as_an_undisturbed_one(stock: list[Stock], tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    undisturbed = fitter(stock, whole)
    undisturbed.run()

    class KilledError(Exception):
        pass

    first = fitter(stock, killed)
    save = first.save

    def save_then_die() -> None:
        save()
        raise KilledError

    first.save = save_then_die  # type: ignore[method-assign]
    with pytest.raises(KilledError):
        first.run()
    second = fitter(stock, killed)
    second.resume()
    assert second.step == 2
    second.run()

    expected = undisturbed.average.ema.state_dict()
    for name, value in second.average.ema.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    for name, value in second.result().items():
        torch.testing.assert_close(value, undisturbed.result()[name], rtol=1e-3, atol=1e-5)
    assert not list(killed.glob("*.part"))


def test_the_result_is_the_mean_of_the_running_averages(stock: list[Stock], tmp_path: Path) -> None:
    fitting = fitter(stock, tmp_path)
    seen = []
    take = fitting._take_into_mean

    def watched() -> None:
        seen.append({k: v.clone() for k, v in fitting.average.ema.state_dict().items()})
        take()

    fitting._take_into_mean = watched  # type: ignore[method-assign]
    assert fitting.result().keys() == fitting.average.ema.state_dict().keys()
    fitting.run()

    assert len(seen) == 2
    for name, value in fitting.result().items():
        expected = (
            (seen[0][name] + seen[1][name]) / 2 if value.is_floating_point() else seen[1][name]
        )
        torch.testing.assert_close(value, expected)


def test_the_rate_rises_then_falls_along_a_cosine() -> None:
    chosen = RecipeStage("x", MIX, 96, 0.5, steps=1000, rate=1e-3, last_rate=1e-5, warmup=100)
    assert chosen.rate_at(0) == pytest.approx(1e-5, rel=0.01)
    assert chosen.rate_at(100) == pytest.approx(1e-3, rel=0.05)
    assert chosen.rate_at(500) == pytest.approx((1e-3 + 1e-5) / 2, rel=0.01)
    assert chosen.rate_at(1000) == pytest.approx(1e-5)
