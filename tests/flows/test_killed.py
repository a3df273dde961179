"""Processes killed in the middle, and two at once: tables end as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from services.embedded import EmbeddedS3
from tasks.detection import records
from tests.support.pictures import picture, put
from tests.support.runs import (
    BUCKET,
    COUNTS,
    GRAINS,
    MODEL,
    POLLEN,
    REPOSITORY,
    bucket_folder,
    bucket_tables,
    command,
    count,
    grain_ids,
    rows,
    tables,
    upload,
)

pytestmark = pytest.mark.slow

#: Merge early, and one picture per batch: so few pictures meet every kind of moment.
MERGE_FROM = 3
PICTURES = tuple(f"{number}.png" for number in range(6))
#: Fewer in buckets: every batch makes S3 clients, and that takes longer than counting so little.
FEW = PICTURES[:MERGE_FROM]

#: Moments to die at: what was just called, for which key, for the how-manieth time.
MOMENTS = {
    "after the first annotated picture": ("write", "detected_images/", 1),
    "between the records of grains and of images": ("write", "/grains/", 2),
    "after an image record": ("write", "/images/", 1),
    "after all image records": ("write", "/images/", len(PICTURES)),
    "between merging and deleting": ("write", "/images/merged-", 1),
    "while deleting what was merged": ("delete", "/images/", 2),
    "after merging images, before merging grains": ("write", "/grains/merged-", 1),
    "after the table of grains": ("write", "particle_measurements.csv", 1),
    "after the table of samples": ("write", "sample_viability.csv", 1),
    "after the report": ("write", "detection_report.html", 1),
}

#: Runs in a process of its own, which imports once and forks a child per moment. Each child dies
#: by SIGKILL, as at the hands of an out-of-memory killer: nothing is tidied up.
_DRIVER = """
import json, os, signal, sys, threading
from tasks.detection import records
from tasks.storage.buckets import BucketStore
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location
from tests.support.runs import count

def die_after(store, kind, part, times):
    lock, left = threading.Lock(), [times]

    def met(key):
        with lock:
            left[0] -= part in key
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    for name in ("write", "write_file"):
        call = getattr(store, name)
        def write(self, key, *arguments, _call=call):
            _call(self, key, *arguments)
            kind == "write" and met(key)
        setattr(store, name, write)
    delete = store.delete
    def one_by_one(self, keys):
        for key in keys:
            delete(self, [key])
            kind == "delete" and met(key)
    store.delete = one_by_one

records.MERGE_FROM_FILES = {merge_from}
for source, output, moment in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        places = [Location.parse(place) for place in (source, output)]
        die_after(BucketStore if places[1].bucket else FolderStore, *moment)
        count(*places, batch_images=1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def killed(jobs: list[tuple[str, str, tuple[str, str, int]]]) -> list[int]:
    """Run detection once per job, dying at its moment; exit codes."""
    code = _DRIVER.replace("{merge_from}", str(MERGE_FROM))
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(jobs)],
        cwd=REPOSITORY,
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
        timeout=240,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]


@pytest.fixture(autouse=True)
def _merging_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MERGE_FROM_FILES", MERGE_FROM)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    put(tmp_path / "pictures", *PICTURES)
    return tmp_path / "pictures"


