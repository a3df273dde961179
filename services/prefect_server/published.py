"""Read what runs publish on the Prefect server during their work and at their end."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from prefect.client.schemas.objects import Artifact

from pollen.reports.pages import plain

#: Keys of the artifacts that `tasks.progress` and `tasks.detection.artifacts` make.
PROGRESS: Final = {"detection-progress", "training-progress"}
FAILED_IMAGES: Final = "failed-images"
#: Keys that are read. A run has other artifacts, some large, and one for each of its batches.
READ_BACK: Final = [*sorted(PROGRESS), FAILED_IMAGES]


def percent_of(artifacts: Sequence[Artifact]) -> float | None:
    """Return the progress of a run in percent; None if it has no progress bar."""
    bar = _bar(artifacts)
    return None if bar is None else float(str(bar.data))


def progress_of(artifacts: Sequence[Artifact]) -> str:
    """Return the text of a run's progress bar; empty if it has none."""
    bar = _bar(artifacts)
    if bar is None:
        return ""
    return f"{float(str(bar.data)):.0f} %: {plain(bar.description or '')}".rstrip(": ")


def _bar(artifacts: Sequence[Artifact]) -> Artifact | None:
    bars = [each for each in artifacts if each.key in PROGRESS and each.data is not None]
    return max(bars, key=lambda bar: str(bar.updated or bar.created), default=None)


def failed_images(artifacts: Sequence[Artifact]) -> tuple[tuple[tuple[str, str], ...], int]:
    """Return file names and reasons of failed pictures, and their number (not all of them are published)."""
    tables = [each for each in artifacts if each.key == FAILED_IMAGES]
    if not tables:
        return (), 0
    rows = tuple(_rows(tables[-1].data))
    counted = (tables[-1].description or "").partition(" ")[0]
    return rows, int(counted) if counted.isdecimal() else len(rows)


def _rows(data: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401  (whatever the server kept)
    try:
        table = json.loads(data) if isinstance(data, str) else data
    except ValueError:
        return
    for row in table if isinstance(table, list) else ():
        if isinstance(row, dict):
            yield plain(str(row.get("filename"))), plain(str(row.get("reason")))
