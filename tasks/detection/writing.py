"""Finishing a frame after the model: applying the rules, drawing, writing, making its rows."""

import threading
import time
from dataclasses import dataclass

import polars as pl

from pollen.columns import GRAIN_RECORD
from pollen.counting.record_rows import Provenance, Row, counted_row, failed_row, grain_rows
from pollen.counting.rules import CountedFrame, count_frame
from pollen.detection.grains import Grains
from pollen.layout import annotated_key
from pollen.quality.grain_size import scale_flags, size_to_model
from pollen.reports.annotate import UNDRAWN_FLAG, annotate, encode_jpeg
from pollen.reports.canvas import fitted_scale, whole_picture
from pollen.reports.legend import Caption
from tasks.detection.reading import OpenFrame, OpenPicture, Reader
from tasks.detection.work import Work
from tasks.faults import OutsideError, StorageError, UnusableNameError, failure_reason
from tasks.progress import Progress
from tasks.stage import healing, logger
from tasks.storage.store import Store

#: Failed pictures of a batch that are logged one by one; all are in the table.
FAILURES_LOGGED = 20
#: Drawing holds copies of a picture that the memory budget does not include: only so many at once.
DRAWN_AT_ONCE = 2
_drawing = threading.Semaphore(DRAWN_AT_ONCE)


@dataclass(frozen=True)
class FrameResult:
    """The record rows of one frame."""

    image: Row
    grains: pl.DataFrame


class FrameWriter:
    """Counts, draws and records the frames of one attempt at a batch; called from several threads."""

    def __init__(
        self,
        attempt: str,
        work: Work,
        output: Store,
        reader: Reader,
        progress: Progress,
    ) -> None:
        self._attempt = attempt
        self._work = work
        self._reader = reader
        self._progress = progress
        self._write = healing(output.write)
        self._committed_ms = time.time_ns() // 1_000_000
        self._failures = 0

    def unreadable(self, opened: OpenPicture) -> FrameResult:
        """Return the row of a picture that could not be opened."""
        self._reader.close(opened)
        return self._failed(opened, opened.item.key, opened.reason, transient=opened.transient)

    def finish(self, frame: OpenFrame, found: Grains | Exception) -> FrameResult:
        """Count, draw and record one frame, and give back its memory.

        Raises:
            StorageError: If the store fails. Then the batch is repeated, as the picture is not the cause.
        """
        try:
            if isinstance(found, Exception):
                return self._failed_frame(frame, found)
            frame.frame.check_colour()
            counted = self._apply_rules(frame, found)
            flags = self._draw(frame, counted) if self._work.settings.annotate else ()
            return self._record(frame, counted, flags)
        except Exception as error:
            if isinstance(error, StorageError) and not isinstance(error, OutsideError):
                raise
            return self._failed_frame(frame, error)
        finally:
            self._reader.frame_done(frame)

    def _apply_rules(self, frame: OpenFrame, found: Grains) -> CountedFrame:
        profile = self._work.profile
        return count_frame(
            found,
            (frame.width_px, frame.height_px),
            profile.edge_rule,
            profile.overlap_rule,
            profile.overlap_fraction,
        )

    def _draw(self, frame: OpenFrame, counted: CountedFrame) -> tuple[str, ...]:
        """Write the annotated picture; return a flag if no file can have its name."""
        profile = self._work.profile
        most = self._work.settings.annotated_max_megapixels
        scale = fitted_scale(frame.width_px, frame.height_px, most)
        caption = Caption(
            filename=frame.frame.name,
            model_version=profile.model_version,
            edge_rule=profile.edge_rule,
            pixel_size_um=profile.known_pixel_size_um(frame.pixel_size_um),
        )
        with _drawing:
            picture = annotate(whole_picture(frame, scale), counted, caption, scale=scale)
            encoded = encode_jpeg(picture)
        try:
            self._write(annotated_key(frame.frame.name), encoded, "image/jpeg")
        except OutsideError:
            raise
        except UnusableNameError as error:
            logger().warning("%s is counted, but not drawn: %s", frame.frame.name, error)
            return (UNDRAWN_FLAG,)
        return ()

    def _record(
        self, frame: OpenFrame, counted: CountedFrame, flags: tuple[str, ...]
    ) -> FrameResult:
        provenance = self._provenance(frame.owner)
        pixel_size_um = self._work.profile.known_pixel_size_um(frame.pixel_size_um)
        card = self._work.model.card
        ratio = self._work.profile.ratio_to_training(frame.pixel_size_um)
        image = counted_row(
            provenance,
            frame.frame.name,
            counted,
            size_px=(frame.width_px, frame.height_px),
            pixel_size_um=pixel_size_um,
            flags=(*frame.frame.notes, *scale_flags(counted, card, ratio), *flags),
            committed_ms=self._committed_ms,
            size_to_model=size_to_model(counted, card, ratio),
        )
        self._progress.counted(frame.frame.name, failed=False)
        return FrameResult(image, grain_rows(provenance, frame.frame.name, counted, pixel_size_um))

    def _failed_frame(self, frame: OpenFrame, error: Exception) -> FrameResult:
        reason, transient = failure_reason(error)
        return self._failed(frame.owner, frame.frame.name, reason, transient=transient)

    def _failed(
        self, opened: OpenPicture, filename: str, reason: str, *, transient: bool
    ) -> FrameResult:
        self._progress.counted(filename, failed=True)
        self._failures += 1
        if self._failures <= FAILURES_LOGGED:
            logger().warning("%s failed: %s", filename, reason)
        row = failed_row(
            self._provenance(opened), filename, reason, self._committed_ms, transient=transient
        )
        return FrameResult(row, pl.DataFrame(schema=GRAIN_RECORD))

    def _provenance(self, opened: OpenPicture) -> Provenance:
        return Provenance(opened.item, opened.sha256, self._attempt, self._work.profile)
