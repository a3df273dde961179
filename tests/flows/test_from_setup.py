"""From an empty, locked server to a nightly run that starts by itself: setup, deploy, workers, runs.

The work pools are of type process, and the block holds no keys: they come from the workers'
environment, as on a cluster.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule

from pollen.layout import MODELS
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tests.support.cluster import Cluster, runs_of
from tests.support.labelled import export
from tests.support.pictures import picture
from tests.support.runs import (
    BUCKET,
    COUNTS,
    REPOSITORY,
    bucket_tables,
    command,
    objects,
    rows,
    upload,
)
from tests.support.training import OPEN_GATE, train_settings

ROOT = "Ostatni/from_setup"
SITE = f"""
storage: {{bucket: {BUCKET}, folder: {ROOT}, region: us-east-1}}
pools: {{gpu: {{type: process}}, cpu: {{type: process}}}}
"""
PICTURES = 3
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def locked_server() -> Iterator[EmbeddedPrefect]:
    """A Prefect server that wants a password, and has nothing on it."""
    with EmbeddedPrefect(auth_string="engineer:for this test only") as server:
        yield server


def prefect(*arguments: str) -> str:
    """Give a command of Prefect's own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def set_up(site: Path) -> str:
    """Give `pollen setup`; returns what it printed."""
    done = command("setup", "--config", site)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def nightly_every_half_minute() -> Iterator[None]:
    """Give the nightly schedule another time, soon; all else stays as prefect.yaml has it."""
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("detect/nightly")
        (schedule,) = nightly.schedules
        soon = IntervalSchedule(interval=timedelta(seconds=30), anchor_date=datetime.now(UTC))
        client.update_deployment_schedule(nightly.id, schedule.id, active=True, schedule=soon)
        yield
        client.update_deployment_schedule(nightly.id, schedule.id, active=False)


def first_of(flow: str, patience_s: float = 120) -> FlowRun:
    """The first run of a flow that is under way or over, once there is one."""
    deadline = time.monotonic() + patience_s
    while True:
        found = [run for run in runs_of(flow) if run.state_name not in ("Scheduled", "Late")]
        if found:
            return found[0]
        assert time.monotonic() < deadline, f"no run of {flow} was started"
        time.sleep(0.5)


def test_an_empty_server_ends_with_a_nightly_run_by_the_model_it_trained(
    locked_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(SITE)
    pictures = {f"plate {number}/a+b %{number}.png": picture(number) for number in range(PICTURES)}
    upload(s3_server, f"{ROOT}/detect_images", pictures)
    upload(s3_server, f"{ROOT}/staging_area", {"labelled.zip": export()})

    with locked_server.active(), s3_server.active():
        monkeypatch.setenv("POLLEN_DEVICE", "cpu")  # of whoever deploys: no GPU is needed here
        assert "detect/nightly" in set_up(site)  # what is still to be deployed
        keys = s3_server.environment()
        with Cluster(locked_server, tmp_path, keys, make_pools=False) as cluster:
            assert "pollen: on upload of pictures" in set_up(site)  # it waited for its deployment
            assert "Nothing to change." in set_up(site)

            wanted = {"settings": train_settings(), "gate": OPEN_GATE}
            parameters = {name: value.model_dump(mode="json") for name, value in wanted.items()}
            prefect("deployment", "run", "train/on-demand", "--params", json.dumps(parameters))
            trained = cluster.wait(first_of("train"))
            assert trained.state is not None
            assert trained.state.name == "Completed", trained.state.message
            assert "is now in production" in str(trained.state.message)

            with nightly_every_half_minute():
                nightly = first_of("detect")
            counted = cluster.wait(nightly)
            assert counted.state is not None
            assert counted.state.name == "Completed", counted.state.message
            assert str(counted.state.message).startswith(f"{PICTURES} images, ")
            assert counted.auto_scheduled
            (shard,) = runs_of("detect-shard")
            assert shard.work_pool_name == "gpu"

            prefect("deployment", "run", "detect/on-demand", "--watch")
            later = [run for run in runs_of("detect") if run.start_time and run.id != counted.id]
            assert {run.state_name for run in later} == {"NothingNew"}
            assert len(runs_of("detect-shard")) == 1

    table = rows(bucket_tables(s3_server, ROOT)[COUNTS])
    assert table.keys() == pictures.keys()
    (version,) = {row["model_version"] for row in table.values()}
    assert f"{MODELS}{version}/weights/best.pt" in objects(s3_server, ROOT)
    assert version.startswith("pollen-001-")  # of the dataset's first version, not the bundled one
