"""Pictures of non-viable grains: pale, folded, ribbed, collapsed, with a dark wall."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, radians, sin

import numpy as np

from pollen.arrays import AnyFloatArray
from pollen.synth.outlines import PolarGrid, RadialOutline, polar_grid
from pollen.synth.patch import Patch, from_density
from pollen.synth.spec import EmptyLook, FrameSpec
from pollen.synth.texture import bump, density, noise, step

_WALL_TINT = np.array([0.85, 1.12, 1.0], np.float32)
_DARK_TINT = np.array([1.1, 1.1, 0.62], np.float32)
_HUE_TINT = np.array([-0.6, 0.3, 1.2], np.float32)
_STAIN_DENSITY = np.array([0.25, 1.5, 0.75], np.float32)


@dataclass(slots=True)
class _Canvas:
    """The grain that is being drawn: stain, neutral absorption and relief.

    Attributes:
        light: Unit vector towards the dark side.
        stain: (h, w) amount of magenta stain.
        dark: (h, w) amount of neutral darkness.
        relief: (h, w) relative change of brightness by refraction.
    """

    grid: PolarGrid
    radius: float
    light: tuple[float, float]
    stain: AnyFloatArray
    dark: AnyFloatArray
    relief: AnyFloatArray

    def along(self, angle: float) -> tuple[AnyFloatArray, AnyFloatArray]:
        """Return the coordinates along and across a direction, in units of the radius."""
        c, s = np.float32(cos(angle) / self.radius), np.float32(sin(angle) / self.radius)
        return self.grid.dx * c + self.grid.dy * s, self.grid.dy * c - self.grid.dx * s

    def lit(self, angle: float) -> float:
        """Return the signed share of the light across a line in this direction."""
        return -sin(angle) * self.light[0] + cos(angle) * self.light[1]


def empty_patch(
    rng: np.random.Generator, outline: RadialOutline, look: EmptyLook, spec: FrameSpec
) -> Patch:
    """Draw one non-viable grain of a given look; the wall ends at the outline."""
    radius = outline.radius_px
    defocus = float(rng.gamma(1.3, spec.optics.defocus_spread_px))
    grid = polar_grid(outline, margin_px=0.3 * radius + 3.0 * defocus + 3.0)
    angle = radians(spec.optics.light_angle_deg) + rng.normal(0.0, 0.2)
    zeros = np.zeros(grid.shape, np.float32)
    canvas = _Canvas(grid, radius, (cos(angle), sin(angle)), zeros, zeros.copy(), zeros.copy())
    _wrinkles(rng, canvas, look)
    _draw_inside(rng, canvas, look)
    inside = step(grid.depth - 0.5, 1.2)
    # The stain of a fold comes from around it: the grain as a whole keeps its paleness.
    canvas.stain -= np.float32(0.8 * max(0.0, float(canvas.stain[inside > 0.5].mean())))
    pale = density(spec.stain.non_viable_rgb, spec.background.rgb)
    pale = pale * np.exp(rng.normal(0.0, 0.09, 3) + rng.normal(-0.12, 0.12)).astype(np.float32)
    if look is EmptyLook.GHOST:
        pale = pale * np.float32(rng.uniform(0.3, 0.9))
    total = inside[..., None] * (
        pale * (1.0 + 0.25 * canvas.stain)[..., None]
        + _hues(rng, canvas)
        + np.maximum(canvas.stain, -0.22)[..., None] * _STAIN_DENSITY * 0.55
        + canvas.dark[..., None] * _WALL_TINT
    )
    total += _wall_density(rng, canvas, look, spec)
    light = (1.0 + inside * np.clip(canvas.relief, -0.45, 0.4)) * (1.0 + _halo(rng, canvas, spec))
    return from_density(total, light, x0=grid.x0, y0=grid.y0).blurred(defocus)


def _draw_inside(rng: np.random.Generator, canvas: _Canvas, look: EmptyLook) -> None:
    """Draw the features of the look."""
    artists = {
        EmptyLook.RIBBED: _ribs,
        EmptyLook.RESIDUE: _residue,
        EmptyLook.SPLIT: _split,
        EmptyLook.LOBED: _furrows,
    }
    if look in artists:
        artists[look](rng, canvas)
        return
    fewest, most, low, high = {
        EmptyLook.FOLDED: (1, 4, 0.4, 1.2),
        EmptyLook.CRUMPLED: (3, 6, 0.5, 1.3),
        EmptyLook.DARK: (1, 1, 0.2, 0.9),
        EmptyLook.GHOST: (0, 1, 0.15, 0.5),
    }[look]
    if look in (EmptyLook.FOLDED, EmptyLook.CRUMPLED) and rng.random() < 0.6:
        _almond(rng, canvas)
    for _ in range(rng.integers(fewest, most + 1)):
        _fold(rng, canvas, rng.uniform(low, high))
    if look is EmptyLook.DARK:
        canvas.dark += np.float32(rng.uniform(0.0, 0.25))


def _hues(rng: np.random.Generator, canvas: _Canvas) -> AnyFloatArray:
    """(h, w, 3) drift of the colour between orange and violet across one grain."""
    drift = noise(rng, canvas.grid.shape, 0.35 * canvas.radius)
    drift = drift + noise(rng, canvas.grid.shape, max(1.3, 0.1 * canvas.radius))
    return np.asarray(np.float32(rng.uniform(0.01, 0.07)) * drift[..., None] * _HUE_TINT)


def _wrinkles(rng: np.random.Generator, canvas: _Canvas, look: EmptyLook) -> None:
    """Fine unevenness of the whole wall, seen by its relief."""
    strength = rng.uniform(0.3, 1.0) ** 2 * (1.4 if look is EmptyLook.CRUMPLED else 1.0)
    coarse_px = max(1.3, rng.uniform(0.05, 0.13) * canvas.radius)
    height = noise(rng, canvas.grid.shape, coarse_px)
    height = height * np.float32(0.5 * coarse_px) + noise(rng, canvas.grid.shape, 1.1)
    gradient_y, gradient_x = np.gradient(height)
    slope = gradient_x * canvas.light[0] + gradient_y * canvas.light[1]
    canvas.relief += np.float32(-0.2 * strength) * slope
    canvas.stain += np.float32(0.11 * strength) * height
    canvas.stain += np.float32(0.14 * strength) * noise(
        rng, canvas.grid.shape, 0.25 * canvas.radius
    )


def _fold(rng: np.random.Generator, canvas: _Canvas, strength: float) -> None:
    """One curved crease: stain gathers in it, one flank is bright, the other dark."""
    angle = rng.uniform(0.0, pi)
    along, across = canvas.along(angle)
    bend = rng.normal(0.0, 0.5)
    across = across - rng.normal(0.0, 0.3) - np.float32(bend) * np.square(along)
    along = along - rng.normal(0.0, 0.25)
    width = max(0.8 / canvas.radius, rng.uniform(0.02, 0.09))
    ends = step(rng.uniform(0.35, 0.85) - np.abs(along), 0.25)
    crease = bump(across, width) * ends
    flank = across / np.float32(width) * bump(across, 1.4 * width) * ends
    canvas.stain += np.float32(strength) * crease
    canvas.dark += np.float32(0.7 * strength * rng.random()) * crease
    canvas.relief += np.float32(0.45 * strength * canvas.lit(angle)) * flank
    if rng.random() < 0.35:
        canvas.relief += np.float32(0.35 * strength) * bump(across - 1.8 * width, width) * ends


def _almond(rng: np.random.Generator, canvas: _Canvas) -> None:
    """The shrunken contents as an almond: stained, streaked along, with a dark contour."""
    along, across = canvas.along(rng.uniform(0.0, pi))
    along = along - np.float32(rng.normal(0.0, 0.15))
    across = (
        across
        - np.float32(rng.normal(0.0, 0.2))
        - np.float32(rng.normal(0.0, 0.2)) * (np.square(along))
    )
    length, half_width = rng.uniform(0.4, 0.85), rng.uniform(0.12, 0.45)
    uneven = 0.05 * noise(rng, canvas.grid.shape, max(1.3, 0.1 * canvas.radius))
    depth = half_width * (1.0 - np.square(along / np.float32(length))) - np.abs(across) + uneven
    inside = step(depth, 0.1)
    streaks = np.cos(across * np.float32(rng.uniform(12.0, 30.0)) + 4.0 * uneven)
    stain = rng.uniform(0.2, 1.2)
    canvas.stain += np.float32(stain) * inside * (1.0 + 0.35 * streaks)
    canvas.dark += np.float32(rng.uniform(0.1, 0.8)) * bump(depth, max(0.9 / canvas.radius, 0.035))
    canvas.relief += np.float32(rng.uniform(0.0, 0.25)) * bump(depth + 0.1, 0.05)


def _ribs(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Parallel ribs that bow outwards like the seams of a ball."""
    angle = rng.uniform(0.0, pi)
    along, across = canvas.along(angle)
    bowed = across / np.maximum(np.sqrt(np.maximum(1.15 - np.square(along), 0.05)), 0.2)
    n = rng.uniform(1.2, 3.2)
    phase = bowed * np.float32(pi * n) + np.float32(rng.uniform(0.0, 2.0 * pi))
    strength = rng.uniform(0.35, 1.0)
    ridge = np.power(0.5 + 0.5 * np.cos(phase), np.float32(rng.uniform(1.0, 3.0)))
    envelope = step(1.0 - np.abs(along), 0.4)
    canvas.stain += np.float32(strength) * (ridge - 0.25) * envelope
    canvas.dark += np.float32(0.2 * strength * rng.random()) * ridge * envelope
    canvas.relief += np.float32(0.25 * strength * canvas.lit(angle)) * np.sin(phase) * envelope


