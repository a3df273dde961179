"""Every stage waits and completes after faults that heal, and is tried once after others.

Faults are injected on the wire, in front of a real S3 server; boto's own retries are switched off
here, so that one refused request is one failed attempt of the stage.
"""

import shutil
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import polars as pl
import pytest
from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType, TaskRun

import tasks.stage
from pollen.columns import GRAIN_RECORD, IMAGE_RECORD
from pollen.counting.record_rows import Provenance, failed_row
from pollen.detection import backends
from pollen.detection.batches import Item
from pollen.detection.profile import Profile
from pollen.detection.tiling import ScaleError
from pollen.errors import PollenError
from pollen.layout import records_folder
from pollen.models.card import ModelCard, check_weights
from pollen.results.records import INPUTS
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.detection import batch as detection
from tasks.detection.batch import BatchResult, detect_batch, load_model
from tasks.detection.planning import check_access, compact_records, plan
from tasks.detection.records import MERGE_FROM_FILES, write_records
from tasks.detection.results import begin_results, summarise
from tasks.detection.work import Work
from tasks.faults import StorageError
from tasks.models.resolve import Model, resolve_model
from tasks.progress import Silent
from tasks.stage import RETRIES, Stage, stage
from tasks.storage import store as storage
from tasks.storage.local_copies import cache_folder
from tasks.storage.store import open_store
from tests.support.pictures import picture
from tests.support.runs import MODEL, bucket_folder, settings, upload
from tests.support.wire import Wire, tapped

REFUSED = "refused access to s3://pollen/stage/.*check the access key"


@dataclass(frozen=True)
class Case:
    """A stage, the request that is refused, and what its arguments are and its result must be.

    `as_task`: also tried in a flow run; once per stage is enough there.
    """

    stage: Stage[..., Any]
    operation: str
    part: str
    arguments: Callable[[EmbeddedS3, str], tuple[Any, ...]]
    is_right: Callable[[Any], bool]
    as_task: bool = True


def profile_and_model() -> tuple[Profile, Model]:
    model = resolve_model(MODEL, bucket_folder("nowhere"))
    return Profile.resolve(model.card, settings()), model


def records_of(profile: Profile) -> str:
    return records_folder(profile.model_version, profile.fingerprint)


def image_row(key: str, profile: Profile, batch: str = "batch") -> pl.DataFrame:
    origin = Provenance(Item(key, "1", 9), None, batch, profile)
    row = failed_row(origin, key, "for the test", 1, transient=False)
    return pl.DataFrame([row], schema=IMAGE_RECORD)


