"""Statements of a file about a picture: the size of a pixel, the bit depth, its channels.

Of pixel sizes, trusted are statements that name a unit of length (CZI scaling, OME-XML, ImageJ's `unit`) and the
TIFF resolution tags with a unit. Nearly every picture carries a print resolution (72, 96, 300 dpi)
that says nothing about the microscope, so one rule holds for all sources: a pixel between
`SMALLEST_UM` and `LARGEST_UM` is a microscope's; anything else is no scale. 5 um is 5080 dpi, above
what printers and screens claim, and 0.01 um is far below the resolution of light. PNG `pHYs` and
the JPEG density are print resolutions by definition and never read.
"""

import math
from dataclasses import dataclass

Colour = tuple[int, int, int]

SMALLEST_UM = 0.01
LARGEST_UM = 5.0
#: Pixels whose sides differ by more than this share are not square: no single size is stated.
_SQUARE_WITHIN = 0.01

_UM_PER_UNIT = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "in": 25_400.0,
    "inch": 25_400.0,
}


@dataclass(frozen=True)
class ImageMetadata:
    """Statements of a file about one image in it.

    Attributes:
        pixel_size_um: Side of a pixel, None if not stated.
        bits: Significant bits per sample, None if not stated.
        names: Names of the channels as far as listed, empty if unnamed.
        colours: Display colours of the channels as far as listed, None if not stated.
    """

    pixel_size_um: float | None = None
    bits: int | None = None
    names: tuple[str, ...] = ()
    colours: tuple[Colour | None, ...] = ()

    def channels(self, count: int) -> tuple[tuple[str, ...], tuple[Colour | None, ...]]:
        """Return names and colours of `count` channels, empty and None if not stated."""
        names = (*self.names, *[""] * count)[:count]
        colours = (*self.colours, *[None] * count)[:count]
        return names, colours


def pixel_size_um(x: float | None, y: float | None, unit: str) -> float | None:
    """Return the side of a square pixel in micrometres, or None if it is no microscope scale.

    Args:
        x: Width of a pixel in `unit`, None if not stated.
        y: Height of a pixel in `unit`; None is taken as square.
        unit: Name of the unit; micro signs are understood, unknown units give None.
    """
    factor = _UM_PER_UNIT.get(_plain_unit(unit))
    if factor is None or x is None:
        return None
    x_um, y_um = x * factor, (x if y is None else y) * factor
    if not (math.isfinite(x_um) and math.isfinite(y_um)):
        return None
    square = abs(x_um - y_um) <= _SQUARE_WITHIN * abs(x_um)
    return x_um if square and SMALLEST_UM <= x_um <= LARGEST_UM else None


def _plain_unit(unit: str) -> str:
    """Return a unit in lower case, micro signs (also as ImageJ escapes them) written `u`."""
    plain = unit.strip().lower()
    for micro in ("\\u00b5", "\u00b5", "\u03bc"):
        plain = plain.replace(micro, "u")
    return plain
