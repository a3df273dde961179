"""Pictures of viable grains: round, evenly filled with stain, in a thin toothed wall."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, radians

import numpy as np

from pollen.arrays import AnyFloatArray
from pollen.synth.outlines import PolarGrid, RadialOutline, polar_grid
from pollen.synth.patch import Patch, from_density
from pollen.synth.spec import FrameSpec
from pollen.synth.texture import bump, density, noise, step

# Densities (R, G, B) of a wall that looks pinkish grey, and of one that looks blue-black.
_WALL_TINT = np.array([0.88, 1.10, 1.04], np.float32)
_DARK_TINT = np.array([0.95, 0.7, 0.58], np.float32)
# Under-stained contents: muted, because what absorbs without stain is still there.
_PALE_STAIN = np.array([0.16, 0.85, 0.38], np.float32)
# Shading is neutral, but red is the only channel a full grain lets through.
_SHADE_TINT = np.array([1.0, 0.45, 0.75], np.float32)
# What the orange flecks inside full grains have less of (red) and more of (blue) than the rest.
_FLECK_TINT = np.array([-0.22, -0.25, 0.55], np.float32)


@dataclass(frozen=True, slots=True)
class _Look:
    """The look of one grain.

    Attributes:
        stain: (3,) density of the contents.
        wall_px: Thickness of the toothed wall.
        wall_shift: How much thicker the wall looks on the bright side than on the dark one, -1 to
            1.
        edge_px: Softness of the border of the contents.
    """

    stain: AnyFloatArray
    wall_px: float
    wall_shift: float
    edge_px: float
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
        taken = np.float32(rng.uniform(0.0, 0.75))
        stain = taken * stain + (1 - taken) * _PALE_STAIN
    optics = spec.optics
    return _Look(
        stain=stain,
        wall_px=max(1.6, radius_px * rng.uniform(0.09, 0.15)),
        wall_shift=float(np.clip(rng.normal(0.0, 0.35), -0.8, 0.8)),
        edge_px=max(0.8, radius_px * rng.uniform(0.02, 0.07)),
        exine=optics.exine * rng.uniform(0.5, 1.3),
        limb=optics.limb * rng.uniform(0.5, 1.4),
        black_edge=optics.black_edge * rng.uniform(0.7, 1.2),
        halo=optics.halo * rng.uniform(0.5, 1.4),
        light_angle=radians(optics.light_angle_deg) + rng.normal(0.0, 0.2),
        defocus_px=float(rng.gamma(1.3, optics.defocus_spread_px)),
    )


def viable_patch(rng: np.random.Generator, outline: RadialOutline, spec: FrameSpec) -> Patch:
    """Draw one viable grain; the wall ends at the outline."""
    radius = outline.radius_px
    look = _draw_look(rng, spec, radius)
    grid = polar_grid(outline, margin_px=0.3 * radius + 3.0 * look.defocus_px + 3.0)
    towards_dark = 0.5 + 0.5 * np.cos(grid.angle - np.float32(look.light_angle))
    wall = look.wall_px * (1.0 + look.wall_shift * (1.0 - 2.0 * towards_dark))
    contents = step(grid.depth - wall, look.edge_px)
    total = _contents_density(rng, grid, look, spec, radius) * contents[..., None]
    total += _wall_density(rng, grid, look, radius, wall, towards_dark)
    total += _edge_density(grid, look, radius, towards_dark)
    light = 1.0 + _halo(grid, look, radius, towards_dark)
    light += contents * _surface(rng, grid, look, spec)
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(look.defocus_px)


def _contents_density(
    rng: np.random.Generator, grid: PolarGrid, look: _Look, spec: FrameSpec, radius: float
) -> AnyFloatArray:
    """(h, w, 3) density of the stained contents: even, granular, with orange flecks."""
    fine = noise(rng, grid.shape, max(0.9, 0.03 * radius))
    coarse = noise(rng, grid.shape, 0.16 * radius)
    amount = 1.0 + spec.stain.granularity * (0.12 * fine + 0.09 * coarse)
    # A sphere is thicker in the middle, but the stain saturates: only a hint of it remains.
    amount = amount * (1.04 - 0.10 * np.square(grid.unit))
    flecks = noise(rng, grid.shape, max(1.2, 0.06 * radius)) + 0.6 * fine
    net = spec.stain.flecks * step(flecks - 0.2, 0.7) * step(0.85 - grid.unit, 0.2)
    tint = 1.0 + net[..., None] * _FLECK_TINT
    shade = _shade(grid, look, radius)
    return np.asarray(look.stain * amount[..., None] * tint + shade, dtype=np.float32)


def _shade(grid: PolarGrid, look: _Look, radius: float) -> AnyFloatArray:
    """(h, w, 3) density that falls from the dark to the bright side of the contents."""
    c, s = np.cos(look.light_angle) / radius, np.sin(look.light_angle) / radius
    along = grid.dx * np.float32(c) + grid.dy * np.float32(s)
    shade = np.float32(0.33 * look.limb) * (along + 0.8 * along * np.abs(along))
    return np.asarray(shade[..., None] * _SHADE_TINT, dtype=np.float32)


def _surface(
    rng: np.random.Generator, grid: PolarGrid, look: _Look, spec: FrameSpec
) -> AnyFloatArray:
    """(h, w) relief of the grain's surface in oblique light, now and then with a dent."""
    height = noise(rng, grid.shape, 1.0) + noise(rng, grid.shape, 1.9)
    if rng.random() < 0.25:
        angle, radius = rng.uniform(0.0, pi), float(grid.depth.max())
        across = grid.dy * np.float32(np.cos(angle)) - grid.dx * np.float32(np.sin(angle))
        across = across + np.float32(rng.normal(0.0, 0.3) * radius)
        bend = np.square(grid.dx + grid.dy) * np.float32(rng.normal(0.0, 0.15) / radius)
        height = height + rng.uniform(1.0, 5.0) * bump(across + bend, 0.07 * radius)
    slope_y, slope_x = np.gradient(height)
    slope = slope_x * np.cos(look.light_angle) + slope_y * np.sin(look.light_angle)
    return np.asarray(-0.11 * spec.stain.granularity * slope, dtype=np.float32)


