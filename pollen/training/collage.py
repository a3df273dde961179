"""Collages: real grains and real debris pasted onto real pictures, with exact outlines.

A bright-field picture is background light times what the objects let through. A cutout therefore
keeps its *transmittance* (pixel / local background), and pasting multiplies: colours fit the new
background whatever its tint, and where two objects overlap they darken as they do under the
microscope. The module knows pixels and outlines only; which picture gets what is the caller's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray, Pixels

MARGIN_PX: Final = 6
"""Rim and halo kept around an outline when a grain is cut out, pixels."""
DEBRIS_CONTRAST: Final = 0.10
"""An object starts where some channel differs from the background by this fraction."""


@dataclass(frozen=True)
class Outline:
    """One labelled grain: class number and outline `(K, 2)` xy in pixels of its picture."""

    grain_class: int
    points: FloatArray

    @property
    def area_px(self) -> float:
        """Area inside the outline, square pixels."""
        return float(cv2.contourArea(self.points)) if len(self.points) > 2 else 0.0

    @property
    def diameter_px(self) -> float:
        """Diameter of the circle of the same area, pixels."""
        return float(np.sqrt(4 * self.area_px / np.pi))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box `x0, y0, x1, y1` in pixels."""
        (x0, y0), (x1, y1) = self.points.min(axis=0), self.points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    def moved(self, affine: NDArray[np.float64]) -> "Outline":
        """Return the outline after a `(2, 3)` affine map of the plane."""
        moved = self.points @ affine[:, :2].T + affine[:, 2]
        return Outline(self.grain_class, moved.astype(np.float32))


@dataclass(frozen=True)
class Cutout:
    """An object cut from a picture.

    Attributes:
        transmittance: `(h, w, 3)` pixel over local background, 1 if nothing is.
        alpha: `(h, w)` weight of the object, 1 inside and feathered to 0 outside.
        outline: Its outline in cutout pixels; `grain_class` is -1 for debris.
    """

    transmittance: FloatArray
    alpha: FloatArray
    outline: Outline

    @property
    def brightness(self) -> float:
        """Mean share of green light let through inside the outline; the stain takes green."""
        inside = fill_outlines((self.alpha.shape[0], self.alpha.shape[1]), [self.outline]) > 0
        return float(self.transmittance[inside][:, 1].mean()) if inside.any() else 1.0


def fill_outlines(shape: tuple[int, int], outlines: Sequence[Outline]) -> Pixels:
    """Return a mask `(H, W)` of 0 and 1, 1 inside any outline."""
    mask = np.zeros(shape, np.uint8)
    for outline in outlines:
        draw_outline(mask, outline, 1)
    return mask


def draw_outline(mask: Pixels, outline: Outline, value: int, scale: float = 1.0) -> None:
    """Fill an outline into `mask` `(H, W)` in place.

    Args:
        mask: What to draw into.
        outline: In picture pixels.
        value: Written inside.
        scale: Mask pixels per picture pixel.
    """
    # Drawn to a sixteenth of a pixel; OpenCV counts from pixel centres, outlines from corners.
    points = np.round((outline.points * scale - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], (value,), lineType=cv2.LINE_8, shift=4)


def pixel_affine(affine: NDArray[np.float64], step: float = 1.0) -> NDArray[np.float64]:
    """Return an affine map of the plane, for OpenCV, which counts from pixel centres.

    Args:
        affine: `(2, 3)`, from source to target, pixel `i` covering `i..i + 1`.
        step: Width of one pixel of the source array in source units (2 for a halved source).
    """
    linear = affine[:, :2] * step
    return np.column_stack([linear, affine[:, 2] + linear @ [0.5, 0.5] - 0.5])


