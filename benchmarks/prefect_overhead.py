"""The cost of Prefect: the same pictures with and without a flow run around them."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from benchmarks.pictures import folder_of, small_frames
from flows.detect import count_pictures, detect_here
from pollen.detection.settings import DetectSettings
from services.embedded import EmbeddedPrefect
from tasks.models.resolve import BUNDLED
from tasks.storage.store import Location

PICTURES = 1000


def run() -> None:
    """Count once without and once with Prefect, and print the difference."""
    pictures = small_frames(10)
    settings = DetectSettings()
    _seconds(
        pictures, 10, lambda source, output: count_pictures(source, output, BUNDLED, settings)
    )  # warm
    alone = _seconds(
        pictures, PICTURES, lambda source, output: count_pictures(source, output, BUNDLED, settings)
    )
    with EmbeddedPrefect() as server, server.active():
        flow = _seconds(
            pictures,
            PICTURES,
            lambda source, output: cast("Any", detect_here)(
                source, output, BUNDLED, settings, return_state=True
            ),
        )
    print(
        f"{PICTURES} pictures: {alone:.1f} s alone, {flow:.1f} s as a flow run: {flow / alone - 1:+.1%} (budget 2 %)"
    )


def _seconds(
    pictures: list[Path], number: int, count: Callable[[Location, Location], object]
) -> float:
    with tempfile.TemporaryDirectory(dir=pictures[0].parent) as scratch:
        source = folder_of(pictures, number, Path(scratch) / "in")
        start = time.perf_counter()
        count(Location(folder=source), Location(folder=Path(scratch) / "out"))
        return time.perf_counter() - start
