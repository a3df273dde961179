"""The empty slide under the microscope, and the camera."""

from __future__ import annotations

from math import cos, radians, sin

import cv2
import numpy as np

from pollen.arrays import AnyFloatArray, Pixels
from pollen.synth.spec import FrameSpec, Optics

_COARSE_PX = 8


def coarse_background(rng: np.random.Generator, spec: FrameSpec) -> AnyFloatArray:
    """Return the light of the empty slide on a grid of 8 px: gradient, vignette, clouds.

    Returns:
        `(ceil(H / 8) + 1, ceil(W / 8) + 1, 3)` grey levels; point (i, j) lies at y = 8 i, x = 8 j.
    """
    height, width = -(-spec.height_px // _COARSE_PX) + 1, -(-spec.width_px // _COARSE_PX) + 1
    y, x = np.meshgrid(
        np.linspace(-1.0, 1.0, height, dtype=np.float32),
        np.linspace(-1.0, 1.0, width, dtype=np.float32),
        indexing="ij",
    )
    background = spec.background
    angle = rng.uniform(0.0, 2.0 * np.pi)
    level = 0.5 * background.gradient_levels * (x * cos(angle) + y * sin(angle))
    level -= background.vignette_levels * 0.5 * (np.square(x) + np.square(y) - 0.66)
    shift = rng.normal(0.0, 0.3, 2)
    level -= 0.3 * background.gradient_levels * np.square(x * shift[0] + y * shift[1])
    for cells, share in ((7, 0.9), (30, 0.45)):
        clouds = rng.standard_normal((cells, cells), dtype=np.float32)
        level += (
            background.mottle_levels
            * np.float32(share)
            * cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
        )
    tint = 1.0 + rng.normal(0.0, 0.15, 3)
    light = np.asarray(background.rgb) + level[..., None] * tint
    return np.asarray(np.clip(light, 1.0, 256.0), dtype=np.float32)


def background_rows(coarse: AnyFloatArray, width_px: int, first: int, last: int) -> AnyFloatArray:
    """Return rows `first` to `last` of the empty slide: `(last - first, width, 3)` grey levels."""
    scale = 1.0 / _COARSE_PX
    to_coarse = np.array(
        [[scale, 0.0, 0.5 * scale], [0.0, scale, (first + 0.5) * scale]], np.float64
    )
    rows = cv2.warpAffine(
        coarse,
        to_coarse,
        (width_px, last - first),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(rows, dtype=np.float32)


def optics_margin_px(optics: Optics) -> int:
    """Return how many rows beyond a band its picture depends on."""
    return int(10.0 * optics.blur_px + optics.fringe_px) + 6


def expose(light: AnyFloatArray, optics: Optics) -> AnyFloatArray:
    """Apply blur, colour fringes and the camera's sharpening to `(h, w, 3)` light."""
    if optics.blur_px >= 0.25:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), optics.blur_px), dtype=np.float32)
    if optics.fringe_px > 0.05:
        light = _fringed(light, optics)
    if optics.sharpening > 0.0:
        soft = cv2.GaussianBlur(light, (0, 0), max(1.0, 1.5 * optics.blur_px))
        light = light + np.float32(optics.sharpening) * (light - soft)
    return np.asarray(light, dtype=np.float32)


def _fringed(light: AnyFloatArray, optics: Optics) -> AnyFloatArray:
    """Shift blue against green and a little red: yellow edges on one side, blue on the other."""
    angle = radians(optics.light_angle_deg)
    height, width = light.shape[:2]
    channels = list(cv2.split(light))
    # Blue is the worst corrected colour: it takes most of the shift.
    for channel, share in ((0, 0.2), (2, -0.8)):
        shift = share * optics.fringe_px
        move = np.array([[1.0, 0.0, shift * cos(angle)], [0.0, 1.0, shift * sin(angle)]])
        channels[channel] = cv2.warpAffine(
            channels[channel],
            move,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return np.asarray(cv2.merge(channels), dtype=np.float32)


def digitise(rng: np.random.Generator, light: AnyFloatArray, optics: Optics) -> Pixels:
    """Add the sensor's noise and round to 8 bits."""
    if optics.noise_levels > 0.0:
        grain = rng.standard_normal(light.shape, dtype=np.float32)
        # The camera smooths its noise; the factor restores the stated strength after that.
        grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.7), dtype=np.float32)
        light = light + np.float32(2.3 * optics.noise_levels) * grain
    return np.asarray(np.clip(np.rint(light), 0, 255), dtype=np.uint8)


def jpeg_round_trip(pixels: Pixels, quality: int) -> Pixels:
    """Return RGB pixels after a JPEG of this quality with halved colour resolution (4:2:0)."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), settings)
    decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def burn_scale_bar(pixels: Pixels, spec: FrameSpec) -> None:
    """Draw a black bar and its length into the lower right corner, in place."""
    um_per_px = spec.pixel_size_um or 30.0 / spec.grain_diameter_px
    wanted_um = 0.18 * spec.width_px * um_per_px
    lengths = [factor * 10.0**power for power in range(-1, 4) for factor in (1, 2, 5)]
    length_um = max((v for v in lengths if v <= wanted_um), default=lengths[0])
    length_px = round(length_um / um_per_px)
    unit = max(4, round(spec.width_px / 110))
    right, bottom = spec.width_px - 4 * unit, spec.height_px - 3 * unit
    black = (8, 8, 8)
    cv2.rectangle(pixels, (right - length_px, bottom - unit), (right, bottom), black, -1)
    text = f"{length_um:g} µm"
    scale, thickness = unit / 9.0, max(1, round(unit / 4))
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    origin = (right - (length_px + text_width) // 2, bottom - 2 * unit)
    cv2.putText(
        pixels, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, black, thickness, cv2.LINE_AA
    )
