"""A frame of any size as one picture of bounded size."""

import math

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.detection.pipeline import ReadableFrame

#: Rows of the frame that are in memory at once while it is made smaller.
BAND_PX = 2048
#: A JPEG's sides have 16 bits; some room is left for the legend.
LONGEST_SIDE_PX = 60_000


def fitted_scale(width_px: int, height_px: int, max_megapixels: float) -> float:
    """Return the largest scale, at most 1, at which the frame fits `max_megapixels` and a JPEG."""
    by_area = math.sqrt(max_megapixels * 1e6 / (width_px * height_px))
    return min(1.0, by_area, LONGEST_SIDE_PX / max(width_px, height_px))


def whole_picture(frame: ReadableFrame, scale: float) -> Pixels:
    """Return the frame at `scale` <= 1 as `(h, w, 3)` uint8 RGB, read in bands if it is made smaller."""
    if scale >= 1:
        return frame.read((0, 0, frame.width_px, frame.height_px))
    width, height = max(1, round(frame.width_px * scale)), max(1, round(frame.height_px * scale))
    picture = np.empty((height, width, 3), np.uint8)
    rows_at_once = max(1, int(BAND_PX * scale))
    for top in range(0, height, rows_at_once):
        bottom = min(top + rows_at_once, height)
        y0, y1 = round(top * frame.height_px / height), round(bottom * frame.height_px / height)
        band = frame.read((0, y0, frame.width_px, y1))
        picture[top:bottom] = cv2.resize(band, (width, bottom - top), interpolation=cv2.INTER_AREA)
    return picture
