"""The pipeline: frames run through the model, the tiles of several frames filling each call."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pollen.arrays import Pixels
from pollen.detection.decoding import OutputError
from pollen.detection.detector import Detector
from pollen.detection.grains import Grains
from pollen.detection.profile import Profile
from pollen.detection.tiling import Tile, TileGrid, join_tiles


class Flush(Enum):
    """A request among the frames: run the tiles that wait now, in a call that is not full.

    Readers with a bounded memory send it if no further frame can come before the results of earlier
    ones have been taken and their memory given back.
    """

    NOW = "now"


class ReadableFrame(Protocol):
    """The part of a frame that detection needs; see `pollen.frames.Frame`."""

    @property
    def width_px(self) -> int:
        """Width in pixels."""
        ...

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        ...

    @property
    def pixel_size_um(self) -> float | None:
        """Width of a pixel in micrometres, if the file states it."""
        ...

    def read(self, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Return the region x0, y0, x1, y1 as `(h, w, 3)` uint8 RGB."""
        ...


F = TypeVar("F", bound=ReadableFrame)


@dataclass
class _Pending(Generic[F]):
    """A frame whose tiles are on their way through the model."""

    frame: F
    grid: TileGrid | None = None
    tiles: list[Tile] = field(default_factory=list)
    found: list[Grains] = field(default_factory=list)
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        """True if the model has seen every tile, or the frame failed."""
        return self.error is not None or len(self.found) == len(self.tiles)

    def cut(self, profile: Profile) -> Iterator[Pixels]:
        """Decide how to cut the frame and read its tiles one after the other."""
        frame = self.frame
        self.grid = profile.grid(frame.pixel_size_um, (frame.width_px, frame.height_px))
        self.tiles = self.grid.tiles(frame.width_px, frame.height_px)
        for tile in self.tiles:
            window = frame.read((tile.x.start, tile.y.start, tile.x.stop, tile.y.stop))
            yield self.grid.model_input(window)

    def result(self, merge_iou: float) -> Grains | Exception:
        """Return the grains of the frame, or the error it failed with."""
        if self.error is not None or self.grid is None:
            return self.error or RuntimeError("the frame was never cut into tiles")
        size = self.frame.width_px, self.frame.height_px
        return join_tiles(self.tiles, self.found, self.grid, size, merge_iou)


def detect_frames(
    frames: Iterable[F | Flush], detector: Detector
) -> Iterator[tuple[F, Grains | Exception]]:
    """Run frames through the model, the tiles of several frames filling each call.

    Args:
        frames: Frames in order, taken only as fast as the model needs them; `Flush` among them
            runs the tiles that wait.
        detector: The model; its profile decides how frames are cut.

    Yields:
        Each frame in order with its grains in frame pixels, or with the error of reading it or of
        the model's output for one of its tiles. Such a frame does not affect the others.
    """
    queue = _FrameQueue[F](detector)
    for frame in frames:
        if isinstance(frame, Flush):
            queue.flush()
        else:
            queue.add(frame)
        yield from queue.finished()
    queue.flush()
    yield from queue.finished()


class _FrameQueue(Generic[F]):
    """Frames in order and their tiles, waiting for the model."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._frames: deque[_Pending[F]] = deque()
        self._tiles: list[tuple[_Pending[F], Pixels]] = []

    def add(self, frame: F) -> None:
        """Queue a frame; the model runs whenever a batch of tiles is full."""
        pending = _Pending(frame)
        self._frames.append(pending)
        tiles = pending.cut(self._detector.profile)
        while True:
            try:
                tile = next(tiles, None)
            except Exception as error:  # noqa: BLE001  (one frame must not affect the others)
                pending.error = error
                self._tiles = [waiting for waiting in self._tiles if waiting[0] is not pending]
                return
            if tile is None:
                return
            self._tiles.append((pending, tile))
            if len(self._tiles) >= self._detector.batch:
                self.flush()
                if pending.error is not None:
                    return

    def flush(self) -> None:
        """Run the model on the tiles that wait."""
        found = self._detector.detect_each([tile for _, tile in self._tiles])
        for (pending, _), grains in zip(self._tiles, found, strict=True):
            if isinstance(grains, OutputError):
                pending.error = grains
            else:
                pending.found.append(grains)
        self._tiles = []

    def finished(self) -> Iterator[tuple[F, Grains | Exception]]:
        """Take off the leading frames that are finished."""
        while self._frames and self._frames[0].finished:
            pending = self._frames.popleft()
            yield pending.frame, pending.result(self._detector.profile.merge_iou)
