"""Reading micrographs: JPEG, PNG, TIFF, OME-TIFF and CZI as 8-bit RGB frames, by region."""

from pollen.frames.formats import SUFFIXES, is_picture
from pollen.frames.frame import Frame, FrameFile
from pollen.frames.frame_error import FrameError
from pollen.frames.limits import MAX_WHOLE_PIXELS
from pollen.frames.opening import open_frames
from pollen.frames.planes import Box

__all__ = [
    "MAX_WHOLE_PIXELS",
    "SUFFIXES",
    "Box",
    "Frame",
    "FrameError",
    "FrameFile",
    "is_picture",
    "open_frames",
]
