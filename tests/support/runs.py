"""Running detection in tests: in this process, or as a command of its own; and reading results."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flows.detect import count_pictures
from pollen.arrays import Pixels
from pollen.detection.decoding import OutputError
from pollen.detection.detector import Detector
from pollen.detection.grains import Grains
from pollen.detection.settings import DetectSettings
from services.embedded import EmbeddedS3
from tasks.detection.summary import Summary
from tasks.storage.store import Location

#: Another model than the bundled one can be tried by its path.
MODEL = os.environ.get("POLLEN_TEST_MODEL", "bundled")
BUCKET = "pollen"
COUNTS = "pollen_counting_results/pollen_counts.csv"
GRAINS = "pollen_counting_results/particle_measurements.csv"
SAMPLES = "pollen_counting_results/sample_viability.csv"
REPORT = "pollen_counting_results/reports/detection_report.html"
TABLES = (COUNTS, GRAINS, SAMPLES)
REPOSITORY = Path(__file__).parents[2]
POLLEN = (sys.executable, "-c", "from services.command_line import main; main()")


def settings(**values: object) -> DetectSettings:
    """Settings that fit small pictures, with some of one's own."""
    return DetectSettings.model_validate({"edge_rule": "all"} | values)


def count(source: Path | Location, output: Path | Location, **values: object) -> Summary:
    """Run the story in this process, without Prefect."""
    return count_pictures(located(source), located(output), MODEL, settings(**values))


def located(place: Path | Location) -> Location:
    """A folder as a location."""
    return Location(folder=place) if isinstance(place, Path) else place


def command(
    *arguments: str | Path, environment: dict[str, str] | None = None, timeout_s: float = 120
) -> "subprocess.CompletedProcess[str]":
    """Run `pollen` as a user does, in a process of its own."""
    return subprocess.run(
        [*POLLEN, *map(str, arguments)],
        cwd=REPOSITORY,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def bucket_folder(prefix: str) -> Location:
    """A folder of the test bucket, reached by ``AWS_*``."""
    return Location(bucket=BUCKET, prefix=prefix)


def upload(server: EmbeddedS3, prefix: str, pictures: dict[str, bytes]) -> None:
    """Put objects below a prefix of the test bucket."""
    client = server.client()
    for name, data in pictures.items():
        client.put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=data)


def objects(server: EmbeddedS3, prefix: str) -> dict[str, tuple[str, str]]:
    """ETag and time of change of every object below a prefix."""
    pages = server.client().get_paginator("list_objects_v2")
    return {
        item["Key"].removeprefix(f"{prefix}/"): (item["ETag"], str(item["LastModified"]))
        for page in pages.paginate(Bucket=BUCKET, Prefix=f"{prefix}/")
        for item in page.get("Contents", ())
    }


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of change of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def tables(output: Path) -> dict[str, bytes]:
    """The bytes of the three tables."""
    return {name: (output / name).read_bytes() for name in TABLES}


def bucket_tables(server: EmbeddedS3, prefix: str) -> dict[str, bytes]:
    """The bytes of the three tables below a prefix of the test bucket."""
    client = server.client()
    return {
        name: client.get_object(Bucket=BUCKET, Key=f"{prefix}/{name}")["Body"].read()
        for name in TABLES
    }


def rows(table: Path | bytes) -> dict[str, dict[str, str]]:
    """The rows of ``pollen_counts.csv`` by file name; a doubled name is an error."""
    data = table if isinstance(table, bytes) else (table / COUNTS).read_bytes()
    found = list(csv.DictReader(io.StringIO(data.decode())))
    by_name = {row["filename"]: row for row in found}
    assert len(by_name) == len(found), "a file name stands twice"
    return by_name


def grain_ids(table: bytes) -> list[tuple[str, str]]:
    """File name and number of every row of ``particle_measurements.csv``."""
    return [
        (row["filename"], row["particle_id"]) for row in csv.DictReader(io.StringIO(table.decode()))
    ]


@contextmanager
def tiles_counted() -> Iterator[Callable[[], int]]:
    """Count the tiles that go through the model inside the block (a small picture is one tile)."""
    seen = 0
    detect = Detector.detect_each

    def counted(self: Detector, tiles: list[Pixels]) -> list[Grains | OutputError]:
        nonlocal seen
        seen += len(tiles)
        return detect(self, tiles)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Detector, "detect_each", counted)
        yield lambda: seen
