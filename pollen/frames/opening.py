"""The front door: a file of any kind, opened as frames."""

from pathlib import Path

from pollen.frames.czi import open_czi
from pollen.frames.frame import FrameFile
from pollen.frames.jpeg import open_jpeg
from pollen.frames.kinds import Kind, check_kind
from pollen.frames.limits import MAX_WHOLE_PIXELS
from pollen.frames.png import open_png
from pollen.frames.tiff import open_tiff


def open_frames(path: Path, name: str, *, max_pixels: int = MAX_WHOLE_PIXELS) -> FrameFile:
    """Open a picture file; use as a context manager.

    Only headers are read here; pixels are decoded by `Frame.read`, under one lock per file.

    Args:
        path: the file, which may be a scratch copy with any name.
        name: the key as the user knows it; its suffix says what the file should hold.
        max_pixels: largest picture, or part of one, that is decoded in one piece; checked from the
            header before decoding. What can be read by region may be larger.

    Raises:
        FrameError: the file cannot be read as colour pictures; the text says why and what to do.
        OSError: `path` itself cannot be read, which is no property of the picture.
    """
    match check_kind(path, name):
        case Kind.JPEG:
            return open_jpeg(path, name, max_pixels)
        case Kind.PNG:
            return open_png(path, name, max_pixels)
        case Kind.TIFF:
            return open_tiff(path, name, max_pixels)
        case Kind.CZI:
            return open_czi(path, name)
