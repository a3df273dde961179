"""Frames: the pictures inside a file, read by region as 8-bit RGB."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType

import numpy as np

from pollen.arrays import Pixels
from pollen.frames.orientation import oriented, oriented_box, swaps_sides
from pollen.frames.planes import Box, PlanesSource

FOCUS_NOTE = (
    "the file holds several focus planes (Z), and each is counted as a picture of its own: if they "
    "show one field, upload only the sharpest"
)
TIME_NOTE = (
    "the file holds several time points (T), and each is counted as a picture of its own: if they "
    "show one field, upload only one"
)


class Frame:
    """One picture of a file: a page of a TIFF, a scene of a CZI, or the whole file.

    Attributes:
        name: The file's key; in a file of several frames followed by `#page=2` or `#scene=2`,
            counted from 1.
        width_px: Width as a viewer shows the picture (after its EXIF or TIFF orientation), pixels.
        height_px: Height, likewise.
        pixel_size_um: Side of a pixel in micrometres if the file states it, else None.
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
            name: See the class.
            size_px: Stored width and height, before `orientation` is applied.
            source: Reads stored pixels; called under `lock` only.
            lock: One per file, because decoders and file handles are not safe in two threads.
            pixel_size_um: See the class.
            orientation: EXIF/TIFF orientation, 1 to 8, see `oriented_box`.
            notes: What is known before any pixel is read.
        """
        self.name = name
        self.width_px, self.height_px = size_px[::-1] if swaps_sides(orientation) else size_px
        self.pixel_size_um = pixel_size_um
        self._stored_size_px = size_px
        self._source = source
        self._lock = lock
        self._orientation = orientation
        self._notes = notes
        self._closed = False

    @property
    def resident_bytes(self) -> int:
        """The upper bound of the memory that reading this frame keeps until `release`, bytes."""
        return self._source.resident_bytes

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about the pixels for a person; complete once all of them were read."""
        return self._notes + self._source.notes()

    def check_colour(self) -> None:
        """Refuse a picture that turned out to be grey; only reliable once all of it was read.

        Raises:
            FrameError: If every pixel read is grey and the tones differ.
        """
        self._source.check_colour()

    def read(self, box: Box | None = None) -> Pixels:
        """Return the pixels of a region, by default of the whole frame.

        Neighbouring regions are read fastest row by row, left to right: what the decoder keeps
        is bounded and forgets the least recently used part.

        Args:
            box: `(x0, y0, x1, y1)` in frame pixels, not empty and inside the frame.

        Returns:
            `(y1 - y0, x1 - x0, 3)` uint8 RGB, C-contiguous, the caller's own copy.

        Raises:
            FrameError: If the pixels can't be decoded (damaged or truncated file).
            IndexError: If the box is empty or not inside the frame, a mistake of the caller.
            RuntimeError: If the file was closed, likewise.
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
        return np.ascontiguousarray(oriented(pixels, self._orientation))

    def release(self) -> None:
        """Forget decoded pixels; a later read decodes again. `FrameFile.close` does so for all frames.

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
        """Return name and size, for logs."""
        return f"Frame({self.name!r}, {self.width_px} x {self.height_px} px)"


class FrameFile(AbstractContextManager["FrameFile"]):
    """An open picture file and its frames; a context manager that closes it."""

    def __init__(self, name: str, frames: tuple[Frame, ...], close: Callable[[], None]) -> None:
        """Hold `frames` of the file `name`; `close` releases what they read from."""
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
    """Return the lock of one file, shared by its frames."""
    return threading.RLock()


def stack_notes(sizes: Mapping[str, int]) -> tuple[str, ...]:
    """Return notes about the frames of a file with these axes: focus planes (Z), time points (T).

    Args:
        sizes: Length of each axis by its letter, as TIFF and CZI name them.
    """
    notes = {"Z": FOCUS_NOTE, "T": TIME_NOTE}
    return tuple(note for axis, note in notes.items() if sizes.get(axis, 1) > 1)
