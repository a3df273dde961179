"""Noise textures and soft steps shared by everything that is drawn."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from pollen.arrays import AnyFloatArray

_ATLAS_SIZE_PX = 512
_SCALES_PX = (0.6, 0.9, 1.3, 1.9, 2.8, 4.0, 6.0, 9.0, 13.0, 20.0, 30.0)


@lru_cache(maxsize=len(_SCALES_PX))
def _atlas(level: int) -> AnyFloatArray:
    """Return periodic noise of one scale, mean 0 and standard deviation 1; made once per process."""
    rng = np.random.Generator(np.random.PCG64([20240611, level]))
    noise = rng.standard_normal((_ATLAS_SIZE_PX, _ATLAS_SIZE_PX), dtype=np.float32)
    margin = int(4 * _SCALES_PX[level]) + 1
    wrapped = np.pad(noise, margin, mode="wrap")
    smooth = cv2.GaussianBlur(wrapped, (0, 0), _SCALES_PX[level])[margin:-margin, margin:-margin]
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> AnyFloatArray:
    """Return a random smooth texture, mean 0 and standard deviation 1.

    Args:
        rng: Decides which part of the texture is taken.
        shape: Height and width, px.
        scale_px: Standard deviation of the smoothing; the nearest of a fixed set is taken.

    Returns:
        `(height, width)` float32.
    """
    level = int(np.argmin([abs(np.log(scale_px / scale)) for scale in _SCALES_PX]))
    atlas = _atlas(level)
    flips = rng.integers(0, 2, 3)
    if flips[0]:
        atlas = atlas.T
    rows = (int(rng.integers(_ATLAS_SIZE_PX)) + np.arange(shape[0])) % _ATLAS_SIZE_PX
    columns = (int(rng.integers(_ATLAS_SIZE_PX)) + np.arange(shape[1])) % _ATLAS_SIZE_PX
    if flips[1]:
        rows = rows[::-1]
    if flips[2]:
        columns = columns[::-1]
    return np.asarray(atlas[np.ix_(rows, columns)])


def step(value: AnyFloatArray, softness: float) -> AnyFloatArray:
    """Return a smooth step from 0 (value far below 0) to 1 (far above) within about `softness`."""
    t = np.clip(value / (2.0 * softness) + 0.5, 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def bump(value: AnyFloatArray, width: float) -> AnyFloatArray:
    """Return a bell of height 1 at value 0 with standard deviation `width`."""
    return np.asarray(np.exp(-0.5 * np.square(value / width)), dtype=np.float32)


def density(
    rgb: tuple[float, float, float], background_rgb: tuple[float, float, float]
) -> AnyFloatArray:
    """Return the optical density (natural logarithm) that turns the background into this colour: `(3,)`."""
    ratio = np.asarray(rgb, np.float32) / np.asarray(background_rgb, np.float32)
    return np.asarray(-np.log(np.clip(ratio, 0.01, 1.3)), dtype=np.float32)
