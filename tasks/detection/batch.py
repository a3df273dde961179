"""The batch: the unit of work that is safe to repeat.

Pictures are fetched and decoded ahead of the model, their tiles share its calls, annotated pictures
are drawn and written after it, and the records are written last. A batch that is killed leaves
either no record or all of them.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import polars as pl

from pollen.columns import GRAIN_RECORD, IMAGE_RECORD, FrameStatus
from pollen.detection.batches import Batch
from pollen.detection.detector import Detector
from pollen.detection.pipeline import Flush, detect_frames
from pollen.detection.profile import Profile
from pollen.errors import PollenError
from tasks.detection.reading import Budget, OpenFrame, Reader, read_ahead
from tasks.detection.records import write_records
from tasks.detection.work import Work
from tasks.detection.writing import FrameResult, FrameWriter
from tasks.models.resolve import Model
from tasks.progress import BatchProgress, Progress
from tasks.stage import BATCHES_AT_ONCE, Pool, logger, stage
from tasks.storage.local_copies import cache_folder
from tasks.storage.scratch import scratch_folder
from tasks.storage.store import Store, open_store

BYTES_PER_PIXEL = 3


@dataclass(frozen=True)
class BatchResult:
    """The result of a batch: how many frames it has, and how many of them failed."""

    frames: int
    failed: int


_detectors: dict[Profile, Detector] = {}
_making = threading.Lock()


def detector_for(model: Model, profile: Profile) -> Detector:
    """Return the detector of this process; it is made once, and replaced if the profile is another one."""
    with _making:
        if profile not in _detectors:
            _detectors.clear()
            _detectors[profile] = Detector(model.weights, model.card, profile, cache_folder())
        return _detectors[profile]


@stage("load model {model.card.version}")
def load_model(model: Model, profile: Profile) -> None:
    """Prepare the model before any batch starts, so that a broken one fails once and clearly.

    Raises:
        PollenError: If the model can't be used.
    """
    try:
        # Without the stated pixel size: files may state their own, and a wrong one fails single pictures.
        replace(profile, pixel_size_um=None).grid()
        detector_for(model, profile)
    except OSError as error:
        raise PollenError(
            f"the model can't be prepared in {cache_folder()} ({error}): set POLLEN_CACHE_DIR to a folder that "
            "can be written"
        ) from error


@stage("{title}")
def detect_batch(batch: Batch, work: Work, progress: Progress, title: str = "batch") -> BatchResult:
    """Count the pictures of one batch and commit the result.

    Args:
        batch: The pictures.
        work: Everything that the batches of a run have in common.
        progress: Receives what has been counted.
        title: The name of the batch for people.

    Raises:
        PollenError: If the store can't be written, or the model can't be used. Pictures that
            can't be read are rows, not errors.
    """
    started = time.monotonic()
    # Two attempts never write the same files, so grains and image rows of one name belong together.
    attempt = f"{batch.id}-{uuid4().hex[:8]}"
    output = open_store(work.output)
    shown = BatchProgress(progress, title, len(batch.items))
    results = _count(batch, attempt, work, output, shown)
    images = pl.DataFrame([result.image for result in results], schema=IMAGE_RECORD)
    grains = pl.concat([pl.DataFrame(schema=GRAIN_RECORD), *(result.grains for result in results)])
    write_records(output, work.records, attempt, images, grains)
    failed = images.filter(pl.col("status") == str(FrameStatus.FAILED)).height
    seconds = time.monotonic() - started
    shown.ended()
    name = f"{title} ({batch.label})"
    logger().info("%s: %d frames, %d failed, %.1f s", name, len(results), failed, seconds)
    return BatchResult(len(results), failed)


def _count(
    batch: Batch, attempt: str, work: Work, output: Store, progress: Progress
) -> list[FrameResult]:
    """Run a batch through reading, model and writing."""
    settings = work.settings
    budget = Budget(settings.memory_megapixels * 1e6 * BYTES_PER_PIXEL / BATCHES_AT_ONCE)
    detector = detector_for(work.model, work.profile)
    with (
        scratch_folder("batch") as scratch,
        Pool(settings.io_threads, thread_name_prefix="read") as readers,
        Pool(settings.io_threads, thread_name_prefix="write") as writers,
    ):
        most = int(settings.frame_max_megapixels * 1e6)
        reader = Reader(open_store(work.source), Path(scratch), budget, most)
        writer = FrameWriter(attempt, work, output, reader, progress)
        inputs = read_ahead(batch.items, reader.read, budget, readers, 2 * settings.io_threads)
        results = _Results()

        def frames() -> Iterator[OpenFrame | Flush]:
            for opened in inputs:
                if isinstance(opened, Flush):
                    yield opened
                elif opened.file is None:
                    results.add(writers.submit(writer.unreadable, opened))
                else:
                    yield from reader.frames_of(opened)

        try:
            for frame, found in detect_frames(frames(), detector):
                results.add(writers.submit(writer.finish, frame, found))
            return results.all()
        finally:
            budget.close()
            readers.shutdown(cancel_futures=True)
            writers.shutdown(cancel_futures=True)


class _Results:
    """Results that are being written; a failure is raised soon, not after the last picture."""

    def __init__(self) -> None:
        self._futures: list[Future[FrameResult]] = []
        self._checked = 0

    def add(self, future: Future[FrameResult]) -> None:
        """Add one; raise the error of an earlier one that failed."""
        self._futures.append(future)
        while self._futures[self._checked].done():
            self._futures[self._checked].result()
            self._checked += 1
            if self._checked == len(self._futures):
                return

    def all(self) -> list[FrameResult]:
        """Wait for all and return them."""
        return [future.result() for future in self._futures]
