"""A coordinator and its shards on a real Prefect server and real S3; the test plays the pool's worker.

It does with every shard's run what the test says: counts its part in this process, or lets it end as a
run ends that is killed, cancelled, or refused. Real processes are in `tests/flows/test_shards.py`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.flow_engine import run_flow
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Scheduled

import flows.detect
from flows.detect import count_on_cluster, count_part, detect, detect_shard
from pollen.errors import PollenError
from pollen.layout import PLANS
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.site import Site
from tasks.cluster import shards
from tasks.cluster.deploy_hint import DEPLOY
from tasks.cluster.shards import FAILED_FOR_NOW, DetectRequest
from tasks.detection.summary import Summary
from tasks.stage import Pool
from tests.flows.test_flow_run import save_block
from tests.support.automations import declared_automations
from tests.support.cluster import make_limit, runs_of
from tests.support.pictures import picture
from tests.support.runs import (
    COUNTS,
    MODEL,
    bucket_folder,
    bucket_tables,
    count,
    objects,
    rows,
    settings,
    upload,
)

NAMES = tuple(f"{number}.png" for number in range(6))
SETTINGS = settings(device="cpu", batch_images=1)

#: What becomes of a shard's run: its number of the round and of the part decide.
Fate = Callable[[FlowRun, int, int], "State[Any]"]


def counts(run: FlowRun, _number: int, _part: int) -> "State[Any]":
    """The run does what it is for."""
    given = run.parameters
    root = DetectRequest(given["bucket"], given["prefix"], MODEL, 1).root
    return Completed(message=count_part(root, given["plan"], given["shard"]).message)


def is_due(run: FlowRun) -> bool:
    """Return whether a worker would begin with a run now, or has taken it."""
    start = run.expected_start_time
    waits = run.state_type in (StateType.SCHEDULED, StateType.PENDING)
    return waits and (start is None or start < datetime.now(UTC) + timedelta(minutes=1))


class Worker:
    """Plays the worker of pool `gpu` for the shards of one root."""

    def __init__(self, request: DetectRequest, fate: Fate) -> None:
        self.request = request
        self.fate = fate
        self.stopped = False

    def work(self) -> None:
        """Take runs as they come, until the coordinator is done."""
        seen = set()
        while not self.stopped:
            for run in runs_of("detect-shard", self.request.tag):
                if run.id not in seen and is_due(run):
                    seen.add(run.id)
                    number = int(run.parameters["plan"].rpartition("/")[2].removesuffix(".json"))
                    state = self.fate(run, number, run.parameters["shard"])
                    with get_client(sync_client=True) as client:
                        client.set_flow_run_state(run.id, state, force=True)
            time.sleep(0.3)


@pytest.fixture
def deployed(
    prefect_server: EmbeddedPrefect, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Shards are deployed, and a block is saved."""
    monkeypatch.setattr(shards, "ASK_EVERY_S", 0.5)
    monkeypatch.setattr(shards, "LIST_EVERY_S", 0.5)
    save_block("sharded", s3_server, "sharded")
    made = cast("RunnerDeployment", detect_shard.to_deployment(name="gpu"))
    deployment = cast("UUID", made.apply())
    yield
    with get_client(sync_client=True) as client:
        client.delete_deployment(deployment)


@pytest.fixture
def place(deployed: None, s3_server: EmbeddedS3, request: pytest.FixtureRequest) -> DetectRequest:
    """A root of the test's own with pictures and a limit."""
    prefix = request.node.name
    pictures = {name: picture(seed) for seed, name in enumerate(NAMES)}
    upload(s3_server, f"sharded/{prefix}/detect_images", pictures)
    made = DetectRequest("sharded", prefix, MODEL, 3)
    make_limit(made.root)
    return made


def coordinate(request: DetectRequest, fate: Fate = counts, run: FlowRun | None = None) -> Summary:
    """Run a coordinator to its end while shards fare as `fate` says; `run`: one that was killed, again."""
    worker = Worker(request, fate)
    with Pool(1) as pool:
        working = pool.submit(worker.work)
        try:
            return cast("Summary", run_flow(coordinator(request), flow_run=run))
        finally:
            worker.stopped = True
            working.result()


def coordinator(request: DetectRequest) -> Flow[[], Summary]:
    """The flow of a coordinator, without its final states."""

    @flow(name="coordinating", persist_result=False)
    def story() -> Summary:
        return count_on_cluster(request, SETTINGS)

    return story


def test_without_a_prefix_the_root_is_the_folder_of_the_block(
    deployed: None, s3_server: EmbeddedS3
) -> None:
    save_block("sharded-folder", s3_server, "sharded-folder")
    upload(s3_server, "sharded-folder/detect_images", {NAMES[0]: picture(0)})
    request = DetectRequest("sharded-folder", None, MODEL, 1)
    make_limit(request.root)

    assert coordinate(request).counted_now == 1

    (run,) = runs_of("detect-shard", request.tag)
    assert run.parameters["prefix"] is None
    assert list(rows(bucket_tables(s3_server, "sharded-folder")[COUNTS])) == [NAMES[0]]