def _wall_density(
    rng: np.random.Generator,
    grid: PolarGrid,
    look: _Look,
    radius: float,
    wall: AnyFloatArray,
    towards_dark: AnyFloatArray,
) -> AnyFloatArray:
    """(h, w, 3) density of the exine: a grey band with radial teeth and two thin dark lines."""
    band = step(grid.depth, 0.7) * step(1.1 * wall - grid.depth, 0.5 * look.wall_px)
    n_teeth = np.float32(round(2.0 * pi * radius / max(3.1, rng.uniform(0.09, 0.13) * radius)))
    wobble = 0.8 * noise(rng, grid.shape, max(1.3, 0.1 * radius))
    teeth = 0.5 + 0.5 * np.cos(n_teeth * grid.angle + wobble)
    rough = noise(rng, grid.shape, max(1.0, 0.04 * radius))
    teeth = np.clip(rng.uniform(0.2, 0.9) * (teeth - 0.4) + 0.4 + 0.4 * rough, 0.0, 1.6)
    side = 0.35 + 0.65 * towards_dark
    base = 0.07 + look.exine * (0.10 + 0.70 * teeth) * side
    line_px = max(0.7, 0.02 * radius)
    inner = bump(grid.depth - wall, line_px) * (0.1 + 0.6 * look.exine) * side
    outer = bump(grid.depth - 0.6, line_px) * look.exine * (0.1 + 1.0 * towards_dark)
    pale = rng.uniform(0.0, 0.35) * look.exine * bump(grid.depth - 0.7 * wall, line_px)
    # Light scattered out of the contents tints the wall and a little of what lies around it.
    spill = 0.22 * np.exp(-np.abs(grid.depth - wall) / np.float32(0.11 * radius))
    spill = spill * step(grid.depth + 0.25 * radius, 0.15 * radius)
    grey = (band * base + inner + outer - pale)[..., None] * _WALL_TINT
    return np.asarray(grey + spill[..., None] * np.minimum(look.stain, 1.4))


def _edge_density(
    grid: PolarGrid, look: _Look, radius: float, towards_dark: AnyFloatArray
) -> AnyFloatArray:
    """(h, w, 3) density of the dark limb on one side and of a black edge all around."""
    inside = step(grid.depth - 0.3 * look.wall_px, 0.5 * look.wall_px + 0.6)
    inwards = np.maximum(grid.depth, 0.0)
    limb = np.exp(-inwards / np.float32(0.14 * radius)) * np.square(towards_dark)
    broad = np.exp(-np.square(inwards / np.float32(0.24 * radius)))
    amount = 1.2 * look.limb * limb + 1.9 * look.black_edge * broad * (0.65 + 0.35 * towards_dark)
    return np.asarray((inside * amount)[..., None] * _DARK_TINT, dtype=np.float32)


def _halo(
    grid: PolarGrid, look: _Look, radius: float, towards_dark: AnyFloatArray
) -> AnyFloatArray:
    """(h, w) bright ring outside the wall, brightest opposite the dark limb."""
    width = max(1.0, 0.06 * radius)
    ring = bump(grid.depth + 1.1 * width, width) - 0.35 * bump(grid.depth + 3.2 * width, width)
    glow = bump(grid.depth - 0.4 * look.wall_px, 0.7 * look.wall_px) * (1.0 - towards_dark)
    side = 0.12 + 0.88 * np.square(1.0 - towards_dark)
    return np.asarray(look.halo * (0.24 * ring * side + 0.30 * glow), dtype=np.float32)