def _residue(rng: np.random.Generator, canvas: _Canvas) -> None:
    """A shrunken stained lump in the middle or against one side."""
    size, offset = rng.uniform(0.25, 0.6), rng.uniform(0.0, 0.4)
    angle = rng.uniform(0.0, 2.0 * pi)
    along, across = canvas.along(angle)
    ragged = noise(rng, canvas.grid.shape, 0.16 * canvas.radius)
    distance = np.hypot(along - np.float32(offset), across * np.float32(rng.uniform(1.0, 1.8)))
    lump = step(np.float32(size) - distance + np.float32(0.16) * ragged, rng.uniform(0.1, 0.3))
    canvas.stain += np.float32(rng.uniform(0.6, 1.9)) * lump
    canvas.dark += np.float32(rng.uniform(0.0, 0.3)) * lump


def _split(rng: np.random.Generator, canvas: _Canvas) -> None:
    """One half paler than the other, with a sharp line between."""
    angle = rng.uniform(0.0, pi)
    along, across = canvas.along(angle)
    across = (
        across
        - np.float32(rng.normal(0.0, 0.2))
        - np.float32(rng.normal(0, 0.25)) * (np.square(along))
    )
    half = step(across, rng.uniform(0.05, 0.25))
    canvas.stain += np.float32(rng.uniform(0.15, 0.9)) * half
    canvas.dark += np.float32(rng.uniform(0.1, 0.6)) * bump(across, 0.05)
    canvas.relief += np.float32(rng.uniform(0.1, 0.5)) * bump(across + 0.12, 0.08)
    canvas.relief += np.float32(rng.uniform(0.0, 0.25)) * (1.0 - half)


