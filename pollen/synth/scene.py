"""Rendering: from a spec and a seed to a picture and its truth.

The frame is composed in bands of rows, so memory beyond the 8-bit result stays bounded however
large the frame is; a patch is drawn when a band needs it, from a generator of its own, so the
bands don't change the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from pollen.arrays import AnyFloatArray, Pixels
from pollen.classes import GrainClass
from pollen.synth import camera, clear_debris, debris
from pollen.synth.empty import empty_patch
from pollen.synth.outlines import RadialOutline, empty_outline, full_outline
from pollen.synth.patch import Patch, multiply_into
from pollen.synth.placement import Box, place
from pollen.synth.spec import EmptyLook, FrameSpec
from pollen.synth.truth import (
    RenderedFrame,
    TrueGrain,
    clip_polygon,
    polygon_area,
    polygon_centroid,
)
from pollen.synth.viable import viable_patch

_BAND_PIXELS = 6_000_000
_TOUCHING_GAP_PX = 1.5

# Keeps the streams of a frame apart from a caller's own `default_rng(seed)`, from which the spec
# may have been drawn.
_DOMAIN = 0x706F6C6C
# Purposes of the random streams of one frame; a number once given is never reused, because
# that would change frames already rendered.
_LAYOUT, _BACKGROUND, _NOISE, _OBJECT = 0, 1, 2, 3

Artist = Callable[[np.random.Generator, tuple[float, float], FrameSpec], Patch]


@dataclass(frozen=True, slots=True)
class _SceneGrain:
    outline: RadialOutline
    grain_class: GrainClass
    look: EmptyLook | None


@dataclass(frozen=True, slots=True)
class _Object:
    """An object to draw: the rows that its patch can reach, and how to make it."""

    top: float
    bottom: float
    draw: Callable[[np.random.Generator], Patch]


def render(spec: FrameSpec, seed: int) -> RenderedFrame:
    """Render one frame with its exact truth.

    The same spec and seed give the same frame in every run on the same machine; truth does not
    depend on the machine.

    Args:
        spec: The looks of the frame.
        seed: Any non-negative number.
    """
    rng = _stream(seed, _LAYOUT)
    grains = _lay_out_grains(rng, spec)
    objects = [_grain_object(grain, spec) for grain in grains]
    objects += _lay_out_debris(rng, spec, grains)
    pixels = _paint(spec, seed, objects)
    return RenderedFrame(pixels, _truth(grains, spec), spec.pixel_size_um)


def _stream(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([_DOMAIN, seed, *purpose]))


def _visible_box(spec: FrameSpec) -> Box:
    x0, y0, x1, y1 = spec.visible_xyxy_px
    return float(x0), float(y0), float(x1), float(y1)


def _lay_out_grains(rng: np.random.Generator, spec: FrameSpec) -> list[_SceneGrain]:
    exact = spec.n_grains * spec.viable_fraction
    n_viable = int(exact) + int(rng.random() < exact - int(exact))
    is_viable = rng.permutation(np.arange(spec.n_grains) < n_viable)
    sizes = spec.grain_diameter_px * np.exp(rng.normal(0.0, spec.size_spread, spec.n_grains))
    drawn: list[_SceneGrain] = []
    for viable, size in zip(is_viable, sizes, strict=True):
        if viable:
            drawn.append(_SceneGrain(full_outline(rng, float(size)), GrainClass.VIABLE, None))
            continue
        look = spec.stain.looks[int(rng.integers(len(spec.stain.looks)))]
        smaller = float(size) * spec.empty_size_ratio * float(np.exp(rng.normal(0.0, 0.07)))
        drawn.append(_SceneGrain(empty_outline(rng, look, smaller), GrainClass.NON_VIABLE, look))
    placed = place(
        rng, [grain.outline for grain in drawn], _visible_box(spec), spec.touching_fraction
    )
    return [
        _SceneGrain(outline, drawn[index].grain_class, drawn[index].look)
        for index, outline in sorted(placed.items())
    ]


def _grain_object(grain: _SceneGrain, spec: FrameSpec) -> _Object:
    outline = grain.outline
    # Halo and blur reach beyond the outline: see the margins in viable.py and empty.py.
    reach = 1.3 * outline.reach_px + 12.0 * spec.optics.defocus_spread_px + 30.0

    def draw(rng: np.random.Generator) -> Patch:
        if grain.look is None:
            return viable_patch(rng, outline, spec)
        return empty_patch(rng, outline, grain.look, spec)

    return _Object(outline.y - reach, outline.y + reach, draw)


def _lay_out_debris(
    rng: np.random.Generator, spec: FrameSpec, grains: list[_SceneGrain]
) -> list[_Object]:
    """Place all debris; debris that could hide a grain keeps off the grains."""
    wanted: list[tuple[Artist, float, float]] = [
        (clear_debris.diffraction_rings, spec.background.rings, 0.0),
        (clear_debris.dust, spec.debris.dust, 0.0),
        (clear_debris.ghost_spot, spec.debris.ghosts, 0.0),
        (clear_debris.tissue, spec.debris.tissue, 0.6),
        (clear_debris.fibre, spec.debris.fibres, 0.0),
        (debris.smear, spec.debris.smears, 0.3),
        (debris.flake, spec.debris.flakes * 0.7, 0.9),
        (debris.shred, spec.debris.flakes * 0.3, 0.9),
        (debris.clump, spec.debris.clumps, 1.0),
        (clear_debris.crystal, spec.debris.crystals, 0.6),
        (clear_debris.bubble, spec.debris.bubbles, 1.2),
        (clear_debris.speck, spec.debris.specks, 0.0),
    ]
    centres = np.array([(g.outline.x, g.outline.y) for g in grains]).reshape(-1, 2)
    objects = []
    for artist, expected, clearance in wanted:
        for _ in range(rng.poisson(expected * spec.fields_of_view)):
            centre = _free_spot(rng, spec, centres, clearance * spec.grain_diameter_px)
            if centre is not None:
                objects.append(_debris_object(artist, centre, spec))
    return objects


def _free_spot(
    rng: np.random.Generator, spec: FrameSpec, centres: np.ndarray, clearance_px: float
) -> tuple[float, float] | None:
    x0, y0, x1, y1 = spec.visible_xyxy_px
    for _ in range(8):
        spot = rng.uniform(x0 - 10, x1 + 10), rng.uniform(y0 - 10, y1 + 10)
        if clearance_px == 0.0 or len(centres) == 0:
            return spot
        nearest = np.square(centres - spot).sum(axis=1).min()
        if nearest > clearance_px**2:
            return spot
    return None


def _debris_object(artist: Artist, centre: tuple[float, float], spec: FrameSpec) -> _Object:
    reach = _DEBRIS_REACH.get(artist, 5.0) * spec.grain_diameter_px + 40.0
    return _Object(
        centre[1] - reach,
        centre[1] + reach,
        partial(_drawn, artist=artist, centre=centre, spec=spec),
    )


def _drawn(
    rng: np.random.Generator, artist: Artist, centre: tuple[float, float], spec: FrameSpec
) -> Patch:
    return artist(rng, centre, spec)


#: How far debris can reach from its centre, in grain diameters (5 where not listed).
_DEBRIS_REACH: dict[Artist, float] = {clear_debris.fibre: 12.0, clear_debris.speck: 0.5}


def _paint(spec: FrameSpec, seed: int, objects: list[_Object]) -> Pixels:
    coarse = camera.coarse_background(_stream(seed, _BACKGROUND), spec)
    pixels = np.empty((spec.height_px, spec.width_px, 3), np.uint8)
    margin = camera.optics_margin_px(spec.optics)
    cache: dict[int, Patch] = {}
    for number, (first, last) in enumerate(_bands(spec)):
        top, bottom = max(0, first - margin), min(spec.height_px, last + margin)
        light = camera.background_rows(coarse, spec.width_px, top, bottom)
        _draw_objects(light, top, objects, cache, seed)
        light = camera.expose(light, spec.optics)[first - top : last - top]
        band = camera.digitise(_stream(seed, _NOISE, number), light, spec.optics)
        pixels[first:last] = _finish(band, spec, first)
    if spec.scale_bar:
        camera.burn_scale_bar(pixels, spec)
    return pixels


def _bands(spec: FrameSpec) -> Iterator[tuple[int, int]]:
    """Yield row ranges of at most about 6 million pixels, whole JPEG blocks each."""
    rows = max(64, _BAND_PIXELS // spec.width_px // 16 * 16)
    for first in range(0, spec.height_px, rows):
        yield first, min(first + rows, spec.height_px)


def _draw_objects(
    light: AnyFloatArray, top: int, objects: list[_Object], cache: dict[int, Patch], seed: int
) -> None:
    """Draw what reaches into the band; patches that reach beyond it are kept for the next."""
    bottom = top + light.shape[0]
    for index, item in enumerate(objects):
        if item.bottom < top or item.top > bottom:
            cache.pop(index, None)
            continue
        patch = cache.pop(index, None) or item.draw(_stream(seed, _OBJECT, index))
        multiply_into(light, patch, first_row=top)
        if item.bottom > bottom - 64:
            cache[index] = patch


def _finish(band: Pixels, spec: FrameSpec, first: int) -> Pixels:
    """Put a plain canvas around a cropped picture, then apply JPEG."""
    x0, y0, x1, y1 = spec.visible_xyxy_px
    if spec.crop_xyxy_px is not None:
        canvas = np.full_like(band, spec.canvas_level)
        rows = slice(max(0, y0 - first), max(0, y1 - first))
        canvas[rows, x0:x1] = band[rows, x0:x1]
        band = canvas
    if spec.optics.jpeg_quality is not None:
        band = camera.jpeg_round_trip(band, spec.optics.jpeg_quality)
    return band


def _truth(grains: list[_SceneGrain], spec: FrameSpec) -> tuple[TrueGrain, ...]:
    box = _visible_box(spec)
    touching = _touching(grains)
    truth = []
    for index, grain in enumerate(grains):
        polygon = clip_polygon(grain.outline.polygon, box)
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        truth.append(
            TrueGrain(
                grain_class=grain.grain_class,
                centre_px=polygon_centroid(polygon),
                box_xyxy=(float(low[0]), float(low[1]), float(high[0]), float(high[1])),
                area_px=polygon_area(polygon),
                polygon=polygon,
                touching=index in touching,
                cut=polygon is not grain.outline.polygon,
            )
        )
    return tuple(truth)


def _touching(grains: list[_SceneGrain]) -> set[int]:
    """Return the positions of the grains whose outline meets another one's."""
    found: set[int] = set()
    order = sorted(range(len(grains)), key=lambda index: grains[index].outline.x)
    widest = max((grain.outline.reach_px for grain in grains), default=0.0)
    for rank, i in enumerate(order):
        a = grains[i].outline
        for j in order[rank + 1 :]:
            b = grains[j].outline
            if b.x - a.x > a.reach_px + widest + _TOUCHING_GAP_PX:
                break
            if abs(b.y - a.y) > a.reach_px + b.reach_px + _TOUCHING_GAP_PX:
                continue
            if a.gap_px(b) <= _TOUCHING_GAP_PX:
                found.update((i, j))
    return found
