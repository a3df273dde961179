"""Statements of a TIFF about its pictures: tags, ImageJ's metadata, OME-XML."""

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pollen.frames.metadata import Colour, ImageMetadata, pixel_size_um

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

#: Values of the tag ResolutionUnit; 1 is no unit, so no scale.
_UNIT_OF_RESOLUTION = {2: "inch", 3: "cm"}


def image_metadata(file: "TiffFile", images: int) -> tuple[ImageMetadata, ...]:
    """Return the metadata of each of the `images` images (series) of a file; empty if not stated."""
    if file.is_ome and file.ome_metadata:
        found = _ome(file.ome_metadata)
        if len(found) == images:
            return found
    elif file.is_imagej and images == 1:
        return (_imagej(file),)
    return (ImageMetadata(),) * images


def page_pixel_size_um(page: "TiffPage") -> float | None:
    """Return the pixel size by the resolution tags, if they have a unit and a microscope's scale."""
    unit = _UNIT_OF_RESOLUTION.get(int(page.tags.valueof(296, 2)))
    x, y = (_pixels_per_unit(page.tags.valueof(code)) for code in (282, 283))
    if unit is None or x is None or y is None:
        return None
    return pixel_size_um(1 / x, 1 / y, unit)


def page_bits(page: "TiffPage") -> int | None:
    """Return the significant bits by the tag MaxSampleValue, only if it is 2**n - 1.

    Other values are the largest value that happens to occur in this picture; scaling by it would
    be a stretch of this picture's contrast.
    """
    value = page.tags.valueof(281)
    values = set(value) if isinstance(value, tuple) else {value}
    return next((n for n in range(9, 17) if values == {2**n - 1}), None)


def _pixels_per_unit(value: object) -> float | None:
    """Return a TIFF rational (numerator, denominator) as a number above 0."""
    if not (isinstance(value, tuple) and len(value) == 2 and value[0] > 0 and value[1] > 0):
        return None
    return float(value[0]) / float(value[1])


def _imagej(file: "TiffFile") -> ImageMetadata:
    """Read ImageJ's pixels per `unit` from the resolution tags."""
    metadata = file.imagej_metadata or {}
    page = file.pages.first
    x, y = (_pixels_per_unit(page.tags.valueof(code)) for code in (282, 283))
    size = pixel_size_um(x and 1 / x, y and 1 / y, str(metadata.get("unit", "")))
    return ImageMetadata(size)


def _ome(xml: str) -> tuple[ImageMetadata, ...]:
    root = ElementTree.fromstring(xml)
    return tuple(_ome_image(image) for image in root.iterfind("{*}Image"))


def _ome_image(image: ElementTree.Element) -> ImageMetadata:
    pixels = image.find("{*}Pixels")
    if pixels is None:
        return ImageMetadata()
    channels = pixels.findall("{*}Channel")
    x, y = (_length_um(pixels, f"PhysicalSize{axis}") for axis in "XY")
    return ImageMetadata(
        pixel_size_um=pixel_size_um(x, y, "um"),
        bits=_bits(pixels.get("SignificantBits")),
        names=tuple(channel.get("Name") or "" for channel in channels),
        colours=tuple(_ome_colour(channel.get("Color")) for channel in channels),
    )


def _length_um(pixels: ElementTree.Element, attribute: str) -> float | None:
    """Return a PhysicalSize in micrometres, the unit that OME means if none is named."""
    try:
        size = float(pixels.get(attribute, ""))
    except ValueError:
        return None
    return pixel_size_um(size, None, pixels.get(f"{attribute}Unit", "um"))


def _bits(text: str | None) -> int | None:
    bits = int(text) if text and text.isascii() and text.isdigit() else 0
    return bits if 9 <= bits <= 16 else None


def _ome_colour(text: str | None) -> Colour | None:
    """Return the colour in a signed 32-bit integer of red, green, blue, alpha; -1 (white) is unset."""
    try:
        value = int(text or "")
    except ValueError:
        return None
    if value == -1:
        return None
    red, green, blue, _ = (value & 0xFFFFFFFF).to_bytes(4, "big")
    return red, green, blue
