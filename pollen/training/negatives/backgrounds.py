"""Backgrounds taken from real frames: the frame itself, with the grains taken out."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from pollen.arrays import FloatArray, Pixels
from pollen.training.collage import (
    Outline,
    cut_debris,
    cut_out,
    draw_outline,
    fill_outlines,
    smooth_background,
)
from pollen.training.negatives.cutouts import (
    Piece,
    cut_sides,
    inner_box,
    looks_like_grain,
    outline_objects,
    pieces_of,
)

MOST_COVERED: Final = 0.5
"""A frame that grains hide more than this of is no background."""
SLIVER_PX: Final = 40
"""A grain cut by the border is covered if less than this of it shows, pixels."""
MOST_TOUCHING_PX: Final = 6_000
"""Largest thing touching a grain that is covered with it, square pixels; a larger one, such as a
bubble or a sheet of tissue, would end in the middle of nothing."""
BORDER_PX: Final = 4
"""Left out all around: padding does not end sharply in a JPEG."""
LEAST_SAMPLE_PX: Final = 24
"""Side of the smallest empty square from which a frame's noise can be taken, pixels."""


def light_of(pixels: Pixels, grains: Sequence[Outline]) -> FloatArray:
    """Return the light of a frame without its grains and debris, `(H, W, 3)`."""
    hidden = _around(grains, pixels)
    light = smooth_background(pixels, hidden)
    contrast = np.abs(pixels.astype(np.float32) / np.maximum(light, 1) - 1).max(axis=2)
    objects = cv2.dilate((contrast > 0.06).astype(np.uint8), np.ones((7, 7), np.uint8))
    return smooth_background(pixels, np.maximum(hidden, objects))


def content_of(pixels: Pixels, grains: Sequence[Outline]) -> tuple[Pixels, tuple[Outline, ...]]:
    """Return a frame and its grains without plain padding around."""
    x0, y0, x1, y1 = inner_box(pixels)
    x0, y0 = x0 + BORDER_PX, y0 + BORDER_PX
    x1, y1 = max(x1 - BORDER_PX, x0 + 1), max(y1 - BORDER_PX, y0 + 1)
    shift = np.array([[1, 0, -x0], [0, 1, -y0]], np.float64)
    return np.ascontiguousarray(pixels[y0:y1, x0:x1]), tuple(g.moved(shift) for g in grains)


def window_of(
    pixels: Pixels, grains: Sequence[Outline], side_px: int, rng: np.random.Generator
) -> tuple[Pixels, list[Outline]]:
    """Return a random part of a frame, at most `side_px` wide and high, with the grains that show in it.

    A whole slide always has something somewhere that makes it no background.
    """
    height, width = pixels.shape[:2]
    x, y = (int(rng.integers(max(extent - side_px, 0) + 1)) for extent in (width, height))
    shift = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
    shown = []
    for grain in grains:
        x0, y0, x1, y1 = grain.box
        if x0 < x + side_px and y0 < y + side_px and x1 > x and y1 > y:
            shown.append(grain.moved(shift))
    return pixels[y : y + side_px, x : x + side_px], shown


def empty_frame(pixels: Pixels, grains: Sequence[Outline], least_px: int) -> Pixels | None:
    """Return a frame with its grains covered by its own light and noise.

    Dust and flakes stay where they are; round things that nobody labelled are covered too, since a
    person might call them grains.

    Args:
        pixels: `(H, W, 3)` RGB.
        grains: The labelled grains, in pixels.
        least_px: Smallest side of a background, pixels.

    Returns:
        `(h, w, 3)` RGB without plain padding; None if the frame is too small, too full or
        nowhere empty.
    """
    pixels, grains = content_of(pixels, grains)
    shape = (pixels.shape[0], pixels.shape[1])
    if min(shape) < least_px:
        return None
    light = light_of(pixels, grains)
    hidden = _hidden(pixels, light, grains)
    noise = None if hidden is None else _noise(pixels, light, hidden)
    if hidden is None or noise is None:
        return None
    soft = cv2.GaussianBlur(hidden.astype(np.float32), (0, 0), 3)
    # Only what is outside the mask may fade: nothing of a grain shines through.
    weight = np.maximum(soft, hidden.astype(np.float32))[..., None]
    covered = weight * (light + noise) + (1 - weight) * pixels
    return np.asarray(np.clip(np.round(covered), 0, 255), np.uint8)


