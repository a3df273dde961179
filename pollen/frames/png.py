"""PNG: decoded whole by libpng, 8 and 16 bit, checksums verified."""

import struct
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np

from pollen.frames.colour import GREY_REASON
from pollen.frames.frame import Frame, FrameFile, new_lock
from pollen.frames.frame_error import FrameError
from pollen.frames.limits import check_whole_size
from pollen.frames.orientation import exif_orientation
from pollen.frames.planes import ColourRule, PlanesSource, Samples, WholePlane

#: Colour types of the PNG standard: grey, grey with alpha.
_GREY_TYPES = (0, 4)

_TRUNCATED = "the file ends early (truncated PNG): upload it again"


def open_png(path: Path, name: str, max_pixels: int) -> FrameFile:
    """Open a PNG, which has one frame.

    16-bit samples always span the full range (PNG standard, section 12.4: writers scale up to the
    container), so they are divided by 257 whatever `sBIT` says.

    Raises:
        FrameError: If it has no readable header, is not in colour, or has more than `max_pixels`.
    """
    header = _read_header(path, max_pixels)
    size_px = header.size_px
    plane = WholePlane(lambda: _decode(path), size_px[0] * size_px[1] * 4 * header.bits // 8)
    rule = ColourRule(header.bits, bits_known=header.bits == 8, alpha="straight")
    source = PlanesSource((plane,), rule)
    frame = Frame(
        name, size_px=size_px, source=source, lock=new_lock(), orientation=header.orientation
    )
    return FrameFile(name, (frame,), close=lambda: None)


@dataclass(frozen=True)
class _Header:
    size_px: tuple[int, int]
    bits: int
    orientation: int


def _read_header(path: Path, max_pixels: int) -> _Header:
    """Read size, bit depth and orientation from the chunks before the pixels."""
    with path.open("rb") as file:
        head = file.read(33)
        if len(head) < 33 or head[12:16] != b"IHDR":
            raise FrameError(_TRUNCATED)
        width, height, depth, colour_type = struct.unpack(">IIBB", head[16:26])
        if colour_type in _GREY_TYPES:
            raise FrameError(GREY_REASON)
        check_whole_size(width, height, max_pixels)
        bits = 16 if depth == 16 else 8
        while len(chunk := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", chunk)
            if kind == b"eXIf":
                orientation = exif_orientation(file.read(min(length, 1 << 20)))
                return _Header((width, height), bits, orientation)
            if kind in (b"IDAT", b"IEND"):
                return _Header((width, height), bits, 1)
            if kind == b"PLTE":
                _check_palette(file.read(min(length, 768)))
                length -= min(length, 768)
            file.seek(length + 4, 1)
    raise FrameError(_TRUNCATED)


def _check_palette(colours: bytes) -> None:
    if colours[0::3] == colours[1::3] == colours[2::3]:
        raise FrameError(GREY_REASON)


def _decode(path: Path) -> Samples:
    try:
        return np.asarray(imagecodecs.png_decode(path.read_bytes()))
    except UnicodeDecodeError as error:  # by imagecodecs, on the name of a damaged chunk
        raise FrameError("the PNG is damaged: upload it again") from error
    except (imagecodecs.PngError, ValueError) as error:
        if "too small" in str(error):
            raise FrameError(_TRUNCATED) from error
        raise FrameError(f"the PNG is damaged ({error}): upload it again") from error