def _furrows(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Lines from the centre to the notches of a lobed grain."""
    narrow = np.float32(canvas.radius) * canvas.grid.unit
    local_radius = (canvas.grid.depth + narrow) / np.float32(canvas.radius)
    furrow = step(np.float32(0.9) - local_radius, 0.15) * step(canvas.grid.unit - 0.25, 0.2)
    canvas.stain += np.float32(rng.uniform(0.0, 0.7)) * furrow
    canvas.dark += np.float32(rng.uniform(0.1, 0.6)) * furrow
    if rng.random() < 0.6:
        canvas.stain += np.float32(rng.uniform(0.2, 0.9)) * bump(canvas.grid.unit, 0.3)


def _wall_density(
    rng: np.random.Generator, canvas: _Canvas, look: EmptyLook, spec: FrameSpec
) -> AnyFloatArray:
    """(h, w, 3) density of the wall: a dark line, and a weaker second one further in."""
    grid, radius = canvas.grid, canvas.radius
    towards_dark = 0.5 + 0.5 * (
        (grid.dx * canvas.light[0] + grid.dy * canvas.light[1])
        / np.maximum(np.hypot(grid.dx, grid.dy), 1e-3)
    )
    width = max(0.8, radius * rng.uniform(0.03, 0.07))
    strength = rng.uniform(0.5, 1.5) * (0.5 + 0.5 * spec.optics.exine)
    uneven = 1.0 + 0.3 * noise(rng, grid.shape, 0.2 * radius) + 0.25 * noise(rng, grid.shape, 1.3)
    side = 0.35 + 0.75 * towards_dark
    # People outline a grain just outside its dark line.
    line = bump(grid.depth - 1.2 * width - 0.02 * radius, width) * strength * side * uneven
    second = rng.uniform(0.15, 0.32) * radius
    line = line + bump(grid.depth - second, width) * rng.uniform(0.0, 0.75) * strength * uneven
    total = np.maximum(line, 0.0)[..., None] * _WALL_TINT
    black = spec.optics.black_edge * rng.uniform(0.6, 1.1)
    if look is EmptyLook.DARK:
        black = max(black, rng.uniform(0.2, 0.7))
    broad = np.exp(-np.square(np.maximum(grid.depth, 0.0) / np.float32(0.28 * radius)))
    inside = step(grid.depth - 0.5, 1.2)
    edge = (1.5 * black * inside * broad * side)[..., None] * _DARK_TINT
    return np.asarray(total + edge, dtype=np.float32)


def _halo(rng: np.random.Generator, canvas: _Canvas, spec: FrameSpec) -> AnyFloatArray:
    """(h, w) bright ring outside the wall."""
    width = max(1.0, 0.08 * canvas.radius)
    ring = bump(canvas.grid.depth + 1.0 * width, 0.8 * width)
    ring = ring - 0.3 * bump(canvas.grid.depth + 3.0 * width, width)
    offside = (canvas.grid.dx * canvas.light[0] + canvas.grid.dy * canvas.light[1]) / np.float32(
        canvas.radius
    )
    strength = spec.optics.halo * rng.uniform(0.6, 1.5)
    return np.asarray(0.24 * strength * ring * np.clip(0.6 - 0.5 * offside, 0.05, 1.2))
