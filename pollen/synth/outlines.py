"""Outlines of grains: star-shaped closed curves, kept as a radius per direction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import atan2, hypot, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import AnyFloatArray, DoubleArray
from pollen.synth.spec import EmptyLook
from pollen.synth.truth import polygon_area

#: Directions in which the radius of an outline is known (every half degree).
N_DIRECTIONS = 720
_POLYGON_STEP = 8


@lru_cache(maxsize=1)
def directions() -> NDArray[np.float64]:
    """Return `(N_DIRECTIONS,)` angles in radians, from 0 (right) over pi / 2 (down)."""
    return np.arange(N_DIRECTIONS, dtype=np.float64) * np.float64(2.0 * pi / N_DIRECTIONS)


@dataclass(frozen=True)
class RadialOutline:
    """A closed curve around a centre: one radius per direction.

    Attributes:
        radii_px: (N_DIRECTIONS,) distance from the centre, px.
    """

    x: float
    y: float
    radii_px: NDArray[np.float64]

    def moved(self, x: float, y: float) -> RadialOutline:
        """Return the same outline around another centre."""
        return RadialOutline(x, y, self.radii_px)

    @cached_property
    def reach_px(self) -> float:
        """The largest radius, px."""
        return float(self.radii_px.max())

    @cached_property
    def polygon(self) -> DoubleArray:
        """`(90, 2)` points of the outline, px: the outline that truth is measured on."""
        angle, radius = directions()[::_POLYGON_STEP], self.radii_px[::_POLYGON_STEP]
        return np.stack([self.x + radius * np.cos(angle), self.y + radius * np.sin(angle)], 1)

    @cached_property
    def radius_px(self) -> float:
        """The radius of the circle of the same area, px."""
        return sqrt(polygon_area(self.polygon) / pi)

    def radius_towards(self, angle: float) -> float:
        """Return the radius in one direction (radians), px."""
        return float(self.radii_px[round(angle / (2.0 * pi) * N_DIRECTIONS) % N_DIRECTIONS])

    def gap_px(self, other: RadialOutline) -> float:
        """Return the smallest distance from this outline to another one, negative if they overlap.

        If one centre lies inside the other outline, it is minus the smaller radius: outlines that
        nearly coincide must not look far apart because they never come close to crossing.
        """
        dx, dy = self.x - other.x, self.y - other.y
        distance, angle = hypot(dx, dy), atan2(dy, dx)
        if distance < max(other.radius_towards(angle), self.radius_towards(angle + pi)):
            return -min(self.radius_px, other.radius_px)
        offset = self.polygon - (other.x, other.y)
        rho = np.hypot(offset[:, 0], offset[:, 1])
        turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2.0 * pi) * N_DIRECTIONS
        return float((rho - other.radii_px[turn.round().astype(np.int64) % N_DIRECTIONS]).min())


@dataclass(frozen=True, slots=True)
class PolarGrid:
    """Pixel centres of the box around an outline, seen from its centre; all (h, w) float32.

    Attributes:
        angle: Direction from the centre, -pi to pi.
        depth: Distance inside the outline along the ray, px; negative outside.
        unit: Distance from the centre as a share of the outline's radius.
    """

    x0: int
    y0: int
    dx: AnyFloatArray
    dy: AnyFloatArray
    angle: AnyFloatArray
    depth: AnyFloatArray
    unit: AnyFloatArray

    @property
    def shape(self) -> tuple[int, int]:
        """The height and width, px."""
        height, width = self.dx.shape
        return height, width


def polar_grid(outline: RadialOutline, margin_px: float) -> PolarGrid:
    """Return the pixels within `margin_px` of an outline's box, in its own coordinates."""
    reach = outline.reach_px + margin_px
    x0, y0 = int(np.floor(outline.x - reach)), int(np.floor(outline.y - reach))
    x1, y1 = int(np.ceil(outline.x + reach)) + 1, int(np.ceil(outline.y + reach)) + 1
    dx, dy = np.meshgrid(
        np.arange(x0, x1, dtype=np.float32) + np.float32(0.5 - outline.x),
        np.arange(y0, y1, dtype=np.float32) + np.float32(0.5 - outline.y),
    )
    rho = np.hypot(dx, dy)
    angle = np.arctan2(dy, dx)
    index = (angle * np.float32(N_DIRECTIONS / (2.0 * pi)) + N_DIRECTIONS).astype(np.int32)
    radius = outline.radii_px.astype(np.float32)[index % N_DIRECTIONS]
    return PolarGrid(x0, y0, dx, dy, angle, radius - rho, rho / radius)


def full_outline(rng: np.random.Generator, diameter_px: float) -> RadialOutline:
    """Draw the outline of a viable grain around (0, 0): nearly a circle, sometimes oval or dented."""
    axis_ratio = 0.99 - min(abs(rng.normal(0.0, 0.065)), 0.3)
    radii = _ellipse(rng, axis_ratio) * _waves(rng, 0.011)
    if rng.random() < 0.08:
        radii *= _notch(rng, rng.uniform(0.03, 0.12), rng.uniform(0.15, 0.5))
    return _scaled(radii, diameter_px)


