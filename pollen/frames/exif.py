"""EXIF orientation, applied so that the annotated picture matches what every viewer shows.

The annotated JPEG carries no EXIF, so ignoring the tag would turn it against the original; and
OpenCV and the labelling tools, which made the training pictures, apply it as well.
"""

from PIL import Image

_ORIENTATION_TAG = 0x0112


def exif_orientation(exif: bytes) -> int:
    """Orientation 1 to 8 from an EXIF block (without the `Exif` head); 1 where it says nothing."""
    if not exif:
        return 1
    tags = Image.Exif()
    try:
        tags.load(exif)
        value = tags.get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 - Pillow raises many kinds; a broken block says nothing
        return 1
    return valid_orientation(value)


def valid_orientation(value: object) -> int:
    """`value` where it is an orientation of the standard, else 1."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
