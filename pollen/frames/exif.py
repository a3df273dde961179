"""EXIF orientation, applied so that the annotated picture matches what every viewer shows.

The annotated JPEG carries no EXIF, so ignoring the tag would turn it against the original; and
OpenCV and the labelling tools, which made the training pictures, apply it as well.
"""

from typing import Literal

_ORIENTATION_TAG = 0x0112
_ENTRY_BYTES = 12


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 from an EXIF block (without the `Exif` head); 1 where it says nothing.

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
    """`value` where it is an orientation of the standard, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
