"""Rendered pictures, labelled and prepared: small enough for tests."""

import numpy as np
import pytest

from pollen.synth import FrameSpec, render
from pollen.training.collage import Outline
from pollen.training.examples import Example
from pollen.training.recipe.scenes import Stock, prepare


def rendered_picture(seed: int, grains: int = 8, side_px: int = 320) -> Example:
    """A rendered frame as a labelled picture."""
    spec = FrameSpec(
        width_px=side_px,
        height_px=side_px,
        n_grains=grains,
        grain_diameter_px=40,
        viable_fraction=0.6,
    )
    frame = render(spec, seed=seed)
    outlines = tuple(
        Outline(int(grain.grain_class), grain.polygon.astype(np.float32)) for grain in frame.grains
    )
    return Example(frame.pixels, outlines)


@pytest.fixture(scope="session")
def pictures() -> list[Example]:
    return [rendered_picture(seed) for seed in (1, 2, 3)]


@pytest.fixture(scope="session")
def stock(pictures: list[Example]) -> list[Stock]:
    return [prepare(picture) for picture in pictures]
