"""Reading pictures ahead of the model: several at once, in order, within a memory budget."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pollen.arrays import Pixels
from pollen.detection.batches import Item
from pollen.detection.pipeline import Flush
from pollen.frames import Frame, FrameFile, open_frames
from tasks.faults import failure_reason
from tasks.stage import healing
from tasks.storage.store import Store

REPLACED = "the picture was replaced while it was read; the next run counts it"


@dataclass
class OpenPicture:
    """A picture that was read, or the reason why it could not be.

    Attributes:
        item: The picture as it was listed.
        sha256: SHA-256 of its bytes; None if it could not be fetched.
        file: Its frames; None if it can't be read.
        reason: The reason why it can't be read.
        transient: Whether the next run tries again, because the reason may pass.
        held: Bytes of the budget it holds for its first frame.
        copy: A scratch copy to delete in the end.
        frames_left: Frames not yet finished.
        in_flight: Frames between reading and the end of writing.
    """

    item: Item
    sha256: str | None = None
    file: FrameFile | None = None
    reason: str = ""
    transient: bool = False
    held: int = 0
    copy: Path | None = field(default=None, repr=False)
    frames_left: int = 0
    in_flight: int = 0


class Budget:
    """Bytes that may be held at once, given out strictly in order.

    If a later picture took the last bytes before an earlier one, the two would wait for each other.
    One picture of any size may always be held.
    """

    def __init__(self, limit_bytes: float) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()
        self.exhausted = False

    def take(self, turn: int, size: int) -> None:
        """Wait for `turn`, then for `size` bytes.

        Raises:
            RuntimeError: If the budget was closed meanwhile, because the batch ended early.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turn == turn or self._closed)
            while self._held and self._held + size > self._limit and not self._closed:
                self.exhausted = True
                self._changed.notify_all()
                self._changed.wait()
            if self._closed:
                raise RuntimeError("the batch ended before this input was read")
            self.exhausted = False
            self._held += size
            self._turn += 1
            self._changed.notify_all()

    def take_more(self, size: int, owner: "OpenPicture") -> bool:
        """Take `size` bytes for a further frame of a picture that has its turn already.

        If there is no room, they are taken as soon as no earlier frame of the picture is in
        flight: one frame may always be held.

        Returns:
            Whether they were taken; if not, the model must finish the frames that wait before the
            next attempt.
        """
        with self._changed:
            if owner.in_flight and self._held + size > self._limit:
                return False
            self._held += size
            return True

    def wait_for_earlier(self, owner: "OpenPicture") -> None:
        """Wait until no frame of a picture is in flight."""
        with self._changed:
            self._changed.wait_for(lambda: not owner.in_flight or self._closed)

    def give_back(self, size: int) -> None:
        """Return bytes."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all threads that wait; they fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_input(self, future: "Future[OpenPicture]") -> bool:
        """Wait until `future` is done; return False if the budget is used up before that."""
        future.add_done_callback(lambda _: self._wake())
        with self._changed:
            self._changed.wait_for(lambda: future.done() or self.exhausted)
        return future.done()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Reader:
    """Fetches and decodes the pictures of one batch."""

    def __init__(self, store: Store, scratch: Path, budget: Budget, max_pixels: int) -> None:
        self._fetch = healing(store.fetch)
        self._version = healing(store.version)
        self._scratch = scratch
        self._budget = budget
        self._max_pixels = max_pixels
        self._lock = threading.Lock()

    def read(self, turn: int, item: Item) -> OpenPicture:
        """Read one picture; errors of any kind become its reason and are not raised."""
        opened = OpenPicture(item)
        try:
            self._open(opened)
        except Exception as error:  # noqa: BLE001  (one picture never stops the others)
            reason, transient = failure_reason(error)
            self._refuse(opened, reason, transient=transient)
        self._budget.take(turn, opened.held)
        self._decode_ahead(opened)
        return opened

    def _open(self, opened: OpenPicture) -> None:
        item = opened.item
        path = self._fetch(item.key, self._scratch)
        opened.copy = path if path.is_relative_to(self._scratch) else None
        with path.open("rb") as file:
            opened.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        opened.file = open_frames(path, item.key, max_pixels=self._max_pixels)
        opened.frames_left = len(opened.file.frames)
        opened.held = opened.file.frames[0].resident_bytes
        if self._version(item.key) != item.version:
            # Its bytes would be recorded under the version of other bytes.
            self._refuse(opened, REPLACED, transient=True)

    def _refuse(self, opened: OpenPicture, reason: str, *, transient: bool) -> None:
        if opened.file is not None:
            opened.file.close()
        opened.file, opened.held = None, 0
        opened.reason, opened.transient = reason, transient

    @staticmethod
    def _decode_ahead(opened: OpenPicture) -> None:
        """Decode the first frame, so that the model does not wait for it."""
        if opened.file is None or not opened.held:
            return
        with suppress(Exception):  # raised again, and recorded, when the frame's tiles are read
            opened.file.frames[0].read((0, 0, 1, 1))

    def frames_of(self, opened: OpenPicture) -> "Iterator[OpenFrame | Flush]":
        """Yield the frames of a picture within the budget; `Flush` if the model must finish some first."""
        for number, frame in enumerate(opened.file.frames if opened.file else ()):
            held = frame.resident_bytes if number else opened.held
            while number and not self._budget.take_more(held, opened):
                yield Flush.NOW
                self._budget.wait_for_earlier(opened)
            with self._lock:
                opened.in_flight += 1
            yield OpenFrame(frame, opened, held)

    def frame_done(self, frame: "OpenFrame") -> None:
        """Give back the memory of a frame, and close its picture after the last frame."""
        opened = frame.owner
        with self._lock:
            frame.frame.release()
            opened.in_flight -= 1
            opened.frames_left -= 1
            last = opened.frames_left == 0
        if last:
            self._close_file(opened)
        self._budget.give_back(frame.held)

    def close(self, opened: OpenPicture) -> None:
        """Give back the memory of a picture that has no frames."""
        self._close_file(opened)
        self._budget.give_back(opened.held)

    @staticmethod
    def _close_file(opened: OpenPicture) -> None:
        if opened.file is not None:
            opened.file.close()
        if opened.copy is not None:
            opened.copy.unlink(missing_ok=True)


def read_ahead(
    items: Sequence[Item],
    read: Callable[[int, Item], OpenPicture],
    budget: Budget,
    pool: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[OpenPicture | Flush]:
    """Yield pictures in order, reading `ahead` of them; `Flush` if the budget waits for the model."""
    pending: deque[Future[OpenPicture]] = deque()
    waiting = iter(enumerate(items))
    while True:
        while len(pending) <= ahead and (following := next(waiting, None)) is not None:
            pending.append(pool.submit(read, *following))
        if not pending:
            return
        while not budget.wait_for_input(pending[0]):
            yield Flush.NOW
            budget.exhausted = False
        yield pending.popleft().result()


@dataclass(frozen=True)
class OpenFrame:
    """A frame on its way through the model.

    Attributes:
        frame: Its pixels.
        owner: The picture it belongs to.
        held: Bytes of the budget that it holds.
    """

    frame: Frame
    owner: OpenPicture
    held: int

    @property
    def width_px(self) -> int:
        """See `pollen.detection.pipeline.ReadableFrame`."""
        return self.frame.width_px

    @property
    def height_px(self) -> int:
        """See `pollen.detection.pipeline.ReadableFrame`."""
        return self.frame.height_px

    @property
    def pixel_size_um(self) -> float | None:
        """See `pollen.detection.pipeline.ReadableFrame`."""
        return self.frame.pixel_size_um

    def read(self, box: tuple[int, int, int, int]) -> Pixels:
        """See `pollen.detection.pipeline.ReadableFrame`."""
        return self.frame.read(box)