def nothing_to_say(_: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    return bucket_folder(f"{prefix}/in"), bucket_folder(f"{prefix}/out")


def published_model(server: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    model = resolve_model(MODEL, bucket_folder(prefix))
    shutil.rmtree(cache_folder() / "models", ignore_errors=True)  # so that weights are fetched
    upload(
        server,
        f"{prefix}/trained_models/v1",
        {
            "model.json": model.card.model_copy(update={"version": "v1"})
            .model_dump_json()
            .encode(),
            "weights/best.pt": model.weights.read_bytes(),
        },
    )
    return "v1", bucket_folder(prefix)


def two_pictures(server: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    upload(server, f"{prefix}/in", {"a.png": picture(0), "b.png": picture(1)})
    return *nothing_to_say(server, prefix), "records/", settings()


def a_batch(server: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    todo = plan(*two_pictures(server, prefix))
    profile, model = profile_and_model()
    source, output = nothing_to_say(server, prefix)
    work = Work(source, output, model, profile, settings(), "records/")
    return todo.batches[0], work, Silent()


def many_records(server: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    profile, _ = profile_and_model()
    store, grains = open_store(bucket_folder(prefix)), pl.DataFrame(schema=GRAIN_RECORD)

    def write(name: str) -> None:
        write_records(store, "records/", name, image_row(f"{name}.png", profile, name), grains)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, map(str, range(MERGE_FROM_FILES))))
    return bucket_folder(prefix), "records/"


def one_record(server: EmbeddedS3, prefix: str) -> tuple[Any, ...]:
    profile, model = profile_and_model()
    write_records(
        open_store(bucket_folder(prefix)),
        records_of(profile),
        "batch",
        image_row("a.png", profile),
        pl.DataFrame(schema=GRAIN_RECORD),
    )
    upload(server, f"{prefix}/in", {"a.png": b"not read here"})
    source, output = bucket_folder(f"{prefix}/in"), bucket_folder(prefix)
    work = Work(source, output, model, profile, settings(), records_of(profile))
    return work, pl.DataFrame([("a.png", "1", 9)], schema=INPUTS, orient="row"), 1


CASES = {
    "check access": Case(
        check_access, "ListObjectsV2", "", nothing_to_say, lambda result: result is None
    ),
    "find model": Case(
        resolve_model,
        "GetObject",
        "model.json",
        published_model,
        lambda model: model.card.version == "v1",
    ),
    "find model: weights": Case(
        resolve_model,
        "GetObject",
        "best.pt",
        published_model,
        lambda model: model.weights.is_file(),
        as_task=False,
    ),
    "plan": Case(plan, "ListObjectsV2", "", two_pictures, lambda todo: todo.waiting == 2),
    "begin results": Case(
        begin_results,
        "PutObject",
        "tables.pending",
        lambda _, prefix: (bucket_folder(f"{prefix}/out"),),
        lambda result: result is None,
    ),
    "count": Case(
        detect_batch, "PutObject", "/images/", a_batch, lambda done: done == BatchResult(2, 0)
    ),
    "count: grains": Case(
        detect_batch,
        "PutObject",
        "/grains/",
        a_batch,
        lambda done: done == BatchResult(2, 0),
        as_task=False,
    ),
    "compact": Case(
        compact_records, "PutObject", "/merged-", many_records, lambda gone: gone >= 23
    ),
    "compact: delete": Case(
        compact_records,
        "DeleteObject",
        "",
        many_records,
        lambda gone: gone >= 23,
        as_task=False,
    ),
    "summarise": Case(
        summarise, "PutObject", "pollen_counts", one_record, lambda made: made.rows.height == 1
    ),
    "summarise: records": Case(
        summarise,
        "GetObject",
        "/records/",
        one_record,
        lambda made: made.rows.height == 1,
        as_task=False,
    ),
    "summarise: grain table": Case(
        summarise,
        "PutObject",
        "particle_measurements",
        one_record,
        lambda made: made.rows.height == 1,
        as_task=False,
    ),
}
TASK_CASES = {name: case for name, case in CASES.items() if case.as_task}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
each_stage = pytest.mark.parametrize("case", TASK_CASES.values(), ids=TASK_CASES.keys())


@pytest.fixture
def arguments(
    case: Case, s3_server: EmbeddedS3, request: pytest.FixtureRequest
) -> Iterator[tuple[Any, ...]]:
    """Arguments in a bucket folder of this test's own, with the server in the environment."""
    name = f"stage/{abs(hash(request.node.name)):x}"
    with s3_server.active():
        yield case.arguments(s3_server, name)


@pytest.fixture
def wire(case: Case, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.0)
    monkeypatch.setattr(case.stage, "retry_delay_seconds", [0.05, 0.05, 0.05])
    return tapped(monkeypatch)


def in_a_flow(
    case: Case, arguments: tuple[Any, ...]
) -> tuple[State[Any], list[tuple[str | None, StateType]]]:
    """Run a stage in a flow run; its final state, and the states of its task run in order."""

    @flow(name="one stage", persist_result=False)
    def one_stage() -> Any:  # noqa: ANN401  (what the stage gives)
        return case.stage(*arguments)

    state = cast("State[Any]", one_stage(return_state=True))
    assert state.state_details.flow_run_id is not None
    return state, states_of_task(state.state_details.flow_run_id)


def states_of_task(flow_run_id: UUID) -> list[tuple[str | None, StateType]]:
    """States of a flow run's only task run; they reach the server a little after the run."""
    of_flow = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs: list[TaskRun] = client.read_task_runs(flow_run_filter=of_flow)
            if len(runs) == 1 and runs[0].state and runs[0].state.is_final():
                states = client.read_task_run_states(runs[0].id)
                states.sort(key=lambda state: state.timestamp)
                return [(state.name, state.type) for state in states]
            time.sleep(0.1)
    raise AssertionError("the task run did not reach the server in a final state")


@each_case
def test_alone_it_waits_and_completes_after_503(
    case: Case, arguments: tuple[Any, ...], wire: Wire
) -> None:
    wire.fail(case.operation, 503, times=2, part=case.part)
    assert case.is_right(case.stage(*arguments))
    assert wire.refused[case.operation] == 2


@each_case
def test_alone_it_is_tried_once_after_403(
    case: Case, arguments: tuple[Any, ...], wire: Wire
) -> None:
    wire.fail(case.operation, 403, part=case.part)
    with pytest.raises(StorageError, match=REFUSED):
        case.stage(*arguments)
    assert wire.refused[case.operation] == 1


@each_stage
def test_as_a_task_it_waits_in_awaiting_retry_and_completes_after_503(
    case: Case, arguments: tuple[Any, ...], wire: Wire, prefect_server: EmbeddedPrefect
) -> None:
    wire.fail(case.operation, 503, times=1, part=case.part)
    state, states = in_a_flow(case, arguments)
    assert case.is_right(state.result())
    assert wire.refused[case.operation] == 1
    names = [name for name, _ in states]
    assert names.count("AwaitingRetry") == 1
    assert names[-1] == "Completed"


@each_stage
def test_as_a_task_it_fails_at_once_after_403(
    case: Case, arguments: tuple[Any, ...], wire: Wire, prefect_server: EmbeddedPrefect
) -> None:
    wire.fail(case.operation, 403, part=case.part)
    state, states = in_a_flow(case, arguments)
    with pytest.raises(StorageError, match=REFUSED):
        state.result()
    assert wire.refused[case.operation] == 1
    assert "AwaitingRetry" not in [name for name, _ in states]
    assert states[-1][1] is StateType.FAILED


@stage("double {number}")
def double(number: int) -> int:
    if number < 0:
        raise PollenError("negative")
    return 2 * number


def test_a_stage_is_a_prefect_task(prefect_server: EmbeddedPrefect) -> None:
    @flow(persist_result=False)
    def doubled() -> tuple[int, list[int]]:
        state = cast("Any", double)(3, return_state=True)
        assert state.is_completed()
        return double.submit(4).result(), double.map([5, 6]).result()

    assert isinstance(double, Task)
    assert double.fn(2) == 4
    assert doubled() == (8, [10, 12])


def test_a_stage_with_other_options_is_a_stage() -> None:
    tries: list[int] = []

    @stage("try {number}")
    def attempt(number: int) -> None:
        tries.append(number)
        raise PollenError("busy", heals=True)

    once = attempt.with_options(name="once", retries=0)

    assert (once.name, once.retries, once.task_run_name) == ("once", 0, "try {number}")
    assert (attempt.name, attempt.retries) == ("attempt", RETRIES)
    assert (once.cache_policy, once.persist_result) == (NO_CACHE, False)
    with pytest.raises(PollenError, match="busy"):
        once(1)
    assert tries == [1]


def test_many_calls_alone_give_results_and_exceptions() -> None:
    ended = list(double.each({"number": number} for number in (1, -1, 2, 3)))
    assert sorted(one for one in ended if isinstance(one, int)) == [2, 4, 6]
    (failed,) = (one for one in ended if isinstance(one, Exception))
    assert str(failed) == "negative"


def test_ctrl_c_stops_after_the_current_calls(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[int] = []

    @stage("note {number}")
    def note(number: int) -> int:
        begun.append(number)
        time.sleep(0.2)
        return number

    calls = note.each({"number": number} for number in range(20))
    next(calls)
    with pytest.raises(KeyboardInterrupt):
        cast("Generator[Any]", calls).throw(KeyboardInterrupt())
    assert "press Ctrl-C again to stop at once" in caplog.text
    assert len(begun) <= 4


def test_it_gives_up_after_three_more_tries(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.0)
    wire = tapped(monkeypatch)
    wire.fail("ListObjectsV2", 503)
    with (
        s3_server.active(),
        pytest.raises(StorageError, match=r"is busy or failing .*503 SlowDown.*try again later"),
    ):
        check_access(bucket_folder("in"), bucket_folder("out"))
    assert wire.refused["ListObjectsV2"] == 1 + RETRIES


def test_boto_itself_tries_thrice_below_a_stage(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = tapped(monkeypatch, boto_attempts=storage.CLIENT_CONFIG["retries"]["total_max_attempts"])
    wire.fail("ListObjectsV2", 503, times=2)
    with s3_server.active():
        check_access(bucket_folder("in"), bucket_folder("out"))
    assert wire.seen["ListObjectsV2"] == 4  # three for the source, one for the output


def test_a_model_that_can_not_be_loaded_is_tried_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    profile, model = profile_and_model()
    damaged = tmp_path / "best.pt"
    damaged.write_bytes(model.weights.read_bytes()[:-1] + b"?")
    tries: list[Path] = []

    def checked(weights: Path, card: ModelCard) -> None:
        tries.append(weights)
        check_weights(weights, card)

    monkeypatch.setattr(backends, "check_weights", checked)
    monkeypatch.setattr(detection, "_detectors", {})
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path))  # nothing is prepared there
    with pytest.raises(PollenError, match="were altered or damaged: expected SHA-256"):
        load_model(Model(damaged, model.card), profile)
    assert tries == [damaged]


def test_a_wrong_pixel_size_fails_single_pictures_and_not_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files may state their own pixel size; a stated diameter is that of every picture."""
    profile, model = profile_and_model()
    monkeypatch.setattr(detection, "detector_for", lambda *_: None)
    wrong_size = replace(profile, trained_pixel_size_um=0.5, pixel_size_um=5000.0)
    with pytest.raises(ScaleError):
        wrong_size.grid()
    load_model(model, wrong_size)
    wrong_diameter = replace(profile, trained_diameter_px=40.0, grain_diameter_px=0.004)
    with pytest.raises(ScaleError):
        load_model(model, wrong_diameter)
