"""The front door: a picture file of any format, opened as frames."""

from pathlib import Path

from pollen.frames.czi import open_czi
from pollen.frames.formats import FileFormat, check_format
from pollen.frames.frame import FrameFile
from pollen.frames.jpeg import open_jpeg
from pollen.frames.limits import MAX_WHOLE_PIXELS
from pollen.frames.png import open_png
from pollen.frames.tiff import open_tiff


def open_frames(path: Path, name: str, *, max_pixels: int = MAX_WHOLE_PIXELS) -> FrameFile:
    """Open a picture file; use as a context manager.

    Only headers are read here; pixels are decoded by `Frame.read`, under one lock per file.

    Args:
        path: The file, which may be a scratch copy with any name.
        name: The key as the user knows it; its suffix says what the file should hold.
        max_pixels: Largest picture, or part of one, that is decoded in one piece; checked by the
            header before decoding. A picture that can be read by region may be larger.

    Raises:
        FrameError: If the file can't be read as colour pictures; the text says why and what to do.
        OSError: If `path` itself can't be read, which is no property of the picture.
    """
    match check_format(path, name):
        case FileFormat.JPEG:
            return open_jpeg(path, name, max_pixels)
        case FileFormat.PNG:
            return open_png(path, name, max_pixels)
        case FileFormat.TIFF:
            return open_tiff(path, name, max_pixels)
        case FileFormat.CZI:
            return open_czi(path, name)
