"""Pixels as stored, by region: planes of samples and the source that makes them RGB."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import Pixels
from pollen.frames.colour import (
    DARK_16_BIT_BELOW,
    DARK_16_BIT_NOTE,
    GREY_RGB_REASON,
    over_white,
    to_8_bit,
)
from pollen.frames.frame_error import FrameError

#: A region (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
Box = tuple[int, int, int, int]


#: Stored samples (height, width, samples per pixel), uint8 or uint16, native byte order.
Samples = NDArray[Any]

#: Bound of the decoded strips or tiles that a frame keeps, bytes: three rows of 1024 px tiles of a
#: slide 30,000 px wide, so that reading row by row decodes each part once.
CACHE_BYTES = 256 * 2**20


class Plane(Protocol):
    """One stored plane of a frame."""

    @property
    def resident_bytes(self) -> int:
        """The upper bound of what stays in memory between reads, bytes."""

    def read(self, box: Box) -> Samples:
        """Return the samples of a region, a new C-contiguous array."""

    def release(self) -> None:
        """Forget what is kept in memory."""


class WholePlane:
    """Samples of a format that is decoded in one piece (JPEG, PNG), on the first read."""

    def __init__(self, decode: Callable[[], Samples], resident_bytes: int) -> None:
        """Decode with `decode`, which returns an array of `resident_bytes`."""
        self._decode = decode
        self.resident_bytes = resident_bytes
        self._samples: Samples | None = None

    def read(self, box: Box) -> Samples:
        """See `Plane`."""
        if self._samples is None:
            self._samples = self._decode()
        x0, y0, x1, y1 = box
        return self._samples[y0:y1, x0:x1].copy()

    def release(self) -> None:
        """See `Plane`."""
        self._samples = None


class MappedPlane:
    """Uncompressed samples in one stretch of the file, mapped for the time of a read only.

    A mapping that lived longer would count every page ever read as resident memory.
    """

    resident_bytes = 0

    def __init__(
        self, path: Path, offset: int, shape: tuple[int, int, int], dtype: np.dtype[Any]
    ) -> None:
        """Map samples of `shape` (height, width, samples) and `dtype` (with its byte order)."""
        self._path = path
        self._offset = offset
        self._shape = shape
        self._dtype = dtype

    def read(self, box: Box) -> Samples:
        """See `Plane`."""
        x0, y0, x1, y1 = box
        _, width, samples = self._shape
        start = self._offset + y0 * width * samples * self._dtype.itemsize
        rows = np.memmap(
            self._path, self._dtype, mode="r", offset=start, shape=(y1 - y0, width, samples)
        )
        return np.array(rows[:, x0:x1], dtype=self._dtype.newbyteorder("="))

    def release(self) -> None:
        """Do nothing: no pixels are kept."""


@dataclass
class Segments:
    """Strips or tiles of one plane, decoded when needed, the least recently used forgotten.

    Attributes:
        shape: `(height, width, samples)` of the plane.
        segment_px: `(height, width)` of a strip or tile; the last ones may reach over the plane.
        decode: Returns segment number i, counted row by row, as `(height, width, samples)`.
        dtype: Type of the samples.
        cache_bytes: Bound of what is kept.
    """

    shape: tuple[int, int, int]
    segment_px: tuple[int, int]
    decode: Callable[[int], Samples]
    dtype: np.dtype[Any]
    cache_bytes: int = CACHE_BYTES
    _kept: "OrderedDict[int, Samples]" = field(default_factory=OrderedDict)
    _kept_bytes: int = 0

    @property
    def resident_bytes(self) -> int:
        """The size of the whole plane, or the bound of the cache if that is smaller."""
        height, width, samples = self.shape
        return min(self.cache_bytes, height * width * samples * self.dtype.itemsize)

    def read(self, box: Box) -> Samples:
        """See `Plane`."""
        x0, y0, x1, y1 = box
        high, wide = self.segment_px
        columns = -(-self.shape[1] // wide)
        pixels = np.empty((y1 - y0, x1 - x0, self.shape[2]), self.dtype)
        for row in range(y0 // high, -(-y1 // high)):
            for column in range(x0 // wide, -(-x1 // wide)):
                top, left = row * high, column * wide
                segment = self._segment(row * columns + column)
                part = segment[max(y0 - top, 0) : y1 - top, max(x0 - left, 0) : x1 - left]
                y, x = max(top - y0, 0), max(left - x0, 0)
                pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
        return pixels

    def release(self) -> None:
        """See `Plane`."""
        self._kept.clear()
        self._kept_bytes = 0

    def _segment(self, index: int) -> Samples:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        segment = self.decode(index)
        self._kept[index] = segment
        self._kept_bytes += segment.nbytes
        while self._kept_bytes > self.cache_bytes and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return segment


@dataclass(frozen=True)
class ColourRule:
    """The way from stored samples to RGB.

    Attributes:
        bits: Significant bits per sample.
        bits_known: Whether the file's metadata state them; a 12-bit camera in 16-bit samples is
            known by metadata only.
        alpha: "straight" or "premultiplied" if a fourth sample, if any, is an opacity.
        palette: `(entries, 3)` uint8 colours if the single sample is an index, else None.
    """

    bits: int
    bits_known: bool = True
    alpha: str | None = None
    palette: Pixels | None = None


class PlanesSource:
    """RGB of a frame stored as one plane, or as three planes red, green, blue."""

    def __init__(self, planes: tuple[Plane, ...], rule: ColourRule) -> None:
        """Read `planes` (one of several samples, or one per sample) by `rule`."""
        self._planes = planes
        self._rule = rule
        self._brightest = -1
        self._coloured = False
        self._darkest_grey, self._lightest_grey = 255, 0

    @property
    def resident_bytes(self) -> int:
        """The sum over the planes."""
        return sum(plane.resident_bytes for plane in self._planes)

    def read(self, box: Box) -> Pixels:
        """Return the pixels of a region as stored (before orientation), a new array."""
        pixels = self._rgb(box)
        if not self._coloured:
            self._note_colour(pixels)
        return pixels

    def _rgb(self, box: Box) -> Pixels:
        parts = [plane.read(box) for plane in self._planes]
        samples = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        rule = self._rule
        if rule.palette is not None:
            return rule.palette[np.minimum(samples[..., 0], len(rule.palette) - 1)]
        if not rule.bits_known:
            self._brightest = max(self._brightest, int(samples[..., :3].max()))
        pixels = to_8_bit(samples, rule.bits)
        colour = np.ascontiguousarray(pixels[..., :3])
        if rule.alpha is None or samples.shape[2] < 4:
            return colour
        return over_white(colour, pixels[..., 3], premultiplied=rule.alpha == "premultiplied")

    def _note_colour(self, pixels: Pixels) -> None:
        """Note whether a region shows colour; most pictures do in the first pixels read, which settles it."""
        red, green, blue = (pixels[..., channel] for channel in range(3))
        self._coloured = not (np.array_equal(red, green) and np.array_equal(green, blue))
        self._darkest_grey = min(self._darkest_grey, int(red.min()))
        self._lightest_grey = max(self._lightest_grey, int(red.max()))

    def check_colour(self) -> None:
        """Refuse a grey picture once all of it was read; a single even tone is an empty field.

        Raises:
            FrameError: If it is grey, so that every grain would be called non-viable.
        """
        if not self._coloured and self._darkest_grey < self._lightest_grey:
            raise FrameError(GREY_RGB_REASON)

    def release(self) -> None:
        """Forget what the planes keep in memory."""
        for plane in self._planes:
            plane.release()

    def notes(self) -> tuple[str, ...]:
        """Return a warning if everything read so far looks like fewer bits than 16."""
        return (DARK_16_BIT_NOTE,) if 0 <= self._brightest < DARK_16_BIT_BELOW else ()