@pytest.fixture
def undisturbed(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """The tables of a run that nobody disturbs; it also prepares the model."""
    count(source, tmp_path / "undisturbed", batch_images=1)
    return tables(tmp_path / "undisturbed")


def test_a_folder_run_killed_anywhere_ends_as_if_undisturbed(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    outputs = {name: tmp_path / str(number) for number, name in enumerate(MOMENTS)}
    codes = killed([(str(source), str(outputs[name]), moment) for name, moment in MOMENTS.items()])
    assert dict(zip(MOMENTS, codes, strict=True)) == dict.fromkeys(MOMENTS, -signal.SIGKILL)
    for name, output in outputs.items():
        count(source, output, batch_images=1)
        assert tables(output) == undisturbed, name
        leftovers = [path.name for path in output.rglob(".unfinished-*")]
        assert len(leftovers) <= 2, name  # at most what was being written in that moment


@pytest.fixture
def undisturbed_few(tmp_path: Path) -> dict[str, bytes]:
    """The tables of the few pictures that buckets hold."""
    put(tmp_path / "few", *FEW)
    count(tmp_path / "few", tmp_path / "undisturbed few")
    return tables(tmp_path / "undisturbed few")


def test_an_addition_killed_among_the_tables_ends_as_if_undisturbed(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    put(tmp_path / "before", *PICTURES[:-1])
    for name in PICTURES[:-1]:  # the same objects, as the listing tells them
        facts = (source / name).stat()
        os.utime(tmp_path / "before" / name, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    moments = {
        name: ("write", name, 1)
        for name in ("measurements.csv", "viability.csv", "report.html", "counts.csv")
    }
    for name in moments:
        count(tmp_path / "before", tmp_path / name)
    codes = killed([(str(source), str(tmp_path / name), moments[name]) for name in moments])
    assert codes == [-signal.SIGKILL] * len(moments)
    for name in moments:
        count(source, tmp_path / name)
        assert tables(tmp_path / name) == undisturbed, name


def test_a_bucket_run_killed_anywhere_ends_as_if_undisturbed(
    s3_server: EmbeddedS3, undisturbed_few: dict[str, bytes]
) -> None:
    upload(s3_server, "killed/in", {name: picture(seed) for seed, name in enumerate(FEW)})
    chosen = [
        "between the records of grains and of images",
        "while deleting what was merged",
    ]
    source = f"s3://{BUCKET}/killed/in"
    with s3_server.active():
        codes = killed(
            [
                (source, f"s3://{BUCKET}/killed/{number}", MOMENTS[name])
                for number, name in enumerate(chosen)
            ]
        )
        assert codes == [-signal.SIGKILL] * len(chosen)
        for number, name in enumerate(chosen):
            count(bucket_folder("killed/in"), bucket_folder(f"killed/{number}"), batch_images=1)
            found = bucket_tables(s3_server, f"killed/{number}")
            assert list(rows(found[COUNTS])) == list(FEW)
            assert found == undisturbed_few, name


def test_the_command_killed_by_the_system_goes_on_from_there(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    for number in range(40):  # more than it can count before it is killed
        (source / f"more-{number}.png").write_bytes(picture(number % 3))
    output = tmp_path / "results"
    arguments = ("detect", str(source), "--output", str(output), "--model", MODEL)
    options = ("--edge-rule", "all", "--set", "batch_images=1")
    process = subprocess.Popen(
        [*POLLEN, *arguments, *options], cwd=REPOSITORY, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(output.glob("pollen_counting_results/records/*/images/*.parquet")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (output / GRAINS).exists()

    done = command(*arguments, *options)
    assert done.returncode == 0, done.stderr
    assert "46 pictures found" in done.stderr
    assert "46 to count" not in done.stderr
    count(source, tmp_path / "at once")
    assert tables(output) == tables(tmp_path / "at once")


def test_two_runs_at_once_leave_tables_without_doubles(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    output = tmp_path / "results"
    arguments = ("detect", source, "--output", output, "--model", MODEL)
    options = ("--edge-rule", "all", "--set")
    with ThreadPoolExecutor(3) as pool:
        runs = [
            pool.submit(command, *arguments, *options, f"batch_images={size}") for size in (1, 4)
        ]
        codes = [run.result().returncode for run in runs]
    assert codes == [0, 0]
    assert tables(output) == undisturbed
    count(source, output, batch_images=1)
    assert tables(output) == undisturbed


def test_two_runs_at_once_in_one_bucket(
    s3_server: EmbeddedS3, undisturbed_few: dict[str, bytes]
) -> None:
    upload(s3_server, "two/in", {name: picture(seed) for seed, name in enumerate(FEW)})
    source, output = bucket_folder("two/in"), bucket_folder("two/out")
    with s3_server.active(), ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(count, source, output, batch_images=size) for size in (1, 2)]
        for run in runs:
            assert run.result().rows.height == len(FEW)
        assert bucket_tables(s3_server, "two/out") == undisturbed_few
        assert count(source, output).counted_now == 0
    grains = grain_ids(bucket_tables(s3_server, "two/out")[GRAINS])
    assert len(grains) == len(set(grains))


def test_merging_leaves_the_tables_and_fewer_files(
    source: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    images = list((tmp_path / "undisturbed").rglob("records/*/images/*.parquet"))
    assert len(images) == 1
    assert images[0].name.startswith("merged-")
    assert pl.read_parquet(images[0]).height == len(PICTURES)
    count(source, tmp_path / "apart", batch_images=64)
    assert tables(tmp_path / "apart") == undisturbed
    (tmp_path / "undisturbed" / COUNTS).unlink()
    count(source, tmp_path / "undisturbed")
    assert tables(tmp_path / "undisturbed") == undisturbed
