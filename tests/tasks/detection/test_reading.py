"""Reading ahead: in order, within the budget, and never waiting for itself."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pollen.detection.batches import Item
from pollen.detection.pipeline import Flush
from pollen.frames import frame as frames
from tasks.detection.reading import REPLACED, Budget, OpenFrame, OpenPicture, Reader, read_ahead
from tasks.storage.folders import FolderStore
from tests.support.pictures import picture

PAGES = 8
SIDE_PX = 256


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def item(store: FolderStore, key: str) -> Item:
    return Item(key, store.version(key), 1)


def reader(store: FolderStore, limit_bytes: float = 1e9) -> tuple[Reader, Budget]:
    budget = Budget(limit_bytes)
    return Reader(store, store.root, budget, 10**8), budget


def stack(store: FolderStore) -> Item:
    """A compressed TIFF of several pages: each is kept decoded until it is released."""
    pages = np.random.default_rng(0).integers(0, 255, (PAGES, SIDE_PX, SIDE_PX, 3), np.uint8)
    path = store.path("stack.tif")
    tifffile.imwrite(path, pages, photometric="rgb", compression="zlib")
    return item(store, "stack.tif")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=30), st.integers(1, 4))
def test_inputs_come_in_order_and_the_budget_holds(sizes: list[int], threads: int) -> None:
    """Whatever the sizes: nothing waits for ever, and only a single input may exceed the limit."""
    limit = 50
    budget = Budget(limit)
    held: list[int] = []
    most = 0

    def read(turn: int, wanted: Item) -> OpenPicture:
        budget.take(turn, sizes[turn])
        return OpenPicture(wanted, held=sizes[turn])

    items = [Item(str(number), "", 0) for number in range(len(sizes))]
    order = []
    with ThreadPoolExecutor(threads) as pool:
        for opened in read_ahead(items, read, budget, pool, ahead=threads):
            if isinstance(opened, Flush):  # the model runs what waits, which gives all of it back
                while held:
                    budget.give_back(held.pop())
                continue
            held.append(opened.held)
            most = max(most, sum(held) if len(held) > 1 else 0)
            order.append(opened.item.key)
    assert order == [each.key for each in items]
    assert most <= limit


def test_pages_of_a_file_are_let_in_as_earlier_ones_are_given_back(store: FolderStore) -> None:
    wanted = stack(store)
    one_page = SIDE_PX * SIDE_PX * 3
    reading, budget = reader(store, limit_bytes=1.5 * one_page)
    opened = reading.read(0, wanted)
    assert opened.file is not None
    resident: list[int] = []
    seen: list[str] = []
    waiting: list[OpenFrame] = []
    for frame in reading.frames_of(opened):
        if isinstance(frame, Flush):
            for each in waiting:
                reading.frame_done(each)
            waiting.clear()
            continue
        frame.read((0, 0, SIDE_PX, SIDE_PX))
        waiting.append(frame)
        resident.append(opened.in_flight)
        seen.append(frame.frame.name)
    for each in waiting:
        reading.frame_done(each)
    assert seen == [f"stack.tif#page={number}" for number in range(1, PAGES + 1)]
    assert max(resident) == 1
    assert budget.take_more(
        int(1.5 * one_page), OpenPicture(wanted, in_flight=1)
    )  # all was given back


def test_a_file_is_closed_behind_its_last_page(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    close = frames.FrameFile.close

    def noticed(self: frames.FrameFile) -> None:
        closed.set()
        close(self)

    monkeypatch.setattr(frames.FrameFile, "close", noticed)
    reading, _ = reader(store)
    opened = reading.read(0, stack(store))
    all_frames: Iterator[OpenFrame | Flush] = reading.frames_of(opened)
    for number, frame in enumerate(all_frames, 1):
        assert isinstance(frame, OpenFrame)
        assert not closed.is_set()
        reading.frame_done(frame)
        assert closed.is_set() == (number == PAGES)


def test_a_picture_replaced_while_it_is_read_is_left_to_the_next_run(store: FolderStore) -> None:
    store.write("a.png", picture(0))
    listed = item(store, "a.png")
    store.write("a.png", picture(1) + b"longer")
    reading, _ = reader(store)
    opened = reading.read(0, listed)
    assert opened.file is None
    assert (opened.reason, opened.transient) == (REPLACED, True)


def test_an_unforeseen_error_with_one_picture_is_recorded_and_tried_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("tasks.detection.reading.open_frames", broken)
    store.write("a.png", picture(0))
    reading, _ = reader(store)
    opened = reading.read(0, item(store, "a.png"))
    assert "unexpected error (ZeroDivisionError: a mistake of ours)" in opened.reason
    assert opened.transient


def test_a_closed_budget_wakes_all_that_wait() -> None:
    budget = Budget(10)
    budget.take(0, 10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(budget.take, 1, 5)
        budget.close()
        with pytest.raises(RuntimeError, match="ended before"):
            waiting.result(timeout=10)