def content_box(pixels: Pixels) -> tuple[int, int, int, int]:
    """Return the box `x0, y0, x1, y1` of the picture proper on a plain padding canvas.

    Padding is rows and columns that equal the corner pixel but for the two grey levels of JPEG; no
    real background is that even across a picture. Without padding it is the whole picture.
    """
    differs = (np.abs(pixels.astype(np.int16) - pixels[0, 0].astype(np.int16)) > 2).any(axis=2)
    rows, columns = differs.mean(axis=1) > 0.02, differs.mean(axis=0) > 0.02
    if not rows.any() or rows.all():
        rows = np.ones_like(rows)
    if not columns.any() or columns.all():
        columns = np.ones_like(columns)
    ys, xs = np.flatnonzero(rows), np.flatnonzero(columns)
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def smooth_background(pixels: Pixels, objects: Pixels, sigma_px: float = 48.0) -> FloatArray:
    """Return the light without the objects: a normalised Gaussian mean over the background.

    Args:
        pixels: `(H, W, 3)` picture.
        objects: `(H, W)` mask, non-zero where the background is hidden.
        sigma_px: Width of the Gaussian; wider than the largest grain's radius.
    """
    free = (objects == 0).astype(np.float32)
    small = (max(pixels.shape[1] // 8, 1), max(pixels.shape[0] // 8, 1))
    light = cv2.resize(
        pixels.astype(np.float32) * free[..., None], small, interpolation=cv2.INTER_AREA
    )
    weight = cv2.resize(free, small, interpolation=cv2.INTER_AREA)
    light = cv2.GaussianBlur(light, (0, 0), sigma_px / 8)
    weight = cv2.GaussianBlur(weight, (0, 0), sigma_px / 8)
    seen = pixels[free > 0] if free.any() else pixels.reshape(-1, 3)
    typical = np.median(seen, axis=0).astype(np.float32)
    # A weak pull to the picture's median keeps the quotient defined under very large objects.
    smooth = (light + 0.01 * typical) / (weight[..., None] + 0.01)
    size = (pixels.shape[1], pixels.shape[0])
    enlarged = cv2.resize(smooth, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def cut_out(
    pixels: Pixels,
    background: FloatArray,
    outline: Outline,
    others: Sequence[Outline] = (),
    feather_px: float = 1.5,
) -> Cutout:
    """Cut one object with its rim, without what its neighbours cover.

    Args:
        pixels: `(H, W, 3)` picture.
        background: `(H, W, 3)` light without objects.
        outline: The object's outline in picture pixels.
        others: Outlines of its neighbours.
        feather_px: Width of the soft edge.
    """
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = outline.box
    left, top = max(int(x0) - MARGIN_PX, 0), max(int(y0) - MARGIN_PX, 0)
    right, bottom = min(int(x1) + MARGIN_PX + 1, width), min(int(y1) + MARGIN_PX + 1, height)
    window = (slice(top, bottom), slice(left, right))
    shift = np.array([[1, 0, -left], [0, 1, -top]], np.float64)
    local = outline.moved(shift)
    own = fill_outlines((bottom - top, right - left), [local])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    alpha = np.asarray(cv2.dilate(own, kernel), np.float32)
    neighbours = fill_outlines(own.shape, [other.moved(shift) for other in others])
    alpha[(neighbours > 0) & (own == 0)] = 0
    alpha = np.asarray(cv2.GaussianBlur(alpha, (0, 0), feather_px), np.float32)
    light = np.maximum(background[window], 1)
    transmittance = np.clip(pixels[window].astype(np.float32) / light, 0, 1.4)
    return Cutout(np.asarray(transmittance, np.float32), alpha, local)


def cut_grains(pixels: Pixels, background: FloatArray, outlines: Sequence[Outline]) -> list[Cutout]:
    """Cut every grain that lies wholly inside the picture's content and is no mere crescent."""
    x0, y0, x1, y1 = content_box(pixels)
    cutouts = []
    for number, outline in enumerate(outlines):
        left, top, right, bottom = outline.box
        inside = left > x0 + 3 and top > y0 + 3 and right < x1 - 4 and bottom < y1 - 4
        hull_px = float(cv2.contourArea(cv2.convexHull(outline.points)))
        # A hollow outline is a grain half hidden by another: elsewhere it would look like no grain.
        if not inside or outline.diameter_px < 15 or outline.area_px < 0.88 * hull_px:
            continue
        rest = [other for position, other in enumerate(outlines) if position != number]
        cutouts.append(cut_out(pixels, background, outline, rest))
    return cutouts


def find_debris(
    pixels: Pixels, background: FloatArray, outlines: Sequence[Outline], area_px: tuple[int, int]
) -> list[Outline]:
    """Outline objects that stand out from the background and are no labelled grain.

    What touches the border of the content, or comes near a grain, is left out: it may be a part of
    a grain that nobody outlined.

    Args:
        pixels: `(H, W, 3)` picture.
        background: `(H, W, 3)` light without objects.
        outlines: The labelled grains.
        area_px: Smallest and largest area of an object, square pixels.
    """
    x0, y0, x1, y1 = content_box(pixels)
    soft = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.5)
    contrast = np.abs(soft / np.maximum(background, 1) - 1).max(axis=2)
    shape = (pixels.shape[0], pixels.shape[1])
    mask = np.zeros(shape, np.uint8)
    mask[y0:y1, x0:x1] = contrast[y0:y1, x0:x1] > DEBRIS_CONTRAST
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    near = cv2.dilate(fill_outlines(shape, outlines), np.ones((9, 9), np.uint8))
    contours, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour in contours:
        points = contour[:, 0, :]
        if len(points) < 5 or not area_px[0] <= cv2.contourArea(contour) <= area_px[1]:
            continue
        left, top = points.min(axis=0)
        right, bottom = points.max(axis=0)
        if left <= x0 + 3 or top <= y0 + 3 or right >= x1 - 4 or bottom >= y1 - 4:
            continue
        if near[points[:, 1], points[:, 0]].any():
            continue
        found.append(Outline(-1, points.astype(np.float32) + np.float32(0.5)))
    return found


def cut_debris(
    pixels: Pixels,
    background: FloatArray,
    outlines: Sequence[Outline],
    area_px: tuple[int, int] = (80, 30_000),
) -> list[Cutout]:
    """Cut every object of `find_debris`."""
    found = find_debris(pixels, background, outlines, area_px)
    return [cut_out(pixels, background, outline, feather_px=2.5) for outline in found]


def placement(
    cutout: Cutout,
    centre: tuple[float, float],
    scale: float | tuple[float, float],
    angle_degrees: float,
    mirrored: bool,
) -> NDArray[np.float64]:
    """Return the `(2, 3)` affine map that puts a cutout's middle at `centre`, turned and scaled.

    Args:
        cutout: What is placed.
        centre: `x, y` in canvas pixels.
        scale: Canvas pixels per cutout pixel; a pair stretches the two axes differently, which
            is for debris only.
        angle_degrees: Turn, counter-clockwise.
        mirrored: Whether to flip before turning.
    """
    scale_x, scale_y = scale if isinstance(scale, tuple) else (scale, scale)
    angle = np.deg2rad(angle_degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    linear = turn @ np.diag([-scale_x if mirrored else scale_x, scale_y])
    x0, y0, x1, y1 = cutout.outline.box
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.column_stack([linear, np.asarray(centre) - linear @ middle])


def paste(canvas: FloatArray, cutout: Cutout, affine: NDArray[np.float64]) -> Outline:
    """Multiply a cutout into `canvas` `(H, W, 3)` in place.

    Returns:
        The pasted outline in canvas pixels, not clipped to the canvas.
    """
    outline = cutout.outline.moved(affine)
    height, width = cutout.alpha.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    placed = corners @ affine[:, :2].T + affine[:, 2]
    low = np.maximum(np.floor(placed.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(placed.max(axis=0)), canvas.shape[1::-1]).astype(int)
    if (high <= low).any():
        return outline
    local = affine.copy()
    local[:, 2] -= low
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    shrinks = np.sqrt(abs(np.linalg.det(affine[:, :2]))) < 0.75
    # Half-size sources keep the warp from skipping pixels.
    source, step = (_halved(cutout), 2.0) if shrinks else (cutout, 1.0)
    local = pixel_affine(local, step)
    through = cv2.warpAffine(source.transmittance, local, size, borderValue=(1, 1, 1))
    alpha = cv2.warpAffine(source.alpha, local, size, borderValue=(0,))
    window = canvas[low[1] : high[1], low[0] : high[0]]
    window *= 1 + alpha[..., None] * (through - 1)
    return outline


def _halved(cutout: Cutout) -> Cutout:
    size = (max(cutout.alpha.shape[1] // 2, 1), max(cutout.alpha.shape[0] // 2, 1))
    return Cutout(
        cv2.resize(cutout.transmittance, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        cv2.resize(cutout.alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32),
        cutout.outline,
    )


def clip_to_canvas(outline: Outline, width: float, height: float) -> Outline | None:
    """Return the part of an outline inside `0..width x 0..height`; None when nothing is left.

    Sutherland and Hodgman (1974), one side after the other.
    """
    points = outline.points.astype(np.float64)
    for axis, limit, sign in ((0, 0.0, 1), (0, width, -1), (1, 0.0, 1), (1, height, -1)):
        points = _clip_side(points, axis, limit, sign)
        if len(points) < 3:
            return None
    points = np.clip(points, 0, [width, height])  # rounding of the crossings
    return Outline(outline.grain_class, points.astype(np.float32))


def _clip_side(
    points: NDArray[np.float64], axis: int, limit: float, sign: int
) -> NDArray[np.float64]:
    inside = sign * (points[:, axis] - limit) >= 0
    if inside.all():
        return points
    following = np.roll(points, -1, axis=0)
    kept: list[NDArray[np.float64]] = []
    for here, there, is_in, goes_in in zip(
        points, following, inside, np.roll(inside, -1), strict=True
    ):
        if is_in:
            kept.append(here)
        if is_in != goes_in:
            share = (limit - here[axis]) / (there[axis] - here[axis])
            kept.append(here + share * (there - here))
    return np.array(kept).reshape(-1, 2)
