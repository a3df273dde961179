"""Stained debris, which looks most like grains."""

from __future__ import annotations

from math import cos, pi, radians, sin

import numpy as np

from pollen.arrays import AnyFloatArray
from pollen.synth.outlines import PolarGrid, blob_outline, polar_grid
from pollen.synth.patch import Patch, from_density
from pollen.synth.spec import FrameSpec
from pollen.synth.texture import bump, noise, step

Centre = tuple[float, float]

_MAGENTA = np.array([0.28, 1.75, 0.70], np.float32)
_VIOLET = np.array([0.55, 1.35, 0.25], np.float32)
_CRIMSON = np.array([0.35, 2.0, 1.25], np.float32)
_OCHRE = np.array([0.25, 0.42, 0.85], np.float32)


def _stain(rng: np.random.Generator) -> AnyFloatArray:
    """(3,) density of stained tissue: between magenta, violet and crimson."""
    share = rng.dirichlet((2.5, 1.2, 0.7))
    mixed = share[0] * _MAGENTA + share[1] * _VIOLET + share[2] * _CRIMSON
    return np.asarray(mixed, dtype=np.float32)


def relief(height: AnyFloatArray, spec: FrameSpec) -> AnyFloatArray:
    """(h, w) slope of a surface towards the light: what oblique light shows of it."""
    angle = radians(spec.optics.light_angle_deg)
    slope_y, slope_x = np.gradient(height)
    return np.asarray(-(slope_x * cos(angle) + slope_y * sin(angle)), dtype=np.float32)


def _defocus(rng: np.random.Generator, spec: FrameSpec, most_px: float = 6.0) -> float:
    return float(min(rng.gamma(1.2, spec.optics.defocus_spread_px + 0.4), most_px))


