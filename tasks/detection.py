"""The batch: the unit of work that is safe to repeat.

Inputs are fetched and decoded ahead of the model, their tiles share its calls, annotated pictures
are drawn and written behind it, and the records come last. A batch that is killed anywhere leaves
no record, or all of them.
"""

import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pollen.annotate import annotate, encode_jpeg
from pollen.canvas import fitted_scale, whole_picture
from pollen.counting import CountedFrame, count_frame
from pollen.detector import Detector, Profile, detect_frames
from pollen.grains import Grains
from pollen.layout import annotated_key
from pollen.legend import Caption
from pollen.measurement import Origin, Row, counted_row, failed_row, grain_rows, scale_flags
from pollen.model_card import ModelError
from pollen.planning import Batch
from pollen.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.tables import GRAIN_RECORD, IMAGE_RECORD, Status
from pollen.tiling import TileGrid
from tasks.faults import PollenError, UnusableNameError
from tasks.progress import Progress
from tasks.reading import Budget, Input, OpenFrame, Reader, read_ahead
from tasks.records import write_records
from tasks.registry import Model, cache_folder
from tasks.stage import BATCHES_AT_ONCE, Pool, healing, logger, stage
from tasks.storage import Location, Store, open_store

BYTES_PER_PIXEL = 3


@dataclass(frozen=True)
class Work:
    """What all batches of a run have in common."""

    source: Location
    output: Location
    model: Model
    profile: Profile
    settings: DetectSettings
    records: str


@dataclass(frozen=True)
class BatchResult:
    """What became of a batch."""

    frames: int
    failed: int


@dataclass(frozen=True)
class _FrameResult:
    image: Row
    grains: pl.DataFrame


_detectors: dict[Profile, Detector] = {}
_making = threading.Lock()


def detector_for(model: Model, profile: Profile) -> Detector:
    """The detector of this process; made once, shared by batches, and replaced by the next model."""
    with _making:
        if profile not in _detectors:
            _detectors.clear()
            _detectors[profile] = Detector(model.weights, model.card, profile, cache_folder())
        return _detectors[profile]


@stage("load model {model.card.version}")
def load_model(model: Model, profile: Profile) -> None:
    """Prepare the model before any batch starts, so that a broken one fails once and clearly.

    Raises:
        PollenError: The model can't be used.
    """
    try:
        detector_for(model, profile).grid(None)
    except ValueError as error:  # a broken model, or grains that do not fit its window
        raise PollenError(str(error)) from error
    except OSError as error:
        raise PollenError(
            f"the model can't be prepared in {cache_folder()} ({error}): set POLLEN_CACHE_DIR to a folder that "
            "can be written"
        ) from error


@stage("count {batch.label}")
def detect_batch(batch: Batch, work: Work, progress: Progress) -> BatchResult:
    """Count the pictures of one batch and commit the result.

    Raises:
        PollenError: The store can't be written, or the model can't be used. Pictures that can't
            be read are rows, not errors.
    """
    started = time.monotonic()
    try:
        results = _count(batch, work, progress)
    except ModelError as error:
        raise PollenError(str(error)) from error
    images = pl.DataFrame([result.image for result in results], schema=IMAGE_RECORD)
    grains = pl.concat([pl.DataFrame(schema=GRAIN_RECORD), *(result.grains for result in results)])
    write_records(open_store(work.output), work.records, batch.id, images, grains)
    failed = images.filter(pl.col("status") == str(Status.FAILED)).height
    logger().info(
        "%s: %d frames, %d failed, %.1f s",
        batch.label,
        len(results),
        failed,
        time.monotonic() - started,
    )
    return BatchResult(len(results), failed)


def _count(batch: Batch, work: Work, progress: Progress) -> list[_FrameResult]:
    """Run a batch through reading, model and writing."""
    settings = work.settings
    budget = Budget(settings.memory_megapixels * 1e6 * BYTES_PER_PIXEL / BATCHES_AT_ONCE)
    detector = detector_for(work.model, work.profile)
    with (
        tempfile.TemporaryDirectory(prefix="pollen-batch-") as scratch,
        Pool(settings.io_threads, thread_name_prefix="read") as readers,
        Pool(settings.io_threads, thread_name_prefix="write") as writers,
    ):
        reader = Reader(
            open_store(work.source), Path(scratch), budget, int(settings.frame_max_megapixels * 1e6)
        )
        finisher = _Finisher(batch.id, work, reader, progress)
        results: list[Future[_FrameResult]] = []

        def frames() -> Iterator[OpenFrame | None]:
            for opened in read_ahead(
                batch.items, reader.read, budget, readers, 2 * settings.io_threads
            ):
                if opened is None:
                    yield None
                elif opened.file is None:
                    results.append(writers.submit(finisher.unreadable, opened))
                else:
                    for frame in opened.file.frames:
                        yield OpenFrame(frame, opened)

        def grid_of(frame: OpenFrame) -> TileGrid:
            return detector.grid(finisher.pixel_size_um(frame))

        try:
            for frame, found in detect_frames(frames(), detector, grid_of):
                results.append(writers.submit(finisher.finish, frame, found))
            return [result.result() for result in results]
        finally:
            budget.close()
            readers.shutdown(cancel_futures=True)
            writers.shutdown(cancel_futures=True)