def debris_of(name: str, pixels: Pixels, grains: Sequence[Outline]) -> list[Piece]:
    """Return the debris among the grains of a frame."""
    pixels, grains = content_of(pixels, grains)
    return pieces_of(name, cut_debris(pixels, light_of(pixels, grains), grains))


def _around(outlines: Sequence[Outline], pixels: Pixels) -> Pixels:
    """Return a mask of grains with the halo around each, which is wider around a larger grain."""
    mask: Pixels = np.zeros(pixels.shape[:2], np.uint8)
    halo_px = [max(6, round(0.18 * outline.diameter_px)) for outline in outlines]
    for halo in sorted(set(halo_px)):
        own = np.zeros_like(mask)
        for outline, wanted in zip(outlines, halo_px, strict=True):
            if wanted == halo:
                draw_outline(own, outline, 1)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * halo + 1, 2 * halo + 1))
        mask |= np.asarray(cv2.dilate(own, disc), np.uint8)
    return mask


def _hidden(pixels: Pixels, light: FloatArray, grains: Sequence[Outline]) -> Pixels | None:
    """Return a mask of what has to be covered; None if that is too much, or would cut something large.

    Covered with the labelled grains: what touches them, round things without a label, and slivers
    at the border, of which nobody knows what they are.
    """
    hidden = _around(grains, pixels)
    touched = np.asarray(cv2.dilate(hidden, np.ones((5, 5), np.uint8)), np.uint8)
    doubtful = []
    for thing in outline_objects(pixels, light, hidden):
        if _meets(thing, touched):
            if thing.area_px > MOST_TOUCHING_PX:
                return None
            doubtful.append(thing)
        elif _is_doubtful(thing, pixels, light):
            doubtful.append(thing)
    hidden |= _around(doubtful, pixels)
    return None if hidden.mean() > MOST_COVERED else hidden


def _meets(thing: Outline, mask: Pixels) -> bool:
    """Return whether an object covers any of a mask; only its own surroundings are compared."""
    left, top = (int(side) for side in thing.box[:2])
    right, bottom = (int(side) + 1 for side in thing.box[2:])
    shift = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
    own = fill_outlines((bottom - top, right - left), [thing.moved(shift)])
    return bool(mask[top:bottom, left:right][own > 0].any())


def _is_doubtful(thing: Outline, pixels: Pixels, light: FloatArray) -> bool:
    sides = cut_sides(thing, (pixels.shape[0], pixels.shape[1]))
    x0, y0, x1, y1 = thing.box
    is_sliver = bool(sides) and min(x1 - x0, y1 - y0) < SLIVER_PX
    return is_sliver or looks_like_grain(cut_out(pixels, light, thing), sides)


def _noise(pixels: Pixels, light: FloatArray, hidden: Pixels) -> FloatArray | None:
    """Return the noise of the frame for every pixel `(H, W, 3)`, from its largest empty square.

    The square is laid side by side, each time mirrored: no seams, and the grain of the noise stays
    that of the camera.
    """
    contrast = np.abs(cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.2) / light - 1)
    busy = (contrast.max(axis=2) > 0.03).astype(np.uint8) | hidden
    free = np.pad(1 - busy, 1)
    reach = cv2.distanceTransform(free, cv2.DIST_C, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(reach.argmax()), reach.shape)
    half = int(min(reach[y, x] - 1, 128))
    if 2 * half < LEAST_SAMPLE_PX:
        return None
    square = pixels[y - half : y + half, x - half : x + half].astype(np.float32)
    # What is wider than the noise belongs to the light there, not here.
    noise = square - cv2.GaussianBlur(square, (0, 0), 6)
    height, width = pixels.shape[:2]
    return np.pad(noise, ((0, height), (0, width), (0, 0)), mode="symmetric")[:height, :width]