def shard_states(request: DetectRequest) -> list[str]:
    return [str(run.state_name) for run in runs_of("detect-shard", request.tag)]


def test_killed_shards_leave_the_tables_as_one_run_makes_them(
    place: DetectRequest, s3_server: EmbeddedS3
) -> None:
    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        if number == 1 and part == 1:
            counts(run, number, part)
            return Crashed(message="killed behind its last record")
        if number == 1 and part == 2:
            return Crashed(message="killed before its first")
        if number == 1 and part == 3:
            return Failed(name=FAILED_FOR_NOW, message="the S3 server is busy")
        return counts(run, number, part)

    summary = coordinate(place, fate)
    assert (summary.outcome, summary.counted_now) == ("Completed", len(NAMES))
    # Round two has the two pictures each of the shards that recorded nothing, in three parts.
    assert shard_states(place) == ["Crashed", "Crashed", FAILED_FOR_NOW, *["Completed"] * 3]
    names = [run.name for run in runs_of("detect-shard", place.tag)]
    assert names[0] == f"count part 1 of 3 in sharded/{place.prefix}"
    assert names[-1] == f"count part 3 of 3 in sharded/{place.prefix}, round 2"

    found = bucket_tables(s3_server, f"sharded/{place.prefix}")
    assert list(rows(found[COUNTS])) == list(NAMES)
    with s3_server.active():
        below = f"sharded/{place.prefix}"
        count(
            bucket_folder(f"{below}/detect_images"), bucket_folder(f"{below}-alone"), device="cpu"
        )
    assert found == bucket_tables(s3_server, f"{below}-alone")
    assert not [key for key in objects(s3_server, below) if key.startswith(PLANS)]

    before = objects(s3_server, below)
    summary = coordinate(place)
    assert (summary.outcome, summary.counted_now) == ("NothingNew", 0)
    assert len(shard_states(place)) == 6
    assert objects(s3_server, below) == before


def test_rounds_are_bounded(place: DetectRequest, s3_server: EmbeddedS3) -> None:
    alone = replace(place, shards=1)
    with pytest.raises(PollenError, match=r"in 3 rounds: .* round 3' .*\(out of memory\)"):
        coordinate(alone, lambda *_: Crashed(message="out of memory"))
    assert shard_states(alone) == ["Crashed"] * 3
    found = rows(bucket_tables(s3_server, f"sharded/{place.prefix}")[COUNTS])
    assert all("the next run counts it" in row["reason"] for row in found.values())


def test_a_round_that_records_pictures_is_not_held_against_the_run(place: DetectRequest) -> None:
    """The server was away for so long that all shards count as crashed; some went on all the same."""

    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        if part == 1:
            counts(run, number, part)
        return Crashed(message="No sign of life for 15 minutes")

    summary = coordinate(place, fate)
    assert (summary.outcome, summary.counted_now) == ("Completed", len(NAMES))
    rounds = {run.parameters["plan"] for run in runs_of("detect-shard", place.tag)}
    assert len(rounds) > shards.ROUNDS


def test_rounds_that_record_pictures_are_bounded_too(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "MOST_ROUNDS", 1)

    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        if part == 1:
            counts(run, number, part)
        return Crashed(message="out of memory")

    with pytest.raises(PollenError, match="in 1 rounds"):
        coordinate(place, fate)


def test_a_refusal_is_not_tried_again(place: DetectRequest, s3_server: EmbeddedS3) -> None:
    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        if part == 1:
            return counts(run, number, part)
        return Failed(message="no usable NVIDIA GPU: choose")

    with pytest.raises(PollenError, match=r"no usable NVIDIA GPU: choose \('count part 2 .*failed"):
        coordinate(place, fate)
    assert len(shard_states(place)) == 3
    # What the other shard counted is in the tables.
    found = rows(bucket_tables(s3_server, f"sharded/{place.prefix}")[COUNTS])
    assert [row["status"] for row in found.values()].count("failed") == 4


def test_a_shard_that_a_person_cancels_ends_all(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SETTLE_S", 1.0)
    ended: State[Any] = Cancelled(message="not now")
    with pytest.raises(PollenError, match=r"not now \('count part 1 .*was cancelled"):
        coordinate(replace(place, shards=1), lambda *_: ended)
    assert shard_states(place) == ["Cancelled"]


def test_a_shard_that_automations_end_says_why(place: DetectRequest) -> None:
    """They cancel it, and give it its last state when the server has declared it Cancelled."""

    def fate(run: FlowRun, *_: int) -> "State[Any]":
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, Cancelled(message="timed out"), force=True)
        time.sleep(2)
        return Failed(name="PendingTooLong", message="the image can't be pulled")

    with pytest.raises(PollenError, match=r"image can't be pulled \('count part 1 .*failed"):
        coordinate(replace(place, shards=1), fate)


