"""CZI (ZEISS), by region through the maker's own library.

libCZI composes a region from the tiles (subblocks) of a scene and holds no more than that region
and a bounded cache of decoded tiles (measured at 20,000 x 20,000 px, 1.2 GB as RGB: peak 1 MB above
the libraries' own uncompressed, 298 MB with ZSTD); a region of a scene without a tile is black.
Pixels come as BGR and are reversed. A reader is used by one thread at a time, under the file's lock.
"""

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from pollen.frames.colour import GREY_REASON, rgb_order
from pollen.frames.frame import Frame, FrameFile, new_lock, stack_notes
from pollen.frames.frame_error import FrameError, refused_as
from pollen.frames.limits import check_frame_count, check_frame_size
from pollen.frames.metadata import Colour, ImageMetadata, pixel_size_um
from pollen.frames.planes import CACHE_BYTES, Box, ColourRule, PlanesSource, Samples

if TYPE_CHECKING:
    from pylibCZIrw.czi import CziReader, Rectangle

_COLOUR_BITS = {"Bgr24": 8, "Bgr48": 16}
_GREY_BITS = {"Gray8": 8, "Gray16": 16}
_SPATIAL = ("X", "Y", "C")


class _CziPlane:
    """One plane of one scene."""

    def __init__(
        self, reader: "CziReader", area: "Rectangle", scene: int | None, plane: dict[str, int]
    ) -> None:
        # The cache is one for all planes of the file, so the sum over them is too high, never low.
        self.resident_bytes = min(CACHE_BYTES, area.w * area.h * 6)
        self._reader = reader
        self._origin = (area.x, area.y)
        self._scene = scene
        self._plane = plane

    def read(self, box: Box) -> Samples:
        """See `Plane`; colour is reversed from BGR to RGB."""
        x0, y0, x1, y1 = box
        region = (self._origin[0] + x0, self._origin[1] + y0, x1 - x0, y1 - y0)
        with refused_as("a part of the CZI cannot be decoded (damaged or truncated)"):
            pixels = self._reader.read(roi=region, plane=self._plane, scene=self._scene)
        return np.ascontiguousarray(pixels[..., ::-1])

    def release(self) -> None:
        """Do nothing: the cache belongs to the reader and goes with it."""


def open_czi(path: Path, name: str) -> FrameFile:
    """Open a CZI: one frame per scene, and per focus plane or time point if there are several.

    Raises:
        FrameError: If it is damaged or not in colour.
        OSError: If the maker's library is not installed, which is no property of the picture.
    """
    try:
        from pylibCZIrw.czi import CacheOptions, CziReader
    except ImportError as error:
        raise OSError(
            f"CZI files can't be read in this environment ({error}): ZEISS's library for them is not there for Python "
            "3.14 yet. Make the environment with Python 3.11 to 3.13, then run again"
        ) from error

    with refused_as("the CZI cannot be opened (damaged or truncated)"):
        reader = CziReader(str(path), cache_options=CacheOptions(max_memory_usage=CACHE_BYTES))
    try:
        with refused_as("the CZI's description of itself cannot be read"):
            frames = _frames(reader, name)
    except BaseException:
        reader.close()
        raise
    return FrameFile(name, frames, reader.close)


def _frames(reader: "CziReader", name: str) -> tuple[Frame, ...]:
    metadata = read_metadata(reader.raw_metadata)
    sizes = {dim: stop - start for dim, (start, stop) in reader.total_bounding_box.items()}
    planes_per_scene = math.prod(size for dim, size in sizes.items() if dim not in ("X", "Y"))
    check_frame_count(planes_per_scene)  # before a list is made of what a damaged file says
    rule, channels, notes = _colour(reader.pixel_types, metadata)
    stack = [dim for dim, size in sizes.items() if size > 1 and dim not in _SPATIAL]
    places = list(itertools.product(*(range(sizes[dim]) for dim in stack)))
    scenes: dict[int | None, Any] = dict(reader.scenes_bounding_rectangle_no_pyramid)
    scenes = scenes or {None: reader.total_bounding_rectangle_no_pyramid}
    lock = new_lock()
    frames = []
    for (scene, area), place in itertools.product(sorted(scenes.items()), places):
        check_frame_size(area.w, area.h)
        coordinates = dict(zip(stack, place, strict=True))
        label = [f"scene={scene + 1}"] if scene is not None and len(scenes) > 1 else []
        label += [f"{dim.lower()}={index + 1}" for dim, index in coordinates.items()]
        planes = tuple(
            _CziPlane(reader, area, scene, {**coordinates, "C": channel}) for channel in channels
        )
        frames.append(
            Frame(
                f"{name}#{'&'.join(label)}" if label else name,
                size_px=(area.w, area.h),
                source=PlanesSource(planes, rule),
                lock=lock,
                pixel_size_um=metadata.pixel_size_um,
                notes=(*notes, *stack_notes(sizes)),
            )
        )
    return tuple(frames)


def _colour(
    pixel_types: dict[int, str], metadata: ImageMetadata
) -> tuple[ColourRule, tuple[int, ...], tuple[str, ...]]:
    """Return the colour rule, the channels to read (one, or red, green, blue) and notes."""
    types = set(pixel_types.values())
    kind = types.pop() if len(types) == 1 else "mixed"
    order: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()
    if kind in _GREY_BITS:
        if len(pixel_types) == 1:
            raise FrameError(GREY_REASON)
        names, colours = metadata.channels(len(pixel_types))
        order, notes = rgb_order(names, colours)
    elif kind not in _COLOUR_BITS or len(pixel_types) > 1:
        found = ", ".join(dict.fromkeys(pixel_types.values()))
        raise FrameError(
            f"the CZI has {len(pixel_types)} channel(s) of type {found}, expected one colour "
            "channel of 8 or 16 bit (Bgr24 or Bgr48): export it in colour (RGB)"
        )
    container = (_COLOUR_BITS | _GREY_BITS)[kind]
    if container == 16 and metadata.bits is not None:
        return ColourRule(metadata.bits), order, notes
    return ColourRule(container, bits_known=container == 8), order, notes


def read_metadata(xml: str) -> ImageMetadata:
    """Read the XML of a CZI; an empty text states nothing."""
    if not xml.strip():
        return ImageMetadata()
    root = ElementTree.fromstring(xml)
    metres = {
        axis.get("Id"): _number(axis.findtext("Value"))
        for axis in root.iterfind(".//Scaling/Items/Distance")
    }
    image = root.find(".//Information/Image")
    channels = [] if image is None else image.findall("Dimensions/Channels/Channel")
    display = root.findall(".//DisplaySetting/Channels/Channel")
    return ImageMetadata(
        pixel_size_um=pixel_size_um(metres.get("X"), metres.get("Y"), "m"),
        bits=_bits(image),
        names=tuple(channel.get("Name") or "" for channel in channels),
        colours=tuple(_display_colour(channel.findtext("Color")) for channel in display),
    )


def _bits(image: ElementTree.Element | None) -> int | None:
    """Return the significant bits stated for the image or its channels, if 9 to 16."""
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


def _display_colour(text: str | None) -> Colour | None:
    """Return red, green and blue of `#AARRGGBB` or `#RRGGBB`."""
    digits = (text or "").strip().removeprefix("#")[-6:]
    try:
        red, green, blue = bytes.fromhex(digits)
    except ValueError:
        return None
    return red, green, blue
