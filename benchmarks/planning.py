"""Planning 100,000 pictures of which 99 % are done: seconds and peak memory."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import polars as pl

from pollen.columns import GRAIN_RECORD, IMAGE_RECORD
from pollen.detection.settings import DetectSettings
from pollen.layout import annotated_key
from tasks.detection.planning import plan
from tasks.detection.records import write_records
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location

PICTURES = 100_000
DONE = 99_000
PER_FILE = 500


def run() -> None:
    """Make empty pictures and their records, then plan."""
    with tempfile.TemporaryDirectory() as scratch:
        source, output = (
            Location(folder=Path(scratch) / "in"),
            Location(folder=Path(scratch) / "out"),
        )
        records = "pollen_counting_results/records/benchmark/"
        _make(Path(scratch), records)
        before = _peak_mb()
        start = time.perf_counter()
        todo = plan(source, output, records, DetectSettings())
        seconds = time.perf_counter() - start
        assert todo.waiting == PICTURES - DONE
        print(
            f"planning {PICTURES} pictures, {DONE} done: {seconds:.1f} s (budget 60), "
            f"peak {_peak_mb():.0f} MB, {_peak_mb() - before:.0f} MB of it for the plan (budget 500)"
        )


def _make(scratch: Path, records: str) -> None:
    for folder in range(100):
        (scratch / "in" / f"plant-{folder:02d}").mkdir(parents=True)
    keys = [f"plant-{number % 100:02d}/picture-{number:06d}.jpg" for number in range(PICTURES)]
    for key in keys:
        (scratch / "in" / key).touch()
        drawn = scratch / "out" / annotated_key(key)
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.touch()
    versions = {entry.key: entry.version for entry in FolderStore(scratch / "in").list()}
    store = FolderStore(scratch / "out")
    for start in range(0, DONE, PER_FILE):
        part = keys[start : start + PER_FILE]
        rows = pl.DataFrame({"key": part, "version": [versions[key] for key in part]}).with_columns(
            filename=pl.col("key"), transient=pl.lit(value=False), status=pl.lit("ok")
        )
        missing = [
            pl.lit(None, kind).alias(name)
            for name, kind in IMAGE_RECORD.items()
            if name not in rows.columns
        ]
        images = rows.with_columns(missing).select(list(IMAGE_RECORD))
        write_records(store, records, f"batch-{start}", images, pl.DataFrame(schema=GRAIN_RECORD))


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
