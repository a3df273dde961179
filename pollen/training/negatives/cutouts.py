"""Debris cut from pictures of it: what may be pasted, and what looks too much like a grain.

Pictures of debris are photographs of any size: a crop around a flake, a whole frame, a cutout on
white. Transparent parts were put over white when the picture was read (`pollen.frames`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray, Pixels
from pollen.training.collage import (
    Cutout,
    Outline,
    content_box,
    cut_out,
    fill_outlines,
    smooth_background,
)

Sides = tuple[tuple[int, int], ...]
"""Sides of a picture as outward directions ``x, y``: ``(-1, 0)`` left, ``(0, 1)`` bottom."""

AREA_PX: Final = (60, 250_000)
"""Smallest and largest area of a piece, square pixels."""
CONTRAST: Final = 0.06
"""A piece starts where some channel differs from the light by this fraction: lower than for debris
among grains, because the faint rim of a flake must not be cut off."""
MOST_BLURRED: Final = 0.12
"""Padding ends within this part of the picture's side, in a strongly compressed JPEG too; the box of
a round object holds more of its ground."""
QUIET: Final = (0.015, 0.06)
"""Differences from the light below the first are none, above the second are the object's."""
SMALLEST_GRAIN_PX: Final = 16.0
"""Round pieces below this diameter are specks, whatever they look like."""


@dataclass(frozen=True)
class Piece:
    """A piece of debris.

    Attributes:
        cutout: What it looks like.
        cut_sides: Where the border of its picture cuts it; such a piece belongs at a border.
        source: Name of the picture it comes from.
    """

    cutout: Cutout
    cut_sides: Sides
    source: str


def find_pieces(name: str, pixels: Pixels) -> list[Piece]:
    """Cut the debris from a picture of debris.

    Left out: what looks like a grain, what two opposite sides of the picture cut, scale bars, crops.

    Args:
        name: Name of the picture.
        pixels: `(H, W, 3)` RGB.
    """
    x0, y0, x1, y1 = inner_box(pixels)
    content = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    light = light_behind(content)
    shape = (content.shape[0], content.shape[1])
    nothing = (content == 255).all(axis=2).astype(np.uint8)
    outlines = outline_objects(content, light, nothing)
    pieces = []
    for number, outline in enumerate(outlines):
        sides = cut_sides(outline, shape)
        if len(sides) > 2 or any((-x, -y) in sides for x, y in sides):
            continue
        rest = outlines[:number] + outlines[number + 1 :]
        cutout = quietened(cut_out(content, light, outline, rest, feather_px=2.5))
        if not (looks_like_grain(cutout, sides) or _is_no_object(cutout)):
            pieces.append(Piece(cutout, sides, name))
    return pieces


def inner_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Return the box of the picture proper on plain padding, without the padding's blurred edge.

    An object on a plain ground is no padded picture: there the whole is the picture.

    Args:
        pixels: `(H, W, 3)` RGB.

    Returns:
        `x0, y0, x1, y1`.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = content_box(pixels)
    differs = np.abs(pixels.astype(np.int16) - pixels[0, 0].astype(np.int16)).max(axis=2) > 4
    columns = differs[y0:y1].mean(axis=0) > 0.8
    rows = differs[:, x0:x1].mean(axis=1) > 0.8
    left, right = _first_and_last(columns, x0, x1)
    top, bottom = _first_and_last(rows, y0, y1)
    blurred_x = max(left - x0, x1 - right) / (x1 - x0)
    blurred_y = max(top - y0, y1 - bottom) / (y1 - y0)
    if min(right - left, bottom - top) < 8 or max(blurred_x, blurred_y) > MOST_BLURRED:
        return 0, 0, width, height
    return (
        left + 2 * (left > 0),
        top + 2 * (top > 0),
        right - 2 * (right < width),
        bottom - 2 * (bottom < height),
    )


def _first_and_last(is_content: NDArray[np.bool_], start: int, end: int) -> tuple[int, int]:
    """Return the range of content lines; a side at the border of the picture stays there."""
    found = np.flatnonzero(is_content)
    if not found.size:
        return 0, 0
    first = 0 if start == 0 else int(found[0])
    return first, len(is_content) if end == len(is_content) else int(found[-1]) + 1


def light_behind(pixels: Pixels) -> FloatArray:
    """Return the light without the debris, `(H, W, 3)`, whatever share of the picture debris covers.

    The ground is where it is bright and even. A picture without such a place is debris cut out
    closely, on white where it was transparent.
    """
    white = (pixels == 255).all(axis=2)
    rest = ~white if not white.all() else white
    green = pixels[..., 1].astype(np.float32)
    even = _deviation(green) < 3
    bright = green >= 0.85 * float(np.percentile(green[rest], 95))
    ground = rest & even & bright
    if ground.sum() < 0.1 * rest.sum():
        level = np.percentile(pixels[rest], 95, axis=0) if white.mean() < 0.05 else np.full(3, 255)
        return np.broadcast_to(level, pixels.shape).astype(np.float32)
    light = np.broadcast_to(np.median(pixels[ground], axis=0), pixels.shape).astype(np.float32)
    for threshold in (0.12, CONTRAST):
        objects = (_contrast(pixels, light) > threshold) | white
        hidden = cv2.dilate(objects.astype(np.uint8), np.ones((9, 9), np.uint8))
        if hidden.all():
            break
        light = smooth_background(pixels, np.asarray(hidden, np.uint8))
    return light


