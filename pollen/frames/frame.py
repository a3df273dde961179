"""Frames: the pictures inside a file, read by region as 8-bit RGB."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import numpy as np

from pollen.arrays import Pixels
from pollen.frames.planes import Box, PlanesSource


class Frame:
    """One picture of a file: a page of a TIFF, a scene of a CZI, or the whole file.

    Attributes:
        name: the file's key; in a file of several frames with `#page=2` or `#scene=2` behind it,
            counted from 1.
        width_px: width as a viewer shows the picture (after its EXIF or TIFF orientation), pixels.
        height_px: height, likewise.
        pixel_size_um: side of a pixel in micrometres where the file says it, else None.
    """

    def __init__(
        self,
        name: str,
        *,
        size_px: tuple[int, int],
        source: PlanesSource,
        lock: AbstractContextManager[bool],
        pixel_size_um: float | None = None,
        orientation: int = 1,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Wrap `source`, whose stored size is `size_px` (width, height).

        Args:
            name: see the class.
            size_px: stored width and height, before `orientation` is applied.
            source: reads stored pixels; called under `lock` only.
            lock: one per file, because decoders and file handles are not safe in two threads.
            pixel_size_um: see the class.
            orientation: EXIF/TIFF orientation, 1 to 8, see `oriented_box`.
            notes: what is known before any pixel is read.
        """
        self.name = name
        turned = orientation >= _FIRST_TURNED
        self.width_px, self.height_px = size_px[::-1] if turned else size_px
        self.pixel_size_um = pixel_size_um
        self._stored_size_px = size_px
        self._source = source
        self._lock = lock
        self._orientation = orientation
        self._notes = notes
        self._closed = False

    @property
    def resident_bytes(self) -> int:
        """Upper bound of the memory that reading this frame keeps until `release`, bytes."""
        return self._source.resident_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know about the pixels; complete once all of them were read."""
        return self._notes + self._source.notes()

    def check_colour(self) -> None:
        """Refuse a picture that turned out to hold greys only; tells once all of it was read.

        Raises:
            FrameError: it does.
        """
        self._source.check_colour()

    def read(self, box: Box | None = None) -> Pixels:
        """Pixels of a region, the whole frame by default.

        Neighbouring regions are read fastest row by row, left to right: what the decoder keeps
        is bounded and forgets the least recently used part.

        Args:
            box: (x0, y0, x1, y1) in frame pixels, not empty and inside the frame.

        Returns:
            (y1 - y0, x1 - x0, 3) uint8 RGB, C-contiguous, the caller's own copy.

        Raises:
            FrameError: the pixels cannot be decoded (damaged or truncated file).
            IndexError: the box is empty or not inside the frame, a mistake of the caller.
            RuntimeError: the file was closed, likewise.
        """
        x0, y0, x1, y1 = box or (0, 0, self.width_px, self.height_px)
        if not (0 <= x0 < x1 <= self.width_px and 0 <= y0 < y1 <= self.height_px):
            size = f"{self.width_px} x {self.height_px} px"
            raise IndexError(
                f"{self.name}: box {(x0, y0, x1, y1)} is not inside the frame ({size})"
            )
        stored = oriented_box((x0, y0, x1, y1), self._stored_size_px, self._orientation)
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self.name}: its file was closed before this read")
            pixels = self._source.read(stored)
        return np.ascontiguousarray(orient(pixels, self._orientation))

    def release(self) -> None:
        """Forget decoded pixels; a later read decodes again. `FrameFile.close` does it for all.

        Worth calling between the frames of one file, each of which keeps its own pixels.
        """
        with self._lock:
            self._source.release()

    def close(self) -> None:
        """Release the pixels for good; called by `FrameFile.close`."""
        with self._lock:
            self._closed = True
            self._source.release()

    def __repr__(self) -> str:
        """Name and size, for logs."""
        return f"Frame({self.name!r}, {self.width_px} x {self.height_px} px)"


class FrameFile(AbstractContextManager["FrameFile"]):
    """An open picture file and its frames; a context manager that closes it."""

    def __init__(self, name: str, frames: tuple[Frame, ...], close: Callable[[], None]) -> None:
        """Hold `frames` of the file `name`; `close` gives back what they read from."""
        self.name = name
        self.frames = frames
        self._close = close

    def close(self) -> None:
        """Release every frame and the file; a read that is under way ends first."""
        for frame in self.frames:
            frame.close()
        close, self._close = self._close, lambda: None  # closing twice is allowed
        close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file, whatever happened inside the block."""
        self.close()


def new_lock() -> AbstractContextManager[bool]:
    """The lock of one file, shared by its frames."""
    return threading.RLock()


_FIRST_TURNED = 5
"""Orientations from here on swap width and height."""


def oriented_box(box: Box, stored_size_px: tuple[int, int], orientation: int) -> Box:
    """The stored region that shows as `box` once turned to `orientation`.

    Args:
        box: region in the picture as shown.
        stored_size_px: stored width and height.
        orientation: 1 to 8 as in EXIF and TIFF (tag 274): where the stored first row and first
            column are shown: 1 top left, 2 top right, 3 bottom right, 4 bottom left, and turned,
            5 left top, 6 right top, 7 right bottom, 8 left bottom.
    """
    width, height = stored_size_px
    x0, y0, x1, y1 = box
    if orientation >= _FIRST_TURNED:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1


def orient(pixels: Pixels, orientation: int) -> Pixels:
    """Stored pixels (height, width, 3) turned to how they are shown; a view."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.transpose(1, 0, 2) if orientation >= _FIRST_TURNED else pixels
