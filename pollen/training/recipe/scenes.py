"""Training scenes, made anew for every step: real pictures, collages, rendered frames.

Scene `i` of a seed is always the same picture, whatever worker makes it, so a training that was
killed goes on with exactly the scenes it would have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray, Pixels
from pollen.classes import GrainClass
from pollen.training.collage import (
    Cutout,
    Outline,
    clip_to_canvas,
    content_box,
    cut_debris,
    cut_grains,
    fill_outlines,
    paste,
    pixel_affine,
    placement,
    smooth_background,
)
from pollen.training.examples import Example

SLIVER_PX: Final = 5.0
"""A grain cut by the border counts when at least this much of it shows, picture pixels; the labels
go down to 4.5."""
GRAIN_DIAMETER_PX: Final = (28.0, 125.0)
"""Diameters to train for, picture pixels."""


@dataclass(frozen=True)
class SceneMix:
    """The mix of scenes; weights need not add up to 1.

    Attributes:
        real: Weight of real pictures.
        collage: Weight of real pictures with more grains and debris pasted in.
        blank: Weight of real backgrounds with pasted grains and debris only.
        rendered: Weight of rendered frames.
        mosaic: Share of scenes put together from four.
        zoom: Largest factor by which a scene is enlarged or reduced at random.
        free_turn: Share of scenes turned by any angle instead of quarter turns.
        colour: Strength of the random changes of light, 1 for the usual.
        hard: Share of pasted non-viable grains chosen as the darkest of three, the one most like
            a viable grain.
    """

    real: float = 1.0
    collage: float = 0.0
    blank: float = 0.0
    rendered: float = 0.0
    mosaic: float = 0.0
    zoom: float = 1.5
    free_turn: float = 0.4
    colour: float = 1.0
    hard: float = 0.0


@dataclass(frozen=True)
class Stock:
    """A picture prepared for scenes.

    Attributes:
        picture: The labelled picture.
        half: It at half size.
        background: It without grains and debris.
        grains: Grains cut out.
        debris: Debris cut out.
        typical_px: Median diameter of its viable grains inside; 0 when there is none.
    """

    picture: Example
    half: Pixels
    background: Pixels
    grains: tuple[Cutout, ...]
    debris: tuple[Cutout, ...]
    typical_px: float


def prepare(picture: Example) -> Stock:
    """Cut one picture up."""
    pixels, outlines = picture.pixels, picture.outlines
    shape = (pixels.shape[0], pixels.shape[1])
    hidden = cv2.dilate(fill_outlines(shape, outlines), np.ones((9, 9), np.uint8))
    x0, y0, x1, y1 = content_box(pixels)
    padding = np.ones(shape, np.uint8)
    padding[y0:y1, x0:x1] = 0
    light = smooth_background(pixels, np.maximum(hidden, padding))
    contrast = np.abs(pixels.astype(np.float32) / np.maximum(light, 1) - 1).max(axis=2)
    objects = cv2.dilate((contrast > 0.1).astype(np.uint8), np.ones((7, 7), np.uint8))
    light = smooth_background(pixels, np.maximum(np.maximum(hidden, padding), objects))
    grains = tuple(cut_grains(pixels, light, outlines))
    viable = [cut.outline.diameter_px for cut in grains if cut.outline.grain_class == 0]
    size = (shape[1] // 2, shape[0] // 2)
    return Stock(
        picture=picture,
        half=np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8),
        background=np.clip(light, 0, 255).astype(np.uint8),
        grains=grains,
        debris=tuple(cut_debris(pixels, light, outlines)),
        typical_px=float(np.median(viable)) if viable else 0.0,
    )


@dataclass(frozen=True)
class _Grain:
    """A grain to paste, the size of a typical grain where it comes from, and its brightness."""

    cutout: Cutout
    typical_px: float
    brightness: float


@dataclass(frozen=True)
class _Layer:
    """A scene while it is made: canvas, outlines, and the size of a typical grain on it."""

    canvas: FloatArray
    outlines: list[Outline]
    typical_px: float


@dataclass(frozen=True)
class SceneMaker:
    """Makes scene after scene from prepared pictures.

    Attributes:
        real: Prepared real pictures.
        rendered: Rendered frames, labelled.
        mix: What scenes are made of.
        side_px: Side of a scene.
        scale: Scene pixels per picture pixel (the working scale).
        seed: Start of all randomness.
    """

    real: Sequence[Stock]
    rendered: Sequence[Example]
    mix: SceneMix
    side_px: int
    scale: float
    seed: int
    _grains: tuple[tuple["_Grain", ...], ...] = field(init=False)
    _debris: tuple[Cutout, ...] = field(init=False)

    def __post_init__(self) -> None:
        pools: tuple[list[_Grain], ...] = ([], [])
        for stock in self.real:
            for cut in stock.grains:
                grain = _Grain(cut, stock.typical_px, cut.brightness)
                pools[cut.outline.grain_class].append(grain)
        object.__setattr__(self, "_grains", tuple(tuple(pool) for pool in pools))
        object.__setattr__(self, "_debris", tuple(c for s in self.real for c in s.debris))

    def make(self, number: int) -> Example:
        """Return scene `number`: the same for the same seed, mix and pictures."""
        rng = np.random.default_rng([self.seed, number])
        make = self._mosaic if rng.random() < self.mix.mosaic else self._single
        scene = make(rng)
        return Example(change_light(scene.pixels, rng, self.mix.colour), scene.outlines)

    def _single(self, rng: np.random.Generator) -> Example:
        mix = self.mix
        weights = np.array([mix.real, mix.collage, mix.blank, mix.rendered], np.float64)
        if not self.rendered:
            weights[3] = 0
        kind = rng.choice(4, p=weights / weights.sum())
        if kind == 3:
            picture = self.rendered[int(rng.integers(len(self.rendered)))]
            layer = self._view(picture, None, 0.0, rng)
        else:
            stock = self.real[int(rng.integers(len(self.real)))]
            layer = self._view(stock.picture, stock, stock.typical_px, rng, blank=kind == 2)
            if kind > 0:
                self._add_grains(layer, int(rng.integers(2, 14 if kind == 2 else 8)), rng)
            self._add_debris(layer, int(rng.integers(0, 3 if kind == 0 else 6)), rng)
        pixels = np.clip(np.round(layer.canvas), 0, 255).astype(np.uint8)
        return Example(pixels, self._visible(layer.outlines))

    def _view(
        self,
        picture: Example,
        stock: Stock | None,
        typical_px: float,
        rng: np.random.Generator,
        *,
        blank: bool = False,
    ) -> _Layer:
        """Return a random view of a picture: zoomed, turned, flipped and shifted."""
        zoom = float(np.exp(rng.uniform(-1, 1) * np.log(self.mix.zoom)))
        if typical_px:
            low, high = (limit / typical_px for limit in GRAIN_DIAMETER_PX)
            zoom = float(np.clip(zoom, low, max(high, low)))
        scale = self.scale * zoom
        height, width = picture.pixels.shape[:2]
        quarter = float(rng.integers(4)) * 90
        angle = rng.uniform(0, 360) if rng.random() < self.mix.free_turn else quarter
        turn = np.deg2rad(angle)
        linear = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        if rng.random() < 0.5:
            linear[:, 0] *= -1
        affine = self._shifted(linear, (width, height), picture.outlines, rng)
        source, step = picture.pixels, 1.0
        if blank and stock is not None:
            source = stock.background
        elif stock is not None and scale <= 0.6:
            source, step = stock.half, 2.0
        fill = self._fill_colour(picture.pixels, rng)
        size = (self.side_px, self.side_px)
        warp = pixel_affine(affine, step)
        canvas = cv2.warpAffine(source, warp, size, flags=cv2.INTER_LINEAR, borderValue=fill)
        outlines = [] if blank else [outline.moved(affine) for outline in picture.outlines]
        return _Layer(canvas.astype(np.float32), outlines, (typical_px or 60.0) * scale)

    def _shifted(
        self,
        linear: NDArray[np.float64],
        size_px: tuple[int, int],
        outlines: Sequence[Outline],
        rng: np.random.Generator,
    ) -> NDArray[np.float64]:
        """Complete a view with a shift: a larger one is cropped, a smaller one put anywhere.

        Most crops are laid so that a grain is in them; else sparse pictures would give mostly
        empty scenes.
        """
        middle = np.array(size_px) / 2
        reach = np.abs(np.abs(linear) @ np.array(size_px) - self.side_px) / 2
        offset = rng.uniform(-1, 1, 2) * reach
        if outlines and rng.random() < 0.6:
            grain = outlines[int(rng.integers(len(outlines)))].points.mean(axis=0)
            wanted = (rng.uniform(0.05, 0.95, 2) - 0.5) * self.side_px
            offset = np.clip(wanted - linear @ (grain - middle), -reach, reach)
        return np.column_stack([linear, self.side_px / 2 + offset - linear @ middle])

    @staticmethod
    def _fill_colour(pixels: Pixels, rng: np.random.Generator) -> tuple[float, float, float]:
        choice = rng.integers(4)
        if choice == 0:
            return (0.0, 0.0, 0.0)
        if choice == 1:
            return (114.0, 114.0, 114.0)
        red, green, blue = np.median(pixels[::16, ::16].reshape(-1, 3), axis=0)
        return (float(red), float(green), float(blue))

    def _add_grains(self, layer: _Layer, count: int, rng: np.random.Generator) -> None:
        """Paste grains, half of them against one that is there, so that they touch."""
        taken = fill_outlines((self.side_px, self.side_px), layer.outlines)
        for _ in range(count):
            grain = self._pick_grain(rng)
            cut = grain.cutout
            scale = layer.typical_px / (grain.typical_px or 60.0) * rng.uniform(0.9, 1.1)
            radius = cut.outline.diameter_px * scale / 2
            centre = self._grain_place(layer.outlines, radius, rng)
            turn, mirrored = rng.uniform(0, 360), bool(rng.random() < 0.5)
            affine = placement(cut, centre, scale, turn, mirrored)
            own = fill_outlines(taken.shape, [cut.outline.moved(affine)])
            hides = (own & taken).sum() > 0.12 * max(own.sum(), 1)
            if hides or _is_dark(layer.canvas, own):
                continue
            layer.outlines.append(paste(layer.canvas, cut, affine))
            taken |= own

    def _pick_grain(self, rng: np.random.Generator) -> "_Grain":
        pool = self._grains[int(rng.random() < 0.5)] or self._grains[0] or self._grains[1]
        chosen = [pool[int(number)] for number in rng.integers(len(pool), size=3)]
        viable = chosen[0].cutout.outline.grain_class == GrainClass.VIABLE
        if viable or rng.random() >= self.mix.hard:
            return chosen[0]
        return min(chosen, key=lambda grain: grain.brightness)

    def _grain_place(
        self, outlines: Sequence[Outline], radius_px: float, rng: np.random.Generator
    ) -> tuple[float, float]:
        if outlines and rng.random() < 0.6:
            neighbour = outlines[int(rng.integers(len(outlines)))]
            x0, y0, x1, y1 = neighbour.box
            reach = (neighbour.diameter_px / 2 + radius_px) * rng.uniform(0.93, 1.08)
            turn = rng.uniform(0, 2 * np.pi)
            x, y = (x0 + x1) / 2 + reach * np.cos(turn), (y0 + y1) / 2 + reach * np.sin(turn)
            return float(x), float(y)
        x, y = rng.uniform(-0.6 * radius_px, self.side_px + 0.6 * radius_px, 2)
        return float(x), float(y)

    def _add_debris(self, layer: _Layer, count: int, rng: np.random.Generator) -> None:
        """Paste debris, stretched and turned, where it hides little of any grain."""
        if not self._debris:
            return
        taken = fill_outlines((self.side_px, self.side_px), layer.outlines)
        for _ in range(count):
            cut = self._debris[int(rng.integers(len(self._debris)))]
            size = self.scale * np.exp(rng.uniform(-0.3, 0.5))
            stretch = size * np.exp(rng.uniform(-0.4, 0.4, 2))
            x, y = rng.uniform(0, self.side_px, 2)
            scale = (float(stretch[0]), float(stretch[1]))
            turn, mirrored = rng.uniform(0, 360), bool(rng.random() < 0.5)
            affine = placement(cut, (float(x), float(y)), scale, turn, mirrored)
            own = fill_outlines(taken.shape, [cut.outline.moved(affine)])
            if (own & taken).sum() <= 0.1 * own.sum():
                paste(layer.canvas, cut, affine)

    def _visible(self, outlines: Sequence[Outline]) -> tuple[Outline, ...]:
        """Return the outlines clipped to the scene, without those of which too little shows."""
        least = SLIVER_PX * self.scale
        clipped = (clip_to_canvas(outline, self.side_px, self.side_px) for outline in outlines)
        kept = []
        for outline in clipped:
            if outline is None:
                continue
            x0, y0, x1, y1 = outline.box
            if min(x1 - x0, y1 - y0) >= least and outline.area_px >= least**2:
                kept.append(outline)
        return tuple(kept)

    def _mosaic(self, rng: np.random.Generator) -> Example:
        """Return four scenes around a random middle, each cropped to its quarter."""
        side = self.side_px
        middle = rng.integers(int(0.3 * side), int(0.7 * side), 2)
        canvas = np.empty((side, side, 3), np.uint8)
        outlines: list[Outline] = []
        for column, row in ((0, 0), (1, 0), (0, 1), (1, 1)):
            scene = self._single(rng)
            left, right = (0, int(middle[0])) if column == 0 else (int(middle[0]), side)
            top, bottom = (0, int(middle[1])) if row == 0 else (int(middle[1]), side)
            width, height = right - left, bottom - top
            x, y = int(rng.integers(side - width + 1)), int(rng.integers(side - height + 1))
            canvas[top:bottom, left:right] = scene.pixels[y : y + height, x : x + width]
            into_window = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
            into_canvas = np.array([[1, 0, left], [0, 1, top]], np.float64)
            for outline in scene.outlines:
                part = clip_to_canvas(outline.moved(into_window), width, height)
                if part is not None:
                    outlines.append(part.moved(into_canvas))
        return Example(canvas, self._visible(outlines))


def _is_dark(canvas: FloatArray, mask: Pixels) -> bool:
    """Return whether what is under a mask lets too little light through for a grain to show."""
    under = canvas[mask > 0]
    return bool(under.size) and float(np.percentile(under, 20)) < 100


def change_light(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Vary exposure, gamma, white balance, stain strength, focus, noise and compression a little.

    Hue is hardly touched: colour is what tells viable from non-viable.
    """
    if strength <= 0:
        return pixels
    levels = np.arange(256, dtype=np.float32) / 255
    gamma = np.exp(rng.uniform(-0.15, 0.15) * strength)
    gains = np.exp(rng.uniform(-0.13, 0.13) * strength + rng.uniform(-0.04, 0.04, 3) * strength)
    table = np.clip(255 * gains[None, :] * levels[:, None] ** gamma, 0, 255).astype(np.uint8)
    image: NDArray[np.uint8] = np.asarray(cv2.LUT(pixels, table[:, None, :].transpose(1, 0, 2)))
    if rng.random() < 0.7:
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        amount = 1 + rng.uniform(-0.25, 0.25) * strength
        image = np.asarray(cv2.addWeighted(image, amount, grey, 1 - amount, 0), np.uint8)
    if rng.random() < 0.25 * strength:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.2)), np.uint8)
    if rng.random() < 0.25 * strength:
        noise = rng.normal(0, rng.uniform(0.5, 4), image.shape)
        image = np.clip(image + noise, 0, 255).astype(np.uint8)
    if rng.random() < 0.15 * strength:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(60, 96))]
        coded = cv2.imencode(".jpg", image, quality)[1]
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    return image