def quietened(cutout: Cutout) -> Cutout:
    """Return the cutout without the traces of its old background around the object.

    Differences as small as the noise or an error of the estimated light would show as a pale patch
    on the new background.
    """
    soft = cv2.GaussianBlur(cutout.transmittance, (0, 0), 1.5)
    low, high = QUIET
    weight = np.clip((np.abs(soft - 1).max(axis=2) - low) / (high - low), 0, 1)
    # The inside of a pale object stays as it is: only the rim is faded.
    inside = fill_outlines((weight.shape[0], weight.shape[1]), [cutout.outline])
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3) / 4
    weight = np.maximum(weight * weight * (3 - 2 * weight), np.clip(deep, 0, 1))
    return replace(cutout, alpha=np.asarray(cutout.alpha * weight, np.float32))


def looks_like_grain(cutout: Cutout, cut_sides: Sides = ()) -> bool:
    """Return whether a person might take the object for a grain: round and without a bay.

    Air bubbles are round too; their black, colourless ring tells them.

    Args:
        cutout: The object.
        cut_sides: Where the border of its picture cuts it; then its whole shape is unknown.
    """
    outline = cutout.outline
    if outline.diameter_px < SMALLEST_GRAIN_PX:
        return False
    hull_px = float(cv2.contourArea(cv2.convexHull(outline.points)))
    (_, (width, height), _) = cv2.minAreaRect(outline.points)
    is_long = min(width, height) < 0.65 * max(width, height)
    if cut_sides:
        is_long = len(cut_sides) == 1 and _reach_inwards(outline, cut_sides[0]) > 1.4
    has_bays = outline.area_px < (0.8 if cut_sides else 0.88) * hull_px
    return not (has_bays or is_long or _is_bubble(cutout))


def _reach_inwards(outline: Outline, side: tuple[int, int]) -> float:
    """Return the distance that an object reaches into the picture, as a multiple of its extent along the side."""
    x0, y0, x1, y1 = outline.box
    return (x1 - x0) / (y1 - y0) if side[0] else (y1 - y0) / (x1 - x0)


def _through(cutout: Cutout) -> FloatArray:
    """Return the transmittance inside the object, `(N, 3)`."""
    shape = (cutout.alpha.shape[0], cutout.alpha.shape[1])
    return cutout.transmittance[fill_outlines(shape, [cutout.outline]) > 0]


def _is_no_object(cutout: Cutout) -> bool:
    """Return whether it is part of a scale bar or its text, or a crop on a canvas, which no slide shows."""
    through = _through(cutout).max(axis=1)
    dark = through[through < 0.6]
    is_ink = dark.size > 0.15 * through.size and float(np.median(dark)) < 0.1
    x0, y0, x1, y1 = cutout.outline.box
    is_crop = cutout.outline.area_px > 0.93 * (x1 - x0) * (y1 - y0) > 400
    return is_ink or is_crop


def _is_bubble(cutout: Cutout) -> bool:
    through = _through(cutout)
    darkest = through[through[:, 1] <= np.percentile(through[:, 1], 10)].mean(axis=0)
    return bool(darkest.max() < 0.45 and np.ptp(np.median(through, axis=0)) < 0.1)


def _contrast(pixels: Pixels, light: FloatArray) -> FloatArray:
    """Return the largest relative difference of any channel from the light, `(H, W)`, without the noise."""
    soft = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.2)
    return np.asarray(np.abs(soft / np.maximum(light, 1) - 1).max(axis=2), np.float32)


def _deviation(channel: FloatArray) -> FloatArray:
    """Return the standard deviation within 7 x 7 pixels, grey levels."""
    mean = cv2.blur(channel, (7, 7))
    square = cv2.blur(channel * channel, (7, 7))
    return np.asarray(np.sqrt(np.maximum(square - mean * mean, 0)), np.float32)


def outline_objects(pixels: Pixels, light: FloatArray, ignored: Pixels) -> list[Outline]:
    """Outline what stands out from the light, also where the border cuts it.

    Args:
        pixels: `(H, W, 3)` RGB.
        light: `(H, W, 3)` light without objects.
        ignored: `(H, W)`, non-zero in the parts to ignore.
    """
    mask = (_contrast(pixels, light) > CONTRAST).astype(np.uint8)
    mask[ignored > 0] = 0
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    least, most = AREA_PX
    return [
        Outline(-1, contour[:, 0, :].astype(np.float32) + np.float32(0.5))
        for contour in contours
        if len(contour) > 4 and least <= cv2.contourArea(contour) <= most
    ]


def cut_sides(outline: Outline, shape: tuple[int, int]) -> Sides:
    """Return the sides of a picture of `shape` (height, width) that cut an object, see `Piece`."""
    left, top, right, bottom = outline.box
    touches = {
        (-1, 0): left <= 3,
        (0, -1): top <= 3,
        (1, 0): right >= shape[1] - 3,
        (0, 1): bottom >= shape[0] - 3,
    }
    return tuple(side for side, is_cut in touches.items() if is_cut)


def pieces_of(name: str, cutouts: Sequence[Cutout]) -> list[Piece]:
    """Return debris that was cut out of a frame with grains and that its border does not cut."""
    kept = map(quietened, cutouts)
    return [Piece(cutout, (), name) for cutout in kept if not looks_like_grain(cutout)]