def empty_outline(rng: np.random.Generator, look: EmptyLook, diameter_px: float) -> RadialOutline:
    """Draw the outline of a non-viable grain of a given look around (0, 0)."""
    if look is EmptyLook.LOBED:
        return _scaled(_lobes(rng), diameter_px)
    if look is EmptyLook.CRUMPLED:
        radii = _ellipse(rng, rng.uniform(0.58, 0.95)) * _waves(rng, 0.045)
        for _ in range(rng.integers(0, 3)):
            radii *= _notch(rng, rng.uniform(0.05, 0.3), rng.uniform(0.08, 0.35))
        return _scaled(radii, diameter_px)
    if look in (EmptyLook.RIBBED, EmptyLook.FOLDED, EmptyLook.SPLIT) and rng.random() < 0.3:
        return _scaled(_lens(rng, rng.uniform(0.55, 0.8)) * _waves(rng, 0.012), diameter_px)
    axis_ratio = 1.0 - min(abs(rng.normal(0.0, 0.12)), 0.45)
    radii = _ellipse(rng, axis_ratio) * _waves(rng, 0.014)
    if rng.random() < 0.3:
        radii *= _notch(rng, rng.uniform(0.05, 0.25), rng.uniform(0.08, 0.4))
    return _scaled(radii, diameter_px)


def blob_outline(
    rng: np.random.Generator, diameter_px: float, *, axis_ratio: float, roughness: float
) -> RadialOutline:
    """Draw the outline of debris around (0, 0): an ellipse with waves of a relative size `roughness`."""
    return _scaled(_ellipse(rng, axis_ratio) * _waves(rng, roughness, highest=11), diameter_px)


def _ellipse(rng: np.random.Generator, axis_ratio: float) -> NDArray[np.float64]:
    turned = directions() - rng.uniform(0.0, pi)
    return 1.0 / np.hypot(np.cos(turned), np.sin(turned) / axis_ratio)


def _lens(rng: np.random.Generator, axis_ratio: float) -> NDArray[np.float64]:
    """Draw the intersection of two equal circles: a grain collapsed to the shape of an almond."""
    turned = directions() - rng.uniform(0.0, pi)
    # Circles of radius r centred at (0, +-(r - b)), half axes 1 and b: r = (1 + b^2) / 2b.
    radius = (1.0 + axis_ratio**2) / (2.0 * axis_ratio)
    offset = radius - axis_ratio
    sine = np.abs(np.sin(turned))
    radii = -offset * sine + np.sqrt(radius**2 - offset**2 * (1.0 - sine**2))
    kernel = np.ones(21) / 21.0
    return np.convolve(np.concatenate([radii[-10:], radii, radii[:10]]), kernel, mode="valid")


def _lobes(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw two to four lobes of unequal width with furrows of unequal depth between them."""
    count = int(rng.choice([2, 3, 4], p=[0.2, 0.7, 0.1]))
    radii = _ellipse(rng, rng.uniform(0.8, 1.0)) * _waves(rng, 0.025)
    start = rng.uniform(0.0, 2.0 * pi)
    for lobe in range(count):
        middle = start + 2.0 * pi * lobe / count + rng.normal(0.0, 0.18)
        turn = np.abs(np.mod(directions() - middle + pi, 2.0 * pi) - pi)
        depth, width = rng.uniform(0.06, 0.34), rng.uniform(0.12, 0.4)
        radii *= 1.0 - depth * np.exp(-np.hypot(turn, 0.06) / width)
    return radii


def _waves(rng: np.random.Generator, strength: float, highest: int = 8) -> NDArray[np.float64]:
    """Draw a sum of waves around 1; the higher, the weaker."""
    order = np.arange(2, highest)[:, None]
    size = rng.normal(0.0, strength, len(order))[:, None] * (2.0 / order) ** 0.7
    phase = rng.uniform(0.0, 2.0 * pi, len(order))[:, None]
    waves: NDArray[np.float64] = (size * np.cos(order * directions() + phase)).sum(axis=0)
    return 1.0 + waves


def _notch(rng: np.random.Generator, depth: float, width: float) -> NDArray[np.float64]:
    turn = np.mod(directions() - rng.uniform(0.0, 2.0 * pi), 2.0 * pi) - pi
    return 1.0 - depth * np.exp(-0.5 * np.square(turn / width))


def _scaled(radii: NDArray[np.float64], diameter_px: float) -> RadialOutline:
    """Return the outline whose polygon has exactly the area of a circle of this diameter."""
    radii = np.maximum(radii, 0.15)
    unit = RadialOutline(0.0, 0.0, radii)
    return RadialOutline(0.0, 0.0, radii * (diameter_px / 2.0 / unit.radius_px))
