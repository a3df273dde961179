"""Specs drawn like the real data: one slide's colours, optics and debris at a time."""

from __future__ import annotations

import numpy as np

from pollen.synth.spec import RGB, Debris, EmptyLook, EmptySlide, FrameSpec, Optics, Stain

# Families of colours seen on real slides; a slide mixes neighbours of one family.
_VIABLE_RGB: tuple[tuple[RGB, float], ...] = (
    ((160.0, 18.0, 62.0), 0.30),  # dark red
    ((172.0, 26.0, 92.0), 0.28),  # crimson
    ((192.0, 38.0, 122.0), 0.17),  # magenta
    ((124.0, 12.0, 70.0), 0.13),  # purple, almost black at the edge
    ((196.0, 70.0, 132.0), 0.08),  # pink, under-stained
)
_NON_VIABLE_RGB: tuple[tuple[RGB, float], ...] = (
    ((174.0, 104.0, 128.0), 0.55),  # pink
    ((176.0, 128.0, 122.0), 0.22),  # brownish
    ((158.0, 90.0, 116.0), 0.23),  # mauve
)
_BACKGROUND_TINT: tuple[tuple[RGB, float], ...] = (
    ((0.0, 1.0, 0.0), 0.38),  # grey
    ((-9.0, -3.0, 12.0), 0.24),  # bluish to lavender
    ((-6.0, 3.0, 4.0), 0.20),  # greenish blue
    ((6.0, 2.0, -7.0), 0.18),  # warm grey
)
_LOOK_GROUPS: tuple[tuple[EmptyLook, ...], ...] = (
    (EmptyLook.FOLDED, EmptyLook.RIBBED, EmptyLook.CRUMPLED),
    (EmptyLook.FOLDED, EmptyLook.SPLIT, EmptyLook.GHOST),
    (EmptyLook.GHOST, EmptyLook.LOBED, EmptyLook.RIBBED),
    (EmptyLook.DARK, EmptyLook.SPLIT, EmptyLook.LOBED),
    (EmptyLook.RESIDUE, EmptyLook.FOLDED, EmptyLook.GHOST),
)


def random_spec(
    rng: np.random.Generator,
    width_px: int = 640,
    height_px: int = 640,
    grain_diameter_px: float | None = None,
) -> FrameSpec:
    """Draw a spec like the real data, empty, crowded and cropped frames included.

    Args:
        rng: Source of all choices.
        width_px: Width of the frame.
        height_px: Height of the frame.
        grain_diameter_px: Median diameter of the viable grains; None draws one of the two
            magnifications in use.
    """
    diameter = grain_diameter_px or _draw_diameter(rng)
    background = _draw_background(rng)
    crop = _draw_crop(rng, width_px, height_px) if rng.random() < 0.05 else None
    n_grains = _draw_count(rng, width_px, height_px, diameter)
    if crop is not None:
        n_grains = min(n_grains, int(rng.integers(0, 4)))
    viable_fraction = _draw_viable_fraction(rng)
    return FrameSpec(
        width_px=width_px,
        height_px=height_px,
        n_grains=n_grains,
        viable_fraction=viable_fraction,
        grain_diameter_px=diameter,
        size_spread=float(rng.uniform(0.03, 0.10)),
        # Where most grains are empty they are as large as full ones; single ones are small.
        empty_size_ratio=float(
            rng.uniform(0.84, 1.04) if viable_fraction < 0.5 else rng.uniform(0.58, 0.98)
        ),
        touching_fraction=float(rng.beta(1.4, 1.8)),
        scale_bar=bool(rng.random() < 0.03),
        crop_xyxy_px=crop,
        canvas_level=0 if rng.random() < 0.75 else 244,
        stain=_draw_stain(rng, background),
        optics=_draw_optics(rng, diameter),
        background=background,
        debris=_draw_debris(rng, n_grains),
    )


def _pick(rng: np.random.Generator, table: tuple[tuple[RGB, float], ...]) -> np.ndarray:
    weights = np.array([weight for _, weight in table])
    return np.array(table[int(rng.choice(len(table), p=weights / weights.sum()))][0])


def _rgb(values: np.ndarray, low: float, high: float) -> RGB:
    red, green, blue = np.clip(values, low, high)
    return float(red), float(green), float(blue)


def _draw_diameter(rng: np.random.Generator) -> float:
    if rng.random() < 0.5:
        return float(np.clip(rng.normal(45.5, 3.5), 36.0, 56.0))
    return float(np.clip(rng.normal(82.0, 11.0), 56.0, 112.0))


