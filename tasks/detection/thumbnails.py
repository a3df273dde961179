"""Thumbnails: annotated pictures made small, for the report and for the Prefect UI."""

from collections.abc import Iterable, Iterator
from typing import Final

import polars as pl

from pollen.errors import PollenError
from pollen.layout import annotated_key
from pollen.reports.annotate import decode_jpeg, thumbnail, thumbnail_within
from pollen.reports.detection import Thumbnail
from pollen.reports.summary import Highlights
from tasks.faults import NotFoundError, UnusableNameError
from tasks.stage import logger
from tasks.storage.store import Store

#: Pictures in the report, and their longer side.
IN_REPORT: Final = 6
REPORT_PX: Final = 480
#: Pictures of either kind in the Prefect UI, their longer side, and the largest size of each: the
#: server keeps them in its database, and sends all of them to everybody who opens a run.
SHOWN: Final = 3
SHOWN_PX: Final = 240
SHOWN_BYTES: Final = 9_000


class Thumbnails:
    """Annotated pictures of a store, ordered by the certainty of the model; each is read once."""

    def __init__(self, store: Store, chosen: pl.DataFrame) -> None:
        """Order the pictures; nothing is read yet.

        Args:
            store: The store with the annotated pictures.
            chosen: The result of `pollen.results.records.current_records`.
        """
        self._store = store
        self._small: dict[str, bytes | None] = {}
        self._ordered = (
            chosen.filter("input_present", pl.col("mean_confidence").is_not_null())
            .sort("mean_confidence", "filename")
            .select("filename", "mean_confidence")
        )

    def for_report(self) -> tuple[Thumbnail, ...]:
        """Return the least certain pictures, which a person should check first.

        Raises:
            StorageError: If the store fails.
        """
        rows = self._ordered.head(IN_REPORT).iter_rows()
        shown = ((name, self._read(name), confidence) for name, confidence in rows)
        return tuple(
            Thumbnail(name, jpeg, _note(confidence)) for name, jpeg, confidence in shown if jpeg
        )

    def highlights(self) -> Highlights:
        """Return the least and the most certain pictures, very small, none of them twice."""
        most = min(SHOWN, self._ordered.height // 2)
        least = min(SHOWN, self._ordered.height - most)
        return Highlights(
            tuple(self._smaller(self._ordered.head(least).iter_rows())),
            tuple(self._smaller(reversed(self._ordered.tail(most).rows()))),
        )

    def _smaller(self, rows: Iterable[tuple[str, float]]) -> Iterator[Thumbnail]:
        for name, confidence in rows:
            try:
                jpeg = self._read(name)
            except PollenError as error:
                logger().warning("a picture can't be shown in the Prefect UI: %s", error)
                continue
            if jpeg:
                small = thumbnail_within(decode_jpeg(jpeg), SHOWN_PX, SHOWN_BYTES)
                yield Thumbnail(name, small, _note(confidence))

    def _read(self, filename: str) -> bytes | None:
        """Return a picture at the size of the report; None if there is none, or none that can be read."""
        if filename not in self._small:
            try:
                pixels = decode_jpeg(self._store.read(annotated_key(filename)))
            # Drawing was off, no file can have the name, or the file was changed.
            except (NotFoundError, UnusableNameError, ValueError):
                self._small[filename] = None
            else:
                self._small[filename] = thumbnail(pixels, REPORT_PX)
        return self._small[filename]


def _note(confidence: float) -> str:
    return f"mean confidence {confidence:.2f}"
