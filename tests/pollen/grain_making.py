"""Grains of known shape, for the tests of the counting science."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pollen.detection.grains import Grains

#: Points of a drawn circle: the polygon's area is 0.1 % below the circle's.
CIRCLE_POINTS = 80


def discs(
    centres: Sequence[tuple[float, float]] | NDArray[np.float64],
    diameters: float | Sequence[float] | NDArray[np.float64],
    *,
    confidence: Sequence[float] | NDArray[np.float64] | None = None,
    classes: Sequence[int] | NDArray[np.int64] | None = None,
) -> Grains:
    """Round grains: centres ``(N, 2)`` xy and diameters, pixels; viable, ever less confident."""
    middle = np.asarray(centres, float).reshape(-1, 2)
    number = len(middle)
    radii = np.broadcast_to(np.asarray(diameters, float) / 2, (number,))
    angle = np.linspace(0, 2 * np.pi, CIRCLE_POINTS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    steps = 0.9 - np.arange(number) * 1e-4
    return Grains(
        boxes=np.concatenate(
            [middle - radii[:, None], middle + radii[:, None]], axis=1, dtype=np.float32
        ),
        confidence=np.asarray(steps if confidence is None else confidence, np.float32),
        classes=np.asarray(np.zeros(number) if classes is None else classes, np.int64),
        areas_px=np.asarray(np.pi * radii**2, np.float32),
        outlines=tuple(
            (centre + radius * circle).astype(np.float32)
            for centre, radius in zip(middle, radii, strict=True)
        ),
    )


def equal(first: Grains, second: Grains) -> bool:
    """Whether two sets of grains are the same to the last bit."""
    columns = ("boxes", "confidence", "classes", "areas_px")
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in columns
    ) and all(np.array_equal(a, b) for a, b in zip(first.outlines, second.outlines, strict=True))