def _draw_count(rng: np.random.Generator, width_px: int, height_px: int, diameter: float) -> int:
    """Draw the number of grains of a frame: often few, rarely many, sometimes zero."""
    if rng.random() < 0.13:
        return 0
    fields = width_px * height_px / 640.0**2
    median = (10.0 if diameter < 56.0 else 6.5) * fields
    most = 0.45 * width_px * height_px / diameter**2
    return int(np.clip(round(float(rng.lognormal(np.log(median), 0.75))), 1, max(most, 1.0)))


def _draw_viable_fraction(rng: np.random.Generator) -> float:
    kind = rng.random()
    if kind < 0.35:
        return 1.0
    if kind < 0.55:
        return float(rng.beta(0.7, 3.0))
    return float(rng.beta(5.0, 1.6))


def _draw_crop(rng: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    crop_width = int(width * rng.uniform(0.3, 0.95))
    crop_height = int(height * rng.uniform(0.3, 0.95))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _draw_background(rng: np.random.Generator) -> EmptySlide:
    level = float(np.clip(rng.normal(209.0, 19.0), 165.0, 246.0))
    tint = _pick(rng, _BACKGROUND_TINT) * rng.uniform(0.2, 1.5)
    return EmptySlide(
        rgb=_rgb(level + tint + rng.normal(0.0, 2.0, 3), 150.0, 252.0),
        gradient_levels=float(rng.gamma(1.5, 5.0)),
        vignette_levels=float(rng.gamma(1.2, 3.0)),
        mottle_levels=float(rng.gamma(1.5, 0.5)),
        rings=float(rng.gamma(1.0, 0.8)),
    )


def _draw_stain(rng: np.random.Generator, background: EmptySlide) -> Stain:
    brightness = sum(background.rgb) / 3.0 / 208.0
    viable = _pick(rng, _VIABLE_RGB) * brightness**0.5 * np.exp(rng.normal(0.0, 0.05))
    empty = _pick(rng, _NON_VIABLE_RGB) * brightness * np.exp(rng.normal(0.0, 0.05))
    group = _LOOK_GROUPS[int(rng.integers(len(_LOOK_GROUPS)))]
    looks = tuple(EmptyLook) if rng.random() < 0.25 else group
    return Stain(
        viable_rgb=_rgb(viable + rng.normal(0.0, (5.0, 5.0, 9.0)), 4.0, 200.0),
        viable_spread=float(rng.uniform(0.03, 0.15)),
        pale_share=float(rng.choice([0.0, 0.03, 0.15, 0.4], p=[0.45, 0.3, 0.17, 0.08])),
        non_viable_rgb=_rgb(empty + rng.normal(0.0, 6.0, 3), 30.0, 235.0),
        looks=looks,
        flecks=float(rng.choice([0.0, 0.3, 0.9], p=[0.4, 0.3, 0.3]) * rng.uniform(0.5, 1.1)),
        granularity=float(rng.uniform(0.15, 1.0)),
    )


def _draw_optics(rng: np.random.Generator, diameter: float) -> Optics:
    """Draw the optics: sharp frames show walls and halos, soft ones limbs and colour fringes."""
    focus = float(rng.beta(2.0, 1.2))
    scale = diameter / 60.0
    black_edge = rng.uniform(0.3, 1.0) if rng.random() < 0.15 else rng.uniform(0.0, 0.15)
    return Optics(
        blur_px=float(0.5 + (1.0 - focus) ** 2 * 2.2 * scale + 0.25 * (scale - 0.7)),
        defocus_spread_px=float(rng.gamma(1.2, 0.25) * scale),
        light_angle_deg=float(rng.normal(225.0, 70.0) % 360.0),
        limb=float(rng.uniform(0.2, 1.1)),
        black_edge=float(black_edge),
        halo=float(rng.uniform(0.1, 1.0) * (0.35 + 0.65 * focus)),
        exine=float(rng.uniform(0.2, 1.0) * (0.3 + 0.7 * focus)),
        fringe_px=float(rng.gamma(1.8, 0.8) * scale**0.5),
        sharpening=float(rng.uniform(0.2, 1.8)),
        noise_levels=float(np.clip(rng.gamma(4.0, 0.09), 0.1, 1.0)),
        jpeg_quality=int(rng.choice([90, 95, 95, 95, 98])),
    )


def _draw_debris(rng: np.random.Generator, n_grains: int) -> Debris:
    """Draw the debris of clean and of dirty slides; frames without grains show more of it."""
    dirt = float(rng.gamma(1.1, 1.0)) * (1.0 if n_grains else 1.6)

    def some(mean: float) -> float:
        return float(rng.gamma(0.7, mean / 0.7)) * dirt

    return Debris(
        flakes=some(1.2),
        clumps=some(0.3),
        smears=some(0.4),
        crystals=some(2.0),
        specks=some(16.0),
        bubbles=some(0.4),
        fibres=some(0.12),
        tissue=some(0.1),
        ghosts=some(6.0),
        dust=some(0.08),
    )
