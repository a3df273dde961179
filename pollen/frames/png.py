"""PNG: decoded whole by libpng, 8 and 16 bit, checksums verified."""

import struct
from pathlib import Path

import imagecodecs
import numpy as np

from pollen.frames.colour import GREY_REASON, over_white, to_8_bit
from pollen.frames.errors import FrameError
from pollen.frames.exif import exif_orientation
from pollen.frames.frame import Frame, FrameFile, Rgb, WholeSource, new_lock
from pollen.frames.limits import check_whole_size

_GREY_TYPES = (0, 4)
"""Colour types of the PNG standard: grey, grey with alpha."""

_TRUNCATED = "the file ends early (truncated PNG): upload it again"


def open_png(path: Path, name: str, max_pixels: int) -> FrameFile:
    """The single frame of a PNG.

    16-bit samples always span the full range (PNG standard, section 12.4: writers scale up to the
    container), so they are divided by 257 whatever `sBIT` says.

    Raises:
        FrameError: no readable header, not a colour picture, or more than `max_pixels`.
    """
    width, height, orientation = _read_header(path, max_pixels)
    source = WholeSource(lambda: _decode(path), (width, height))
    frame = Frame(
        name, size_px=(width, height), source=source, lock=new_lock(), orientation=orientation
    )
    return FrameFile(name, (frame,), close=lambda: None)


def _read_header(path: Path, max_pixels: int) -> tuple[int, int, int]:
    """Width, height and orientation, from the chunks before the pixels."""
    with path.open("rb") as file:
        head = file.read(33)
        if len(head) < 33 or head[12:16] != b"IHDR":
            raise FrameError(_TRUNCATED)
        width, height, _, colour_type = struct.unpack(">IIBB", head[16:26])
        if colour_type in _GREY_TYPES:
            raise FrameError(GREY_REASON)
        check_whole_size(width, height, max_pixels)
        while len(chunk := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", chunk)
            if kind == b"eXIf":
                return width, height, exif_orientation(file.read(min(length, 1 << 20)))
            if kind in (b"IDAT", b"IEND"):
                return width, height, 1
            file.seek(length + 4, 1)
    raise FrameError(_TRUNCATED)


def _decode(path: Path) -> Rgb:
    try:
        samples = imagecodecs.png_decode(path.read_bytes())
    except (imagecodecs.PngError, ValueError) as error:
        if "too small" in str(error):
            raise FrameError(_TRUNCATED) from error
        raise FrameError(f"the PNG is damaged ({error}): upload it again") from error
    pixels = to_8_bit(samples, samples.dtype.itemsize * 8)
    colour = np.ascontiguousarray(pixels[..., :3])
    return over_white(colour, pixels[..., 3]) if pixels.shape[2] == 4 else colour
