"""The orientation of EXIF and TIFF, applied so that the annotated picture matches what every viewer shows.

The annotated JPEG carries no EXIF, so ignoring the tag would turn it against the original; and
OpenCV and the labelling tools, which made the training pictures, apply it as well.
"""

from typing import Literal

from pollen.arrays import Pixels
from pollen.frames.planes import Box

_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, from an EXIF block (without the `Exif` head); 1 if not stated.

    The block is a small TIFF: byte order, where its first directory is, and in it entries of 12
    bytes (tag, type, count, value). In a damaged block slices come out empty and read as 0.
    """
    if exif[:2] not in (b"II", b"MM"):
        return 1
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"
    start = int.from_bytes(exif[4:8], order)
    entries = int.from_bytes(exif[start : start + 2], order)
    for position in range(start + 2, start + 2 + entries * _ENTRY_BYTES, _ENTRY_BYTES):
        if int.from_bytes(exif[position : position + 2], order) == _ORIENTATION_TAG:
            return valid_orientation(int.from_bytes(exif[position + 8 : position + 10], order))
    return 1


def valid_orientation(value: object) -> int:
    """Return `value` if it is an orientation of the standard, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def swaps_sides(orientation: int) -> bool:
    """Return whether an orientation swaps width and height."""
    return orientation >= 5


def oriented_box(box: Box, stored_size_px: tuple[int, int], orientation: int) -> Box:
    """Return the stored region that shows as `box` once turned to `orientation`.

    Args:
        box: Region in the picture as shown.
        stored_size_px: Stored width and height.
        orientation: 1 to 8 as in EXIF and TIFF (tag 274): where the stored first row and first
            column are shown: 1 top left, 2 top right, 3 bottom right, 4 bottom left, and turned,
            5 left top, 6 right top, 7 right bottom, 8 left bottom.
    """
    width, height = stored_size_px
    x0, y0, x1, y1 = box
    if swaps_sides(orientation):
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Return stored pixels `(height, width, 3)` as they are shown; a view."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.transpose(1, 0, 2) if swaps_sides(orientation) else pixels
