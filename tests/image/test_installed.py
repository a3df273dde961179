"""The image's contents run as its user, from a tree that can't be written to.

No container engine runs here. What stands for the image is described in `tests/support/installed.py`.
"""

import csv
import json
import re
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

from pollen.synth import sample_frames
from pollen.synth.demo_pictures import write_frame
from services.embedded import EmbeddedS3
from tests.support.installed import Installed, installed
from tests.support.pods import PICTURES, SHARD, Finished, run_in_pods
from tests.support.prefect_servers import PreparedPrefect
from tests.support.runs import COUNTS, GRAINS, REPORT, REPOSITORY, rows
from tests.support.scanning import leaks, secrets_in

# The first of them installs several GB; links into uv's cache make it quick on one disk.
pytestmark = [pytest.mark.slow(seconds=25), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def image() -> Iterator[Installed]:
    """The image's files below a folder, run as its user with its variables."""
    with installed() as files:
        yield files


@pytest.fixture(scope="module")
def pods(image: Installed, s3_server: EmbeddedS3) -> Iterator[Finished]:
    """A detection as on a cluster: set up, deployed and run by what the image holds, with keys."""
    with PreparedPrefect(auth_string="operator:Zu5k-mNq8-wRt3-yHe1") as server:
        yield run_in_pods(image, server, s3_server)


def test_the_lock_and_this_project_are_all_that_is_installed(image: Installed) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    # Of some packages it holds several versions, for several versions of Python.
    locked = set(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    found = {
        re.sub(r"[-_.]+", "-", one.name).lower(): one.version
        for one in distributions(path=[str(image.packages)])
    }

    assert found.pop("pollen-viability-flows")
    assert {"prefect", "prefect-kubernetes", "torch", "ultralytics"} <= found.keys()
    assert found.items() <= locked
    scripts = {path.name for path in (image.venv / "bin").iterdir()}
    assert {"pollen", "prefect"} <= scripts
    assert not scripts & {"pip", "pip3", "uv", "weed"}


def test_the_user_can_t_write_to_what_is_installed(image: Installed) -> None:
    for folder in (image.app, image.app / "flows", image.packages, image.packages / "pollen"):
        told = image.run("touch", folder / "written")
        assert told.returncode != 0, folder
        assert "denied" in told.stderr or "Read-only" in told.stderr


def test_the_health_command_is_content_and_names_the_revision(image: Installed) -> None:
    told = image.run("python", "-m", "services.health")

    assert told.returncode == 0, told.stderr
    assert "Healthy" in told.stdout
    assert "of-this-test" in told.stdout


def test_sample_micrographs_are_counted_and_nothing_is_written_beside_scratch(
    image: Installed,
) -> None:
    pictures = image.root / "pictures"
    pictures.mkdir()
    for name, frame in sample_frames():
        write_frame(pictures / name, frame)
    before = image.listing()

    told = image.run("pollen", "detect", pictures, "--output", image.scratch / "results")

    assert told.returncode == 0, told.stderr
    output = image.scratch / "results"
    truth = {name: sum(frame.truth_counts().values()) for name, frame in sample_frames()}
    found = rows(output)
    assert found.keys() == truth.keys()
    detected = sum(int(row["total_detected"]) for row in found.values())
    assert abs(detected - sum(truth.values())) <= 0.1 * sum(truth.values())
    with (output / GRAINS).open(newline="", encoding="utf-8") as table:
        assert len(list(csv.reader(table))) == 1 + detected
    assert (output / COUNTS).stat().st_uid == image.scratch.stat().st_uid
    assert (output / REPORT).is_file()
    assert image.listing() == before


def test_a_run_on_a_cluster_counts_pictures_and_an_evicted_shard_hears_of_it(
    pods: Finished,
) -> None:
    output = pods.texts["output"].decode()
    assert pods.states == {"detect": ["Completed"], SHARD: ["Crashed", "Completed"]}, output
    # Not a worker's report that the pod is gone: the flow itself was told, and could tidy up.
    assert "Execution was aborted by a termination signal" in pods.texts["logs"].decode()
    assert len(pods.table) == PICTURES
    assert {row["status"] for row in pods.table.values()} <= {"ok", "empty"}


def test_no_key_is_in_what_the_server_or_the_bucket_keeps_nor_in_logs(pods: Finished) -> None:
    # What is searched is there: the address, which is no secret, shows in records and output.
    assert {name for name, text in pods.texts.items() if pods.endpoint.encode() in text}
    assert {"deployments", "logs", "output", "database", "bucket"} <= pods.texts.keys()
    assert all(pods.texts.values())

    assert not leaks(pods.secrets, pods.texts)


def test_nothing_in_deployments_and_logs_looks_like_a_secret(
    pods: Finished, tmp_path: Path
) -> None:
    files = []
    for name in ("deployments", "flow_runs", "logs", "output"):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_bytes(pods.texts[name])
    # Prefect's hash of the flow's file.
    digests = {each["version"] for each in json.loads(pods.texts["deployments"])}

    assert not secrets_in(files, digests)
