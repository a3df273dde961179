"""From an empty, locked server to runs that start by themselves, at night and on upload.

All of it is real: the work pools are of type process, the block holds no keys (they come from the
workers' environment, as on a cluster), the storage tells of uploads by its own webhook, and messages
go through Prefect's own block to a local endpoint.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule

from pollen.layout import MODELS
from tests.support.cluster import runs_of
from tests.support.events import RunningReceiver, receiving
from tests.support.labelled import export
from tests.support.laboratory import (
    ROOT,
    SITE,
    UPLOADS,
    Laboratory,
    laboratory,
    prefect,
    results_shown,
)
from tests.support.pictures import picture
from tests.support.runs import COUNTS, bucket_tables, objects, rows, upload
from tests.support.training import OPEN_GATE, train_settings

PICTURES = 3
BURST = 200
#: Names that some form of notice or address encodes in its own way.
ODD = ("a b.png", "a+b.png", "100%.png", "a%2Bb.png", "žluťoučký kůň/ěščř.png", "Ä & ß #1?.PNG")
pytestmark = [pytest.mark.slow(seconds=150), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLLEN_DEVICE", "cpu")  # of whoever deploys: no GPU is needed here
        with laboratory(tmp_path_factory.mktemp("lab")) as found:
            yield found


@pytest.fixture
def receiver(lab: Laboratory, tmp_path: Path) -> Iterator[RunningReceiver]:
    with receiving(tmp_path, SITE, lab.server.environment(), port=lab.port) as found:
        yield found


@contextmanager
def nightly_every_half_minute() -> Iterator[None]:
    """Give the nightly schedule another time, soon; all else stays as prefect.yaml has it."""
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("detect/nightly")
        (schedule,) = (each for each in nightly.schedules if each.slug == "nightly")
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


def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def test_an_empty_server_ends_with_a_nightly_run_by_the_model_it_trained(lab: Laboratory) -> None:
    pictures = {f"plate {number}/a+b %{number}.png": picture(number) for number in range(PICTURES)}
    upload(lab.storage, f"{ROOT}/detect_images", pictures)
    upload(lab.storage, f"{ROOT}/staging_area", {"labelled.zip": export()})

    wanted = {"settings": train_settings(), "gate": OPEN_GATE}
    parameters = {name: value.model_dump(mode="json") for name, value in wanted.items()}
    prefect("deployment", "run", "train/on-demand", "--params", json.dumps(parameters))
    trained = lab.cluster.wait(first_of("train"))
    assert trained.state is not None
    assert trained.state.name == "Completed", trained.state.message
    assert "is now in production" in str(trained.state.message)

    with nightly_every_half_minute():
        nightly = first_of("detect")
    counted = lab.cluster.wait(nightly)
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

    table = rows(bucket_tables(lab.storage, ROOT)[COUNTS])
    assert table.keys() == pictures.keys()
    (version,) = {row["model_version"] for row in table.values()}
    assert f"{MODELS}{version}/weights/best.pt" in objects(lab.storage, ROOT)
    assert version.startswith("pollen-001-")  # of the dataset's first version, not the bundled one


def test_what_is_uploaded_is_counted_and_told_of(
    lab: Laboratory, receiver: RunningReceiver
) -> None:
    one_upload(lab, receiver)
    a_burst(lab, receiver)
    a_burst_that_kills_the_receiver(lab, receiver)
    nothing_new(lab)


def counted(lab: Laboratory, receiver: RunningReceiver, before: int) -> list[FlowRun]:
    """Runs after the first so many, once there are some, all are over and nothing waits to start one."""
    deadline = time.monotonic() + 600
    while True:
        waiting = receiver.status["waiting"]
        runs = lab.detections()[before:]
        if runs and not waiting and all(run.state and run.state.is_final() for run in runs):
            return runs
        assert time.monotonic() < deadline, (waiting, receiver.log, lab.cluster.logs())
        time.sleep(0.5)


def one_upload(lab: Laboratory, receiver: RunningReceiver) -> None:
    lab.upload({"first.png": picture(1)})
    (run,) = counted(lab, receiver, before=0)
    assert run.state_name == "Completed", run.state
    assert run.parameters["bucket"] == "pollen"
    assert lab.table().keys() == {"first.png"}
    assert "stained viable" in results_shown()[-1]
    assert not lab.inbox.received  # nobody wants to hear of what went well


def a_burst(lab: Laboratory, receiver: RunningReceiver) -> None:
    """Odd names, one picture twice, one that is taken away again; most are no pictures, which is a row too."""
    burst = {
        f"plate {number % 7}/{number}.png": picture(number % 20) if number % 20 == 0 else b"none"
        for number in range(BURST)
    }
    odd = {name: picture(number) for number, name in enumerate(ODD)}
    lab.upload(burst | odd)
    lab.upload({ODD[0]: picture(0), "regretted.png": picture(3)})
    lab.delete("regretted.png")
    runs = counted(lab, receiver, before=1)
    assert len(runs) <= 2
    assert runs[0].state_name == "CompletedWithFailures", runs[0].state
    table = lab.table()
    assert table.keys() - {"regretted.png"} == {"first.png"} | burst.keys() | odd.keys()
    assert {table[name]["input_present"] for name in burst | odd} == {"true"}
    assert {table[name]["status"] for name in odd} <= {"ok", "empty"}
    failed = {name for name, row in table.items() if row["status"] == "failed"}
    expected = {name for name, data in burst.items() if data == b"none"}
    assert failed - {"regretted.png"} == expected
    message = lab.inbox.until("lab", bool)[0]
    assert "CompletedWithFailures" in message["subject"]
    assert "images, " in message["body"]
    assert f"{len(expected)} failed, {len(expected)} of them new" in message["body"]


def a_burst_that_kills_the_receiver(lab: Laboratory, receiver: RunningReceiver) -> None:
    """What it knew is lost, and the sweep finds it."""
    before, runs = lab.table(), len(lab.detections())
    lab.upload({f"late/{number}.png": picture(number) for number in range(5)})
    until(lambda: bool(receiver.status["waiting"]), lambda: receiver.log)
    receiver.process.kill()
    lab.upload({f"later/{number}.png": picture(number) for number in range(5)})
    sweep = lab.cluster.wait(lab.cluster.start("detect/sweep", prefix=UPLOADS))
    assert sweep.state_name == "CompletedWithFailures", sweep.state  # those of before still are
    late = {f"{when}/{number}.png" for when in ("late", "later") for number in range(5)}
    assert lab.table().keys() == before.keys() | late
    assert len(lab.detections()) == runs + 1
    assert "of them new" not in str(sweep.state)  # told before, and not again


def nothing_new(lab: Laboratory) -> None:
    before, shards = lab.table(), len(runs_of("detect-shard"))
    again = lab.cluster.wait(lab.cluster.start("detect/sweep", prefix=UPLOADS))
    assert again.state_name == "NothingNew", again.state
    assert len(runs_of("detect-shard")) == shards
    assert lab.table() == before
