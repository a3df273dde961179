"""Debris that is not stained: bubbles, fibres, crystals, specks, sheets of tissue, dust."""

from __future__ import annotations

from math import cos, pi, radians, sin

import numpy as np

from pollen.arrays import AnyFloatArray
from pollen.synth.debris import Centre, relief
from pollen.synth.outlines import N_DIRECTIONS, RadialOutline, blob_outline, directions, polar_grid
from pollen.synth.patch import Patch, from_density
from pollen.synth.spec import FrameSpec
from pollen.synth.texture import bump, noise, step


def speck(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A speck of a few pixels: dark, or a bright and a dark side."""
    size = float(np.clip(rng.lognormal(0.2, 0.5), 0.6, 5.0)) * (spec.grain_diameter_px / 60.0)
    outline = blob_outline(
        rng, 2.0 * max(size, 0.8), axis_ratio=rng.uniform(0.3, 1.0), roughness=0.08
    ).moved(*centre)
    defocus = float(rng.gamma(1.2, 0.4 + spec.optics.defocus_spread_px))
    grid = polar_grid(outline, margin_px=2.0 * size + 3.0 * defocus + 3.0)
    body = bump(grid.unit, 0.7)
    angle = radians(spec.optics.light_angle_deg)
    slope = (grid.dx * cos(angle) + grid.dy * sin(angle)) / np.float32(size + 0.5) * body
    light = 1.0 - np.float32(rng.uniform(0.0, 0.28)) * slope
    tint = 1.0 + 0.15 * rng.standard_normal(3).astype(np.float32)
    total = (body * rng.choice([0.0, rng.uniform(0.05, 0.5)], p=[0.4, 0.6]))[..., None] * tint
    if rng.random() < 0.08:
        total = total + body[..., None] * np.array([0.1, 0.6, 0.25], np.float32)
    return from_density(total.astype(np.float32), light, x0=grid.x0, y0=grid.y0).blurred(defocus)


def crystal(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A colourless crumb, or a heap of them: bright and dark edges, hardly any colour."""
    diameter = spec.grain_diameter_px * float(np.clip(rng.lognormal(-1.1, 0.6), 0.08, 1.5))
    diameter = max(diameter, 4.0)
    outline = blob_outline(
        rng, diameter, axis_ratio=rng.uniform(0.3, 1.0), roughness=rng.uniform(0.04, 0.16)
    ).moved(*centre)
    defocus = float(min(rng.gamma(1.2, 0.3 + spec.optics.defocus_spread_px), 4.0))
    grid = polar_grid(outline, margin_px=0.3 * diameter + 3.0 * defocus + 3.0)
    lump = noise(rng, grid.shape, max(0.9, diameter * rng.uniform(0.05, 0.16)))
    depth = grid.depth + np.float32(0.1 * diameter) * noise(
        rng, grid.shape, max(1.0, 0.1 * diameter)
    )
    inside = step(depth, max(1.0, 0.08 * diameter))
    strength = rng.uniform(0.12, 0.5)
    light = 1.0 + np.float32(strength) * relief(inside * (2.0 + 2.0 * lump), spec)
    amount = rng.uniform(-0.05, 0.35) * inside * np.clip(0.6 + 0.6 * lump, 0.0, 2.0)
    tint = np.array([0.8, 0.95, 1.0 + max(0.0, rng.normal(0.0, 0.7))], np.float32)
    total = amount[..., None] * tint
    line = bump(depth - 0.8, 0.9) * rng.uniform(0.0, 0.5)
    total = (total + line[..., None]).astype(np.float32)
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(defocus)


def bubble(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """An air bubble: a black ring, bright lines inside and outside it, clear in the middle."""
    diameter = spec.grain_diameter_px * float(np.clip(rng.lognormal(-0.1, 0.75), 0.2, 7.0))
    radius = 0.5 * max(diameter, 8.0)
    outline = _bubble_outline(rng, radius).moved(*centre)
    grid = polar_grid(outline, margin_px=0.1 * radius + 9.0)
    ring_px = float(np.clip(radius * rng.uniform(0.08, 0.28), 1.2, 14.0))
    angle = grid.angle - np.float32(radians(spec.optics.light_angle_deg))
    uneven = 1.0 + np.float32(rng.uniform(0.0, 0.6)) * np.cos(angle)
    blackness = rng.uniform(0.7, 3.0)
    ring = step(grid.depth, 1.0) * step(ring_px * uneven - grid.depth, 0.45 * ring_px)
    colours = 1.0 + np.array([-0.15, 0.0, 0.15], np.float32) * np.float32(rng.normal(0.0, 1.0))
    total = (blackness * ring)[..., None] * colours
    inner = bump(grid.depth - 1.5 * ring_px, 0.3 * ring_px + 0.5)
    light = 1.0 + np.float32(rng.uniform(0.0, 0.25)) * inner
    light += np.float32(0.25 * spec.optics.halo) * bump(grid.depth + 1.8, 1.2)
    light += np.float32(rng.uniform(-0.06, 0.08)) * step(grid.depth - ring_px, ring_px)
    if rng.random() < 0.3 and radius > 12:
        wet = noise(rng, grid.shape, rng.uniform(1.2, 3.0))
        light += 0.12 * relief(2.0 * step(wet - 1.6, 0.4), spec) * step(grid.depth - ring_px, 3.0)
    defocus = float(min(rng.gamma(1.1, 0.5 * spec.optics.defocus_spread_px), 2.0))
    return from_density(total, light.astype(np.float32), x0=grid.x0, y0=grid.y0).blurred(defocus)


def _bubble_outline(rng: np.random.Generator, radius: float) -> RadialOutline:
    """A circle; large bubbles are pressed out of shape."""
    radii = np.full(N_DIRECTIONS, radius)
    if radius > 60 and rng.random() < 0.6:
        for order in (2, 3, 4):
            size = rng.normal(0.0, 0.09 / order)
            radii *= 1.0 + size * np.cos(order * directions() + rng.uniform(0.0, 2.0 * pi))
    return RadialOutline(0.0, 0.0, radii)


def fibre(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A hair or fibre through the frame: two dark edges, streaks along it, clear between."""
    x0, y0, x1, y1 = spec.visible_xyxy_px
    length = min(float(np.hypot(x1 - x0, y1 - y0)), spec.grain_diameter_px * rng.uniform(3.0, 20.0))
    half_width = spec.grain_diameter_px * float(np.clip(rng.lognormal(-1.9, 0.8), 0.03, 0.9))
    along, across, left, top = _line_grid(rng, centre, length, half_width)
    depth = half_width - np.abs(across)
    ends = step(0.5 * length - np.abs(along), 4.0)
    inside = step(depth, 1.0) * ends
    edges = bump(depth - 1.0, max(0.8, 0.08 * half_width)) * ends
    streak_table = noise(rng, (1, 512), 2.5)[0] + 0.6 * noise(rng, (1, 512), 0.9)[0]
    index = (across * np.float32(160.0 / half_width)).astype(np.int32) % 512
    wander = noise(rng, (along.shape[0], along.shape[1]), 6.0)
    streaks = (streak_table[index] * 0.7 + 0.4 * wander).astype(np.float32)
    amount = inside * (rng.uniform(0.0, 0.25) + rng.uniform(0.02, 0.2) * streaks)
    tint = np.array([1.0, 0.95, 0.9 + rng.uniform(-0.4, 0.8)], np.float32)
    total = (amount + edges * rng.uniform(0.2, 1.1))[..., None] * tint
    light = 1.0 + inside * (rng.uniform(-0.05, 0.2) + 0.1 * relief(2.0 * wander, spec))
    light += 0.2 * spec.optics.halo * bump(depth + 2.0, 1.3) * ends
    defocus = float(min(rng.gamma(1.2, 0.4 + spec.optics.defocus_spread_px), 4.0))
    patch = from_density(total.astype(np.float32), light.astype(np.float32), x0=left, y0=top)
    return patch.blurred(defocus)


def _line_grid(
    rng: np.random.Generator, centre: Centre, length: float, half_width: float
) -> tuple[AnyFloatArray, AnyFloatArray, int, int]:
    """Return coordinates along and across a bent line in the box around it, and the box's corner."""
    angle, bend = rng.uniform(0.0, pi), rng.normal(0.0, 0.18)
    sag = abs(bend) * 0.25 * length
    reach_x = abs(cos(angle)) * length / 2 + abs(sin(angle)) * (sag + half_width) + half_width + 12
    reach_y = abs(sin(angle)) * length / 2 + abs(cos(angle)) * (sag + half_width) + half_width + 12
    left, top = int(centre[0] - reach_x), int(centre[1] - reach_y)
    dx, dy = np.meshgrid(
        np.arange(int(2 * reach_x) + 2, dtype=np.float32) + np.float32(left + 0.5 - centre[0]),
        np.arange(int(2 * reach_y) + 2, dtype=np.float32) + np.float32(top + 0.5 - centre[1]),
    )
    along = dx * np.float32(cos(angle)) + dy * np.float32(sin(angle))
    across = dy * np.float32(cos(angle)) - dx * np.float32(sin(angle))
    across = across - np.float32(bend * length) * np.square(along / np.float32(length))
    across = across / np.sqrt(1.0 + np.square(2.0 * bend * along / np.float32(length)))
    return along.astype(np.float32), across.astype(np.float32), left, top


def tissue(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A torn sheet of empty cells: faint broken walls, sometimes a breath of pink."""
    diameter = spec.grain_diameter_px * rng.uniform(0.8, 3.5)
    outline = blob_outline(rng, diameter, axis_ratio=rng.uniform(0.25, 0.9), roughness=0.1).moved(
        *centre
    )
    grid = polar_grid(outline, margin_px=0.1 * diameter + 6.0)
    cell_px = max(1.5, spec.grain_diameter_px * rng.uniform(0.04, 0.14))
    cells = noise(rng, grid.shape, cell_px)
    fine = noise(rng, grid.shape, 1.3)
    broken = np.clip(0.5 + 0.8 * noise(rng, grid.shape, 2.0 * cell_px), 0.0, 1.5)
    walls = bump(cells + 0.25 * fine, 0.16) * broken
    ragged = grid.depth + np.float32(0.12 * diameter) * noise(rng, grid.shape, 0.12 * diameter)
    ragged += np.float32(1.5) * fine
    inside = step(ragged, 4.0)
    contour = bump(ragged - 1.5, 1.3) * broken
    grey = inside * walls * rng.uniform(0.1, 0.45) + contour * rng.uniform(0.0, 0.4)
    grey += inside * rng.uniform(0.0, 0.12) * np.clip(1.0 + 0.7 * fine, 0.0, 3.0)
    total = grey[..., None]
    if rng.random() < 0.4:
        pink = np.array([0.1, 0.8, 0.3], np.float32) * np.float32(rng.uniform(0.05, 0.35))
        uneven = np.clip(0.5 + 0.6 * noise(rng, grid.shape, 3.0 * cell_px) + 0.4 * fine, 0.0, 2.5)
        total = total + (inside * uneven)[..., None] * pink
    surface = relief(2.0 * walls + 0.3 * cells + 0.6 * fine, spec)
    light = 1.0 + inside * np.float32(rng.uniform(0.1, 0.45)) * surface
    defocus = float(min(rng.gamma(1.2, 0.5 + spec.optics.defocus_spread_px), 4.0))
    return from_density(
        total.astype(np.float32), light.astype(np.float32), x0=grid.x0, y0=grid.y0
    ).blurred(defocus)


def dust(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """Dust on the optics: a large, soft dark disc with a bright surround."""
    diameter = spec.grain_diameter_px * rng.uniform(0.5, 4.0)
    outline = blob_outline(rng, diameter, axis_ratio=rng.uniform(0.7, 1.0), roughness=0.04).moved(
        *centre
    )
    grid = polar_grid(outline, margin_px=0.7 * diameter)
    soft = rng.uniform(0.1, 0.3) * diameter
    disc = step(grid.depth, soft) * rng.uniform(0.05, 0.45)
    bright = bump(grid.depth + 0.3 * diameter, 0.14 * diameter) * rng.uniform(0.0, 0.06)
    total = np.repeat((disc - bright)[..., None], 3, axis=2).astype(np.float32)
    return from_density(total, x0=grid.x0, y0=grid.y0)


def ghost_spot(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """A droplet or grain of dust far above the focus: a faint soft ring, lit from one side."""
    reach = spec.grain_diameter_px * float(np.clip(rng.lognormal(-1.2, 0.6), 0.08, 1.0))
    reach = max(reach, 4.0)
    outline = blob_outline(
        rng, 2.0 * reach, axis_ratio=rng.uniform(0.6, 1.0), roughness=0.03
    ).moved(*centre)
    grid = polar_grid(outline, margin_px=0.8 * reach + 3.0)
    angle = radians(spec.optics.light_angle_deg)
    side = (grid.dx * cos(angle) + grid.dy * sin(angle)) / np.float32(reach)
    strength = np.float32(rng.uniform(0.01, 0.07))
    ring = bump(grid.unit - 0.8, rng.uniform(0.12, 0.3))
    core = bump(grid.unit, rng.uniform(0.2, 0.5))
    light = 1.0 + strength * (
        rng.uniform(-1.0, 1.0) * ring + rng.uniform(-1.0, 1.0) * core - side * ring
    )
    clear = np.zeros((*grid.shape, 1), np.float32)
    return from_density(clear, light.astype(np.float32), x0=grid.x0, y0=grid.y0)


def diffraction_rings(rng: np.random.Generator, centre: Centre, spec: FrameSpec) -> Patch:
    """Faint rings around a grain of dust far from the focus."""
    reach = spec.grain_diameter_px * rng.uniform(0.5, 3.0)
    grid = polar_grid(RadialOutline(*centre, np.full(N_DIRECTIONS, reach)), margin_px=2.0)
    n_rings = rng.uniform(1.5, 6.0)
    wave = np.cos(np.square(grid.unit) * np.float32(2.0 * pi * n_rings))
    fade = step(1.0 - grid.unit, 0.5)
    light = 1.0 + np.float32(rng.uniform(0.001, 0.006)) * wave * fade
    zero = np.zeros((*grid.shape, 3), np.float32)
    return from_density(zero, light.astype(np.float32), x0=grid.x0, y0=grid.y0)
