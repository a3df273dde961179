"""What a CZI says of itself in its XML: pixel size, bit depth, channel names and colours."""

from dataclasses import dataclass
from xml.etree import ElementTree

from pollen.frames.pixel_size import pixel_size_um

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class CziMetadata:
    """The part of the metadata that is used here.

    Attributes:
        pixel_size_um: side of a pixel, None where not calibrated.
        bits: significant bits per sample (`ComponentBitCount`), None where not stated.
        names: of the channels, as far as listed.
        colours: display colours of the channels, as far as listed.
    """

    pixel_size_um: float | None
    bits: int | None
    names: tuple[str, ...]
    colours: tuple[Colour | None, ...]

    def channels(self, count: int) -> tuple[tuple[str, ...], tuple[Colour | None, ...]]:
        """Names and colours of `count` channels, empty and None where nothing is said."""
        names = (*self.names, *[""] * count)[:count]
        colours = (*self.colours, *[None] * count)[:count]
        return names, colours


def read_metadata(xml: str) -> CziMetadata:
    """Metadata from the XML of a CZI; none at all for an empty text.

    Raises:
        xml.etree.ElementTree.ParseError: the text is not XML.
    """
    if not xml.strip():
        return CziMetadata(None, None, (), ())
    root = ElementTree.fromstring(xml)
    metres = {
        axis.get("Id"): _number(axis.findtext("Value"))
        for axis in root.iterfind(".//Scaling/Items/Distance")
    }
    image = root.find(".//Information/Image")
    channels = [] if image is None else image.findall("Dimensions/Channels/Channel")
    display = root.findall(".//DisplaySetting/Channels/Channel")
    return CziMetadata(
        pixel_size_um=pixel_size_um(metres.get("X"), metres.get("Y"), "m"),
        bits=_bits(image),
        names=tuple(channel.get("Name") or "" for channel in channels),
        colours=tuple(_colour(channel.findtext("Color")) for channel in display),
    )


def _bits(image: ElementTree.Element | None) -> int | None:
    """Significant bits, stated for the image or for its channels; 9 to 16 make sense."""
    if image is None:
        return None
    texts = [image.findtext("ComponentBitCount")]
    texts += [item.text for item in image.iterfind(".//Channel/ComponentBitCount")]
    stated = {int(number) for text in texts if (number := _number(text)) is not None}
    bits = stated.pop() if len(stated) == 1 else 0
    return bits if 9 <= bits <= 16 else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _colour(text: str | None) -> Colour | None:
    """Red, green, blue of `#AARRGGBB` or `#RRGGBB`."""
    digits = (text or "").strip().removeprefix("#")[-6:]
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return None
    return red, green, blue
