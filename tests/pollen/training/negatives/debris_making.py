"""Rendered pictures of debris and of grains, for tests of negatives."""

from functools import cache

import numpy as np

from pollen.arrays import Pixels
from pollen.synth import FrameSpec, render
from pollen.synth.clear_debris import bubble, crystal
from pollen.synth.debris import flake, shred
from pollen.synth.patch import Patch, multiply_into
from pollen.training.collage import Outline
from pollen.training.negatives import Background, DebrisPicture

SPEC = FrameSpec(width_px=320, height_px=320, grain_diameter_px=46)


def plain(patch: Patch, level: float = 212.0, margin_px: int = 12, seed: int = 0) -> Pixels:
    """A photograph of one object on an even ground with a little noise."""
    height, width = patch.transmittance.shape[:2]
    shape = (height + 2 * margin_px, width + 2 * margin_px, 3)
    canvas = np.full(shape, level, np.float32)
    multiply_into(canvas, Patch(margin_px, margin_px, patch.transmittance))
    canvas += np.random.default_rng(seed).normal(0, 0.6, shape).astype(np.float32)
    return np.clip(np.round(canvas), 0, 255).astype(np.uint8)


def smudges(count: int = 6) -> list[DebrisPicture]:
    """Pictures of flakes, shreds, crystals and bubbles."""
    draws = (flake, shred, crystal, bubble)
    return [
        DebrisPicture(
            f"smudge {n}.png",
            plain(
                draws[n % 4](np.random.default_rng(n), (60, 60), SPEC), level=200 + 6 * n, seed=n
            ),
        )
        for n in range(count)
    ]


def with_grains(
    seed: int, grains: int = 6, side_px: int = 320
) -> tuple[Pixels, tuple[Outline, ...]]:
    """A rendered frame and the true outlines of its grains."""
    pixels, outlines = _rendered(seed, grains, side_px)
    return pixels.copy(), outlines


@cache
def _rendered(seed: int, grains: int, side_px: int) -> tuple[Pixels, tuple[Outline, ...]]:
    spec = FrameSpec(width_px=side_px, height_px=side_px, n_grains=grains, grain_diameter_px=40)
    frame = render(spec, seed=seed)
    outlines = [Outline(int(g.grain_class), g.polygon.astype(np.float32)) for g in frame.grains]
    return frame.pixels, tuple(outlines)


def background(seed: int, grains: int = 6) -> Background:
    """A train picture."""
    return Background(f"train/images/{seed}.png", f"{seed:064d}", lambda: with_grains(seed, grains))
