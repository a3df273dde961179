"""Reading inputs ahead of the model: several at once, in order, within a memory budget."""

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from pollen.frames import Frame, FrameError, FrameFile, Rgb, open_frames
from pollen.planning import Item
from tasks.faults import StorageError, UnusableNameError
from tasks.stage import healing
from tasks.storage import Store


@dataclass
class Input:
    """One input that was read, or why it could not be.

    Attributes:
        item: The input object.
        sha256: Of its bytes, ``None`` where they never came.
        file: Its frames, ``None`` where it can't be read.
        reason: Why it can't be read.
        transient: The reason may pass: the next run is to try again.
        held: Bytes of the budget it holds until it is given back.
        copy: A scratch copy to delete in the end.
        frames_left: Frames not yet finished.
    """

    item: Item
    sha256: str | None = None
    file: FrameFile | None = None
    reason: str = ""
    transient: bool = False
    held: int = 0
    copy: Path | None = field(default=None, repr=False)
    frames_left: int = 0


class Budget:
    """Bytes that may be held at once, given out strictly in turn.

    In turn, because a later input that took the last bytes before an earlier one would wait for
    it, and it for them. One input may always be held, whatever its size.
    """

    def __init__(self, limit_bytes: float) -> None:
        self._limit = limit_bytes
        self._held = 0
        self._turn = 0
        self._closed = False
        self._changed = threading.Condition()
        self.exhausted = False

    def take(self, turn: int, size: int) -> None:
        """Wait for ``turn``, then for ``size`` bytes.

        Raises:
            RuntimeError: The budget was closed meanwhile, because the batch ended early.
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

    def give_back(self, size: int) -> None:
        """Return bytes."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all who wait; they fail."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_for_input(self, future: "Future[Input]") -> bool:
        """Wait until ``future`` is done; ``False`` where the budget is used up before that."""
        future.add_done_callback(lambda _: self._wake())
        with self._changed:
            self._changed.wait_for(lambda: future.done() or self.exhausted)
        return future.done()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


class Reader:
    """Fetches and decodes the inputs of one batch."""

    def __init__(self, store: Store, scratch: Path, budget: Budget, max_pixels: int) -> None:
        self._fetch = healing(store.fetch)
        self._scratch = scratch
        self._budget = budget
        self._max_pixels = max_pixels
        self._lock = threading.Lock()

    def read(self, turn: int, item: Item) -> Input:
        """Read one input; whatever is wrong with it is told, not raised."""
        opened = Input(item)
        try:
            path = self._fetch(item.key, self._scratch)
            opened.copy = path if path.is_relative_to(self._scratch) else None
            with path.open("rb") as file:
                opened.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            opened.file = open_frames(path, item.key, max_pixels=self._max_pixels)
            opened.held = sum(frame.resident_bytes for frame in opened.file.frames)
            opened.frames_left = len(opened.file.frames)
        except (FrameError, UnusableNameError) as error:
            opened.reason = str(error)
        except (StorageError, OSError) as error:
            # Waiting did not help now; the next run tries again, even after a refusal that an
            # administrator may lift without touching the picture.
            opened.reason, opened.transient = str(error), True
        self._budget.take(turn, opened.held)
        self._decode_ahead(opened)
        return opened

    @staticmethod
    def _decode_ahead(opened: Input) -> None:
        """Decode where a file is decoded whole, so that the model does not wait for it."""
        try:
            for frame in opened.file.frames if opened.file else ():
                if frame.resident_bytes:
                    frame.read((0, 0, 1, 1))
        except (FrameError, OSError):
            return  # met again, and told, when the frame's tiles are read

    def frame_done(self, opened: Input) -> None:
        """Close an input behind its last frame."""
        with self._lock:
            opened.frames_left -= 1
            last = opened.frames_left == 0
        if last:
            self.close(opened)

    def close(self, opened: Input) -> None:
        """Give back what an input holds."""
        if opened.file is not None:
            opened.file.close()
        if opened.copy is not None:
            opened.copy.unlink(missing_ok=True)
        self._budget.give_back(opened.held)


def read_ahead(
    items: Sequence[Item],
    read: Callable[[int, Item], Input],
    budget: Budget,
    pool: ThreadPoolExecutor,
    ahead: int,
) -> Iterator[Input | None]:
    """Inputs in order, ``ahead`` of them on their way; ``None`` where the budget waits for the model."""
    on_the_way: deque[Future[Input]] = deque()
    waiting = iter(enumerate(items))
    while True:
        while len(on_the_way) <= ahead and (following := next(waiting, None)) is not None:
            on_the_way.append(pool.submit(read, *following))
        if not on_the_way:
            return
        while not budget.wait_for_input(on_the_way[0]):
            yield None
            budget.exhausted = False
        yield on_the_way.popleft().result()


@dataclass(frozen=True)
class OpenFrame:
    """A frame on its way through the model, and the input it belongs to."""

    frame: Frame
    owner: Input

    @property
    def width_px(self) -> int:
        """See :class:`pollen.detector.ReadableFrame`."""
        return self.frame.width_px

    @property
    def height_px(self) -> int:
        """See :class:`pollen.detector.ReadableFrame`."""
        return self.frame.height_px

    def read(self, box: tuple[int, int, int, int]) -> Rgb:
        """See :class:`pollen.detector.ReadableFrame`."""
        return self.frame.read(box)
