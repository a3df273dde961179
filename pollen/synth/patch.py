"""Patches of the picture: how much light one object lets through.

Light through stacked objects multiplies, so a frame is the background times every patch, and
neither the order of drawing nor the size of the frame matters. Values above 1 are light that
refraction brought there (halos, bright limbs).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pollen.arrays import AnyFloatArray


@dataclass(frozen=True, slots=True)
class Patch:
    """Transmitted share of the light in a box of the frame.

    Attributes:
        transmittance: (h, w, 3) float32, RGB; 1 where the object changes nothing.
    """

    x0: int
    y0: int
    transmittance: AnyFloatArray

    def blurred(self, sigma_px: float) -> Patch:
        """Return the patch out of focus; its border must be empty for about 2 sigma."""
        if sigma_px < 0.25:
            return self
        blurred = cv2.GaussianBlur(
            self.transmittance, (0, 0), sigma_px, borderType=cv2.BORDER_REPLICATE
        )
        return Patch(self.x0, self.y0, np.asarray(blurred, dtype=np.float32))


def multiply_into(canvas: AnyFloatArray, patch: Patch, *, first_row: int = 0) -> None:
    """Multiply the part of a patch that lies on the canvas into it, in place.

    Args:
        canvas: `(H, W, 3)` light so far.
        patch: The object.
        first_row: Row of the frame that is row 0 of the canvas.
    """
    height, width = patch.transmittance.shape[:2]
    top, left = patch.y0 - first_row, patch.x0
    y0, y1 = max(0, top), min(canvas.shape[0], top + height)
    x0, x1 = max(0, left), min(canvas.shape[1], left + width)
    if y0 < y1 and x0 < x1:
        canvas[y0:y1, x0:x1] *= patch.transmittance[y0 - top : y1 - top, x0 - left : x1 - left]


def from_density(
    density: AnyFloatArray, light: AnyFloatArray | float = 1.0, *, x0: int, y0: int
) -> Patch:
    """Return the patch of an object that absorbs with an optical density and redirects light.

    Args:
        density: `(h, w, 3)` natural-logarithm density, or `(h, w, 1)` for a neutral grey.
        light: `(h, w)` or `(h, w, 3)` gain by refraction.
        x0: Left column of the patch in the frame.
        y0: Top row of the patch in the frame.
    """
    transmittance = np.exp(-density)
    if isinstance(light, np.ndarray):
        transmittance *= light if light.ndim == 3 else light[..., None]
    shape = (*transmittance.shape[:2], 3)
    clipped = np.broadcast_to(np.clip(transmittance, 0.0, 1.6), shape)
    return Patch(x0, y0, np.ascontiguousarray(clipped, dtype=np.float32))
