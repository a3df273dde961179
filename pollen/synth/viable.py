"""Pictures of viable grains: round, evenly filled with stain, in a thin toothed wall."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, radians

import numpy as np

from pollen.synth.outlines import Outline, PolarGrid, polar_grid
from pollen.synth.patch import Patch, from_density
from pollen.synth.spec import FrameSpec
from pollen.synth.texture import FloatArray, bump, density, noise, step

# Densities (R, G, B) of a wall that looks pinkish grey, and of one that looks blue-black.
_WALL_TINT = np.array([0.85, 1.15, 0.95], np.float32)
_DARK_TINT = np.array([1.15, 0.7, 0.62], np.float32)
# What the orange flecks inside full grains have less of (red) and more of (blue) than the rest.
_FLECK_TINT = np.array([-0.22, -0.25, 0.55], np.float32)


@dataclass(frozen=True, slots=True)
class _Look:
    """What differs from grain to grain."""

    stain: FloatArray
    """(3,) density of the contents."""
    wall_px: float
    """Thickness of the toothed wall."""
    edge_px: float
    """Softness of the border of the contents."""
    exine: float
    limb: float
    black_edge: float
    halo: float
    light_angle: float
    defocus_px: float


def _draw_look(rng: np.random.Generator, spec: FrameSpec, radius_px: float) -> _Look:
    stain = density(spec.stain.viable_rgb, spec.background.rgb)
    stain = stain * np.float32(np.exp(rng.normal(0.0, spec.stain.viable_spread)))
    stain = stain * np.exp(rng.normal(0.0, 0.06, 3)).astype(np.float32)
    if rng.random() < spec.stain.pale_share:
        stain = stain * np.float32(rng.uniform(0.35, 0.75))
    optics = spec.optics
    return _Look(
        stain=stain,
        wall_px=max(1.2, radius_px * rng.uniform(0.07, 0.13)),
        edge_px=max(0.8, radius_px * rng.uniform(0.02, 0.07)),
        exine=optics.exine * rng.uniform(0.5, 1.3),
        limb=optics.limb * rng.uniform(0.5, 1.4),
        black_edge=optics.black_edge * rng.uniform(0.7, 1.2),
        halo=optics.halo * rng.uniform(0.5, 1.4),
        light_angle=radians(optics.light_angle_deg) + rng.normal(0.0, 0.2),
        defocus_px=float(rng.gamma(1.3, optics.defocus_spread_px)),
    )


def viable_patch(rng: np.random.Generator, outline: Outline, spec: FrameSpec) -> Patch:
    """Draw one viable grain; the wall ends at the outline."""
    radius = outline.radius_px
    look = _draw_look(rng, spec, radius)
    grid = polar_grid(outline, margin_px=0.3 * radius + 3.0 * look.defocus_px + 3.0)
    towards_dark = 0.5 + 0.5 * np.cos(grid.angle - np.float32(look.light_angle))
    contents = step(grid.depth - look.wall_px, look.edge_px)
    total = _contents_density(rng, grid, look, spec, radius) * contents[..., None]
    total += _wall_density(rng, grid, look, radius, towards_dark)
    total += _edge_density(grid, look, radius, towards_dark)
    light = 1.0 + _halo(grid, look, radius, towards_dark)
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(look.defocus_px)


def _contents_density(
    rng: np.random.Generator, grid: PolarGrid, look: _Look, spec: FrameSpec, radius: float
) -> FloatArray:
    """(h, w, 3) density of the stained contents: even, granular, with orange flecks."""
    fine = noise(rng, grid.shape, max(0.9, 0.03 * radius))
    coarse = noise(rng, grid.shape, 0.16 * radius)
    amount = 1.0 + spec.stain.granularity * (0.10 * fine + 0.07 * coarse)
    # A sphere is thicker in the middle, but the stain saturates: only a hint of it remains.
    amount = amount * (1.04 - 0.10 * np.square(grid.unit))
    flecks = noise(rng, grid.shape, max(1.2, 0.07 * radius)) + 0.5 * fine
    net = spec.stain.flecks * step(flecks - 0.2, 0.7) * step(0.85 - grid.unit, 0.2)
    tint = 1.0 + net[..., None] * _FLECK_TINT
    return np.asarray(look.stain * amount[..., None] * tint, dtype=np.float32)


def _wall_density(
    rng: np.random.Generator,
    grid: PolarGrid,
    look: _Look,
    radius: float,
    towards_dark: FloatArray,
) -> FloatArray:
    """(h, w, 3) density of the exine: a grey band with radial teeth and two thin dark lines."""
    band = step(grid.depth, 0.7) * step(1.15 * look.wall_px - grid.depth, 0.6 * look.wall_px)
    n_teeth = np.float32(round(2.0 * pi * radius / max(2.6, rng.uniform(0.09, 0.13) * radius)))
    wobble = 0.8 * noise(rng, grid.shape, max(1.3, 0.1 * radius))
    teeth = 0.5 + 0.5 * np.cos(n_teeth * grid.angle + wobble)
    base = 0.18 + look.exine * (0.15 + 0.55 * teeth) * (0.45 + 0.55 * towards_dark)
    line_px = max(0.7, 0.02 * radius)
    inner = bump(grid.depth - look.wall_px, line_px) * (0.1 + 0.5 * look.exine)
    outer = bump(grid.depth - 0.6, line_px) * look.exine * (0.1 + 0.6 * towards_dark)
    return np.asarray((band * base + inner + outer)[..., None] * _WALL_TINT, dtype=np.float32)


def _edge_density(
    grid: PolarGrid, look: _Look, radius: float, towards_dark: FloatArray
) -> FloatArray:
    """(h, w, 3) density of the dark limb on one side and of a black edge all around."""
    inside = step(grid.depth - 0.3 * look.wall_px, 0.5 * look.wall_px + 0.6)
    inwards = np.maximum(grid.depth, 0.0)
    limb = np.exp(-inwards / np.float32(0.16 * radius)) * np.square(towards_dark)
    broad = np.exp(-np.square(inwards / np.float32(0.24 * radius)))
    amount = 0.8 * look.limb * limb + 1.9 * look.black_edge * broad * (0.65 + 0.35 * towards_dark)
    return np.asarray((inside * amount)[..., None] * _DARK_TINT, dtype=np.float32)


def _halo(grid: PolarGrid, look: _Look, radius: float, towards_dark: FloatArray) -> FloatArray:
    """(h, w) bright ring outside the wall, brightest opposite the dark limb."""
    width = max(1.0, 0.06 * radius)
    ring = bump(grid.depth + 1.1 * width, width) - 0.35 * bump(grid.depth + 3.2 * width, width)
    glow = bump(grid.depth - 0.4 * look.wall_px, 0.7 * look.wall_px) * (1.0 - towards_dark)
    side = 0.35 + 0.65 * (1.0 - towards_dark)
    return np.asarray(look.halo * (0.30 * ring * side + 0.28 * glow), dtype=np.float32)