def flake(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A magenta flake or shred of tissue: ragged, streaked and granular, denser in parts."""
    diameter = spec.grain_diameter_px * float(np.clip(rng.lognormal(-0.3, 0.6), 0.15, 3.5))
    outline = blob_outline(
        rng, diameter, axis_ratio=rng.uniform(0.2, 0.95), roughness=rng.uniform(0.05, 0.16)
    ).moved(*centre)
    defocus = _defocus(rng, spec)
    grid = polar_grid(outline, margin_px=0.25 * diameter + 3.0 * defocus + 3.0)
    ragged = noise(rng, grid.shape, max(1.2, 0.09 * diameter)) * np.float32(0.10 * diameter)
    ragged += noise(rng, grid.shape, max(1.0, 0.03 * diameter)) * np.float32(0.03 * diameter)
    ragged += noise(rng, grid.shape, 1.3) * np.float32(rng.uniform(0.5, 1.8))
    depth = grid.depth + ragged * np.float32(rng.uniform(0.5, 1.6))
    inside = step(depth, rng.uniform(0.8, 2.5))
    texture = _tissue_texture(rng, grid, diameter)
    patches = noise(rng, grid.shape, max(2.0, 0.16 * diameter))
    amount = rng.uniform(0.3, 1.1) * (
        1.0 + rng.uniform(0.25, 0.7) * texture + rng.uniform(0.1, 0.5) * patches
    )
    share = 0.5 + 0.3 * noise(rng, grid.shape, max(1.5, 0.1 * diameter))
    stain = _stain(rng) * share[..., None] + _stain(rng) * (1.0 - share[..., None])
    total = (inside * np.clip(amount, 0.02, 2.2))[..., None] * stain
    edge = bump(depth - 1.0, 0.9) * rng.uniform(0.0, 0.5)
    total += (edge + inside * 0.25 * np.maximum(texture - 0.8, 0.0))[..., None]
    light = 1.0 + np.float32(rng.uniform(0.08, 0.3)) * relief(2.0 * texture * inside, spec)
    light += spec.optics.halo * 0.2 * bump(depth + 2.5, 1.4) * rng.random()
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(defocus)


def _tissue_texture(rng: np.random.Generator, grid: PolarGrid, diameter: float) -> AnyFloatArray:
    """(h, w) streaks in one direction and grains over them, mean 0 and deviation about 1."""
    height, width = grid.shape
    stretch = rng.uniform(2.0, 6.0)
    fine = noise(rng, (height, width), max(0.9, 0.015 * diameter))
    angle = rng.uniform(0.0, pi)
    along = grid.dx * np.float32(cos(angle)) + grid.dy * np.float32(sin(angle))
    across = grid.dy * np.float32(cos(angle)) - grid.dx * np.float32(sin(angle))
    wander = noise(rng, (height, width), max(2.0, 0.12 * diameter))
    pattern = noise(rng, (512, 512), 1.9)
    rows = (across + np.float32(0.05 * diameter) * wander).astype(np.int32) % 512
    columns = (along / np.float32(stretch)).astype(np.int32) % 512
    streaks = pattern[rows, columns]
    share = rng.uniform(0.2, 0.9)
    return np.asarray(share * streaks + (1.0 - share) * fine + 0.25 * fine, dtype=np.float32)


def clump(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A lump of stained granules, often round and of the size of a grain, without a wall."""
    diameter = spec.grain_diameter_px * float(np.clip(rng.lognormal(-0.1, 0.35), 0.4, 2.2))
    outline = blob_outline(
        rng, diameter, axis_ratio=rng.uniform(0.55, 1.0), roughness=rng.uniform(0.02, 0.08)
    ).moved(*centre)
    defocus = _defocus(rng, spec, 3.0)
    grid = polar_grid(outline, margin_px=0.2 * diameter + 3.0 * defocus + 3.0)
    grain_px = max(0.9, diameter * rng.uniform(0.025, 0.06))
    granules = noise(rng, grid.shape, grain_px)
    depth = grid.depth + np.float32(0.08 * diameter) * noise(rng, grid.shape, 0.07 * diameter)
    depth += granules * np.float32(grain_px)
    inside = step(depth, rng.uniform(1.0, 2.5))
    amount = rng.uniform(0.25, 0.8) * np.clip(1.0 + 0.65 * granules, 0.05, 2.5)
    ochre = rng.random() < 0.35
    tint = _OCHRE * np.float32(rng.uniform(0.5, 1.0)) if ochre else _stain(rng)
    total = (inside * amount)[..., None] * tint
    light = 1.0 + inside * np.float32(rng.uniform(0.1, 0.35)) * relief(granules * grain_px, spec)
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(defocus)


def smear(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A faint pink cloud of stain or a far defocused flake."""
    diameter = spec.grain_diameter_px * float(np.clip(rng.lognormal(0.1, 0.6), 0.3, 4.0))
    outline = blob_outline(
        rng, diameter, axis_ratio=rng.uniform(0.3, 1.0), roughness=rng.uniform(0.05, 0.15)
    ).moved(*centre)
    grid = polar_grid(outline, margin_px=0.4 * diameter + 4.0)
    cloud = noise(rng, grid.shape, max(2.0, 0.15 * diameter))
    soft = 0.22 * diameter
    amount = step(grid.depth + np.float32(0.1 * diameter) * cloud, soft) * (1.0 + 0.4 * cloud)
    total = np.clip(amount, 0.0, 3.0)[..., None] * _stain(rng) * np.float32(rng.uniform(0.04, 0.3))
    total *= step(grid.depth + np.float32(0.35 * diameter), 0.1 * diameter)[..., None]
    return from_density(total, x0=grid.x0, y0=grid.y0)


def shred(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A long stained shred, bent and frayed, with dark edges."""
    length = spec.grain_diameter_px * rng.uniform(0.6, 3.0)
    half_width = length * rng.uniform(0.05, 0.2)
    grid = _square_grid(centre, 0.5 * length + half_width + 8.0)
    along, across = _bent(rng, grid, length)
    ragged = noise(rng, grid.shape, max(1.2, 0.5 * half_width)) * np.float32(0.4 * half_width)
    ragged += noise(rng, grid.shape, max(1.0, 0.15 * half_width)) * np.float32(0.15 * half_width)
    ragged += noise(rng, grid.shape, 1.3) * np.float32(rng.uniform(0.3, 1.5))
    taper = np.sqrt(np.clip(1.05 - np.square(2.0 * along / length), 0.0, 1.0))
    depth = half_width * taper - np.abs(across) + ragged * (0.3 + 0.7 * taper)
    depth = np.where(np.abs(along) > 0.52 * length, np.float32(-9.0), depth).astype(np.float32)
    inside = step(depth, 1.2)
    strands = _tissue_texture(rng, grid, 4.0 * half_width)
    amount = rng.uniform(0.3, 1.1) * np.clip(1.0 + rng.uniform(0.3, 0.7) * strands, 0.05, 2.2)
    total = (inside * amount)[..., None] * _stain(rng)
    total += (bump(depth - 1.0, 1.1) * rng.uniform(0.0, 0.7))[..., None]
    light = 1.0 + 0.25 * inside * relief(2.0 * strands, spec)
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(_defocus(rng, spec, 3.0))


def _square_grid(centre: Centre, reach_px: float) -> PolarGrid:
    """A box of pixels around a centre whose `depth` is the distance inside a circle."""
    x0, y0 = int(np.floor(centre[0] - reach_px)), int(np.floor(centre[1] - reach_px))
    size = int(np.ceil(2.0 * reach_px)) + 2
    dx, dy = np.meshgrid(
        np.arange(x0, x0 + size, dtype=np.float32) + np.float32(0.5 - centre[0]),
        np.arange(y0, y0 + size, dtype=np.float32) + np.float32(0.5 - centre[1]),
    )
    rho = np.hypot(dx, dy)
    return PolarGrid(x0, y0, dx, dy, np.arctan2(dy, dx), reach_px - rho, rho / np.float32(reach_px))


def _bent(
    rng: np.random.Generator, grid: PolarGrid, length: float
) -> tuple[AnyFloatArray, AnyFloatArray]:
    """Coordinates along and across a bent line through the centre, px."""
    angle = rng.uniform(0.0, pi)
    along = grid.dx * np.float32(cos(angle)) + grid.dy * np.float32(sin(angle))
    across = grid.dy * np.float32(cos(angle)) - grid.dx * np.float32(sin(angle))
    t = along / np.float32(length)
    across = across - np.float32(rng.normal(0.0, 0.6) * length) * (np.square(t) - 0.08)
    across = across - np.float32(rng.normal(0.0, 0.05) * length) * np.sin(
        t * np.float32(rng.uniform(6.0, 14.0)) + np.float32(rng.uniform(0.0, 6.3))
    )
    return np.asarray(along, np.float32), np.asarray(across, np.float32)