class _Finisher:
    """What happens to a frame behind the model: rules, drawing, writing, rows."""

    def __init__(self, batch: str, work: Work, reader: Reader, progress: Progress) -> None:
        self._batch = batch
        self._work = work
        self._reader = reader
        self._progress = progress
        self._output: Store = open_store(work.output)
        self._write = healing(self._output.write)
        # One for the whole attempt: rows with the same batch and time were written together.
        self._committed_ms = time.time_ns() // 1_000_000

    def pixel_size_um(self, frame: OpenFrame) -> float | None:
        """The file's own pixel size, else the one a person stated."""
        return frame.frame.pixel_size_um or self._work.settings.pixel_size_um

    def unreadable(self, opened: Input) -> _FrameResult:
        """The row of an input that could not even be opened."""
        self._reader.close(opened)
        return self._failed(opened, opened.item.key, opened.reason, transient=opened.transient)

    def finish(self, frame: OpenFrame, found: Grains | Exception) -> _FrameResult:
        """Count, draw and record one frame, and give back what it held."""
        try:
            if isinstance(found, Exception):
                passing = isinstance(found, OSError)
                return self._failed(frame.owner, frame.frame.name, str(found), transient=passing)
            counted = self._apply_rules(frame, found)
            if self._work.settings.annotate:
                self._draw(frame, counted)
            return self._record(frame, counted)
        except UnusableNameError as error:  # this picture's own trouble, not the store's
            return self._failed(frame.owner, frame.frame.name, str(error), transient=False)
        finally:
            self._reader.frame_done(frame.owner)

    def _apply_rules(self, frame: OpenFrame, found: Grains) -> CountedFrame:
        profile = self._work.profile
        return count_frame(
            found,
            (frame.width_px, frame.height_px),
            EdgeRule(profile.edge_rule),
            OverlapRule(profile.overlap_rule),
            profile.overlap_fraction,
        )

    def _draw(self, frame: OpenFrame, counted: CountedFrame) -> None:
        """Write the annotated picture; a store that fails here fails the batch, which is then repeated."""
        scale = fitted_scale(
            frame.width_px, frame.height_px, self._work.settings.annotated_max_megapixels
        )
        profile = self._work.profile
        caption = Caption(
            filename=frame.frame.name,
            model_version=profile.model_version,
            edge_rule=EdgeRule(profile.edge_rule),
            pixel_size_um=self.pixel_size_um(frame),
        )
        picture = annotate(whole_picture(frame, scale), counted, caption, scale=scale)
        self._write(annotated_key(frame.frame.name), encode_jpeg(picture), "image/jpeg")

    def _record(self, frame: OpenFrame, counted: CountedFrame) -> _FrameResult:
        origin = self._origin(frame.owner)
        pixel_size_um = self.pixel_size_um(frame)
        grid = detector_for(self._work.model, self._work.profile).grid(pixel_size_um)
        card = self._work.model.card
        flags = (*frame.frame.notes, *scale_flags(counted, card, grid.scale / card.working_scale))
        image = counted_row(
            origin,
            frame.frame.name,
            counted,
            size_px=(frame.width_px, frame.height_px),
            pixel_size_um=pixel_size_um,
            flags=flags,
            committed_ms=self._committed_ms,
        )
        self._progress.counted(frame.frame.name, failed=False)
        return _FrameResult(image, grain_rows(origin, frame.frame.name, counted, pixel_size_um))

    def _failed(
        self, opened: Input, filename: str, reason: str, *, transient: bool
    ) -> _FrameResult:
        self._progress.counted(filename, failed=True)
        logger().warning("%s failed: %s", filename, reason)
        row = failed_row(
            self._origin(opened), filename, reason, self._committed_ms, transient=transient
        )
        return _FrameResult(row, pl.DataFrame(schema=GRAIN_RECORD))

    def _origin(self, opened: Input) -> Origin:
        return Origin(opened.item, opened.sha256, self._batch, self._work.profile)