def test_a_shard_of_which_no_pod_came_is_run_again(place: DetectRequest) -> None:
    (lost,) = [
        str(action.name)
        for automation in declared_automations(Site())
        for action in automation.actions
        if isinstance(action, ChangeFlowRunState) and action.name == shards.LOST
    ]

    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        return counts(run, number, part) if number > 1 else Failed(name=lost)

    assert coordinate(replace(place, shards=1), fate).outcome == "Completed"
    assert shard_states(place) == [lost, "Completed"]


def test_a_run_that_was_killed_in_a_later_round_gets_further_ones(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    alone = replace(place, shards=1)
    waits = iter([shards.wait_for_shards] * (shards.ROUNDS - 1))

    def wait(*arguments: Any) -> list[FlowRun]:  # noqa: ANN401
        go_on = next(waits, None)
        if go_on is None:
            raise KilledError
        return go_on(*arguments)

    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        return counts(run, number, part) if number > shards.ROUNDS else Crashed()

    story = coordinator(alone)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(story, state=Pending())
    with monkeypatch.context() as patch:
        patch.setattr(flows.detect, "wait_for_shards", wait)
        with pytest.raises(KilledError):
            coordinate(alone, fate, run)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Pending(), force=True)
        run = client.read_flow_run(run.id)

    assert coordinate(alone, fate, run).outcome == "Completed"


def test_a_run_that_was_killed_goes_on_with_its_own_shards(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    story = coordinator(place)
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(story, state=Pending())
    with monkeypatch.context() as patch:
        patch.setattr(flows.detect, "wait_for_shards", killed)
        with pytest.raises(KilledError):
            run_flow(story, flow_run=run)
    started = {shard.id for shard in runs_of("detect-shard", place.tag)}
    assert len(started) == 3
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Pending(), force=True)
        run = client.read_flow_run(run.id)
    # One shard is through before the coordinator is back.
    first = runs_of("detect-shard", place.tag)[0]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(first.id, counts(first, 1, 1), force=True)

    summary = coordinate(place, run=run)
    assert (summary.outcome, summary.counted_now) == ("Completed", len(NAMES))
    assert {shard.id for shard in runs_of("detect-shard", place.tag)} == started


def test_shards_of_another_run_are_waited_for(place: DetectRequest) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("detect-shard/gpu")
        left = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"bucket": "sharded", "plan": "0001.json", "shard": 1},
            tags=[place.tag],
            idempotency_key=f"of another run, {place.prefix}",
            state=Pending(),
        )
        waiting = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"bucket": "sharded", "plan": "0001.json", "shard": 2},
            tags=[place.tag],
            idempotency_key=f"not started, of another run, {place.prefix}",
            state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1)),
        )
    ended: list[float] = []

    def fate(run: FlowRun, number: int, part: int) -> "State[Any]":
        if run.id == left.id:
            time.sleep(2)
            ended.append(time.monotonic())
            return Crashed()
        assert ended, "this run did not wait for what was left behind"
        return counts(run, number, part)

    assert coordinate(place, fate).counted_now == len(NAMES)
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(waiting.id).state_name == "Cancelled"


def detect_deployed(monkeypatch: pytest.MonkeyPatch, **parameters: object) -> "State[Any]":
    """Run the flow as from a deployment."""
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "as from a deployment")
    given: dict[str, Any] = {"bucket": "sharded", "model": MODEL, "settings": SETTINGS} | parameters
    return cast("State[Any]", detect(**given, return_state=True))


@pytest.mark.usefixtures("deployed")
def test_a_root_without_a_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = detect_deployed(monkeypatch, prefix="never set up")
    assert state.is_failed()
    assert "run `pollen setup`" in str(state.message)


@pytest.mark.usefixtures("deployed")
def test_a_request_without_a_bucket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state = detect_deployed(monkeypatch, bucket="")
    assert state.is_failed()
    assert "no bucket is named: expected the name of a saved S3Bucket block" in str(state.message)


def test_shards_that_are_not_deployed_name_the_remedy(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "DEPLOYMENT", "detect-shard/elsewhere")
    state = detect_deployed(monkeypatch, prefix=place.prefix)
    assert state.is_failed()
    assert DEPLOY in str(state.message)


def test_a_production_model_is_never_replaced_by_another(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = detect_deployed(monkeypatch, prefix=place.prefix, model="production")
    assert state.is_failed()
    assert "no model is in production" in str(state.message)


@pytest.mark.parametrize("number", [0, -1, 101])
def test_a_number_of_shards_that_can_not_be(place: DetectRequest, number: int) -> None:
    with pytest.raises(PollenError, match="expected 1 to 100"):
        coordinate(DetectRequest(place.bucket, place.prefix, place.model, number))


def test_settings_that_no_gpu_can_follow_are_refused_before_anything_starts(
    place: DetectRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = settings(backend="openvino")
    state = detect_deployed(monkeypatch, prefix=place.prefix, settings=wanted)
    assert state.is_failed()
    assert "set device: cpu or backend: torch" in str(state.message)
    assert not runs_of("detect-shard", place.tag)
