"""`pollen run` on a real server; the test itself plays the worker that moves runs on."""

import asyncio
import logging
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect import task
from prefect.client.orchestration import PrefectClient, SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, LogCreate, WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import AwaitingRetry, Cancelled, Completed, Crashed, Failed, Pending, Running
from prefect.utilities.callables import parameter_schema

from flows.detect import detect
from flows.train import train
from services.commands.run import run_deployed, watch_again
from services.console import ERR, OUT
from services.embedded import EmbeddedPrefect
from services.runs import watching
from services.runs.orders import detection, training
from tasks.cluster.deploy_hint import DEPLOY
from tests.support.proxy import proxy
from tests.support.runs import POLLEN, REPOSITORY

Said = Callable[[], tuple[str, str]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "ASK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(watching, "LAST_LINES_SECONDS", 0.3)
    monkeypatch.setattr(watching, "AGAIN_SECONDS", 2.0)
    for console in (OUT, ERR):
        monkeypatch.setattr(console, "_width", 300)


@pytest.fixture
def client(prefect_server: EmbeddedPrefect) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as connected:
        yield connected


@pytest.fixture
def deployment(prefect_server: EmbeddedPrefect) -> str:
    """A deployment of the real flow whose settings say `device: cpu`."""
    return asyncio.run(_deployed(detect, {"settings": {"device": "cpu"}}))


async def _deployed(flow: Any, parameters: dict[str, Any]) -> str:  # noqa: ANN401
    name = f"on-{uuid4().hex[:8]}"
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=f"{name}-pool", type="process"))
        await client.create_deployment(
            await client.create_flow_from_name(flow.name),
            name,
            work_pool_name=f"{name}-pool",
            parameters=parameters,
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            enforce_parameter_schema=True,
        )
    return f"{flow.name}/{name}"


def runs_of(client: SyncPrefectClient, deployment: str) -> list[FlowRun]:
    found = client.read_deployment_by_name(deployment)
    return [run for run in client.read_flow_runs(limit=200) if run.deployment_id == found.id]


def set_state(client: SyncPrefectClient, run: UUID, state: State) -> None:
    fresh = state.model_copy(update={"id": uuid4(), "timestamp": datetime.now(UTC)})
    client.set_flow_run_state(run, fresh, force=True)


def log(client: SyncPrefectClient, run: UUID, level: int, text: str) -> None:
    line = {
        "name": "prefect.flow_runs",
        "level": level,
        "message": text,
        "timestamp": datetime.now(UTC),
        "flow_run_id": run,
    }
    client.create_logs([LogCreate.model_validate(line)])


class Worker(threading.Thread):
    """Plays a worker: takes the first run of a deployment and does with it what it is told."""

    def __init__(self, deployment: str, play: Callable[[SyncPrefectClient, UUID], None]) -> None:
        super().__init__(daemon=True)
        self._deployment, self._play = deployment, play
        self._context = __import__("contextvars").copy_context()
        self.start()

    def run(self) -> None:
        self._context.run(self._work)

    def _work(self) -> None:
        with get_client(sync_client=True) as client:
            while not (found := runs_of(client, self._deployment)):
                time.sleep(0.05)
            self._play(client, found[0].id)


class Then(threading.Thread):
    """Does something as soon as something else has happened."""

    def __init__(self, event: threading.Event, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._event, self._act = event, act
        self.start()

    def run(self) -> None:
        if self._event.wait(60):
            self._act()


def states(*several: State, pause: float = 0.3) -> Callable[[SyncPrefectClient, UUID], None]:
    def play(client: SyncPrefectClient, run: UUID) -> None:
        for state in several:
            set_state(client, run, state)
            time.sleep(pause)

    return play


def start(deployment: str, *settings: str, watch: bool = False, **given: object) -> int:
    return run_deployed(lambda: detection(deployment, given, settings), watch=watch)


def test_what_is_said_goes_over_what_the_deployment_says(
    client: SyncPrefectClient, deployment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = start(
        deployment, "edge_rule=all", "sample_pattern=(?P<plant>x)", prefix="plot7", shards=3
    )
    assert code == 0
    (run,) = runs_of(client, deployment)
    assert run.parameters == {
        "prefix": "plot7",
        "shards": 3,
        "settings": {"device": "cpu", "edge_rule": "all", "sample_pattern": "(?P<plant>x)"},
    }
    told = capsys.readouterr()
    assert f"started '{run.name}' ({deployment})" in told.out
    assert str(run.id) in told.out
    assert f"/runs/flow-run/{run.id}" in told.out
    assert "no worker is online for work pool" in told.err
    assert f"pollen run watch {run.id}" in told.err


def test_nothing_said_leaves_all_to_the_deployment(
    client: SyncPrefectClient, deployment: str
) -> None:
    assert start(deployment, bucket=None, prefix=None) == 0
    (run,) = runs_of(client, deployment)
    assert run.parameters == {"settings": {"device": "cpu"}}


def test_a_training(client: SyncPrefectClient) -> None:
    deployment = asyncio.run(_deployed(train, {"settings": {"device": "cpu"}}))
    given = {"dataset": "lab", "base": None, "fresh": True}
    order = [
        "epochs=3",
        "gate.min_grains=7",
        "merging.shares.train=0.65",
        "merging.shares.test=0.2",
    ]
    assert run_deployed(lambda: training(deployment, given, order)) == 0
    (run,) = runs_of(client, deployment)
    assert run.parameters == {
        "dataset": "lab",
        "fresh": True,
        "settings": {"device": "cpu", "epochs": 3},
        "gate": {"min_grains": 7},
        "merging": {"shares": {"train": 0.65, "test": 0.2}},
    }


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        (Completed(message="3 images, 90 grains, 80.0% viable"), 0, "Completed: 3 images, 90 gr"),
        (Completed(name="NothingNew", message="x"), 0, "NothingNew: x"),
        (Completed(name="CompletedWithFailures", message="1 failed"), 1, "CompletedWithFailures"),
        (Completed(name="NoImages", message="no pictures to count"), 2, "NoImages: no pictures"),
        (Failed(message="the bucket is gone: make it"), 2, "Failed: the bucket is gone: make it"),
        (Crashed(message="Kubernetes job was deleted"), 2, "Crashed: Kubernetes job was deleted"),
        (Cancelled(), 2, "Cancelled"),
    ],
)
def test_the_exit_code_is_that_of_the_end(
    deployment: str,
    client: SyncPrefectClient,
    capsys: pytest.CaptureFixture[str],
    state: State,
    code: int,
    expected: str,
) -> None:
    Worker(deployment, states(Pending(), Running(), state, pause=0.05))
    assert start(deployment, watch=True) == code
    told = capsys.readouterr()
    assert expected in (told.err if code == 2 else told.out)
    if code == 2:
        assert f"pollen doctor {runs_of(client, deployment)[0].id}" in told.err


def test_all_that_happens_is_shown(deployment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also of the runs that the run starts, such as shards; every line once."""

    @task
    def start_shards() -> None:
        """Stands for the task run by which a run starts others."""

    async def shard(client: PrefectClient, parent: UUID) -> UUID:
        starter = await client.create_task_run(
            start_shards, flow_run_id=parent, dynamic_key="0", state=Running()
        )
        found = await client.read_deployment_by_name(deployment)
        run = await client.create_flow_run_from_deployment(
            found.id, name="count part 1 of 1", parent_task_run_id=starter.id
        )
        return run.id

    async def shard_of(parent: UUID) -> UUID:
        async with get_client() as client:
            return await shard(client, parent)

    def artifact(client: SyncPrefectClient, run: UUID, **fields: object) -> None:
        client.create_artifact(ArtifactCreate.model_validate({"flow_run_id": run, **fields}))

    def play(client: SyncPrefectClient, run: UUID) -> None:
        set_state(client, run, Running())
        log(client, run, logging.INFO, "the plan is made")
        child = asyncio.run(shard_of(run))
        set_state(client, child, Running())
        log(client, child, logging.WARNING, "a.png failed: it is cut off")
        artifact(
            client,
            run,
            key="detection-progress",
            type="progress",
            data=50.0,
            description="1 of 2 pictures counted, 0 failed",
        )
        time.sleep(0.5)
        set_state(client, child, Completed())
        artifact(
            client,
            run,
            key="failed-images",
            type="table",
            data='[{"filename": "a.png", "reason": "it is cut off"}]',
            description="1 failed",
        )
        set_state(
            client, run, Completed(name="CompletedWithFailures", message="2 images; 1 failed")
        )
        log(client, run, logging.INFO, "a last line that comes late")

    Worker(deployment, play)
    assert start(deployment, watch=True) == 1
    told = capsys.readouterr()
    for once in (
        "  the plan is made",
        "[count part 1 of 1] Running",
        "  [count part 1 of 1] WARNING: a.png failed: it is cut off",
        "50 %: 1 of 2 pictures counted, 0 failed",
        "[count part 1 of 1] Completed",
        "CompletedWithFailures: 2 images; 1 failed",
        "  a last line that comes late",
    ):
        assert told.err.splitlines().count(once) == 1, told.err
    assert "failed a.png: it is cut off" in told.out


def test_a_crashed_run_that_is_started_again_is_watched_on(deployment: str) -> None:
    again: State = AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(seconds=1))
    waits: State = Failed(name="Restarting", message="Crash 1")
    Worker(
        deployment, states(Running(), Crashed(), waits, again, Running(), Completed(), pause=0.6)
    )
    assert start(deployment, watch=True) == 0


def test_a_restart_is_waited_for_as_long_as_it_is_said_to_take(
    client: SyncPrefectClient, deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RESTART_SECONDS", 0.0)
    again: State = AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(seconds=1))
    shipped = yaml.safe_load((REPOSITORY / "deployments/automations/crashed.yaml").read_text())
    (action,) = shipped["automations"][0]["actions"]
    message = action["message"].format(crash=1, restart_minutes=30)
    waits: State = Failed(name=action["name"], message=message)
    Worker(deployment, states(Running(), Crashed(), waits, again, Completed(), pause=0.6))
    assert start(deployment, watch=True) == 0


ENDED: tuple[State, ...] = (
    Pending(name="EndingImagePullError"),
    State(type=StateType.CANCELLING, message="Waited too long for its start"),
    Cancelled(),
)


def test_a_run_that_waited_too_long_ends_with_the_reason(
    deployment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The states that tests/services/setup/test_recovery.py sees: Cancelled is not the last."""
    why = "Kubernetes can't pull the image"
    named = ("Pending", "Submitting", "InfrastructurePending", "ImagePullError")
    waits: list[State] = [Pending(name=name) for name in named]
    end: State = Failed(name="PendingTooLong", message=why)
    Worker(deployment, states(*waits, *ENDED, end, pause=0.6))
    assert start(deployment, watch=True) == 2
    assert f"PendingTooLong: {why}" in capsys.readouterr().err


def test_a_run_that_was_lost_before_its_start_is_watched_on(deployment: str) -> None:
    again: State = AwaitingRetry(scheduled_time=datetime.now(UTC) + timedelta(seconds=1))
    lost = [Failed(name="LostBeforeStart"), Failed(name="Restarting"), again]
    ended: tuple[State, ...] = (Pending(name="EndingNoPod"), *ENDED[1:])
    Worker(deployment, states(Pending(), *ended, *lost, Running(), Completed(), pause=0.6))
    assert start(deployment, watch=True) == 0


def test_watching_again_by_name(
    client: SyncPrefectClient, deployment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(deployment) == 0
    (run,) = runs_of(client, deployment)
    set_state(client, run.id, Completed(message="all done"))
    assert watch_again(run.name) == 0
    assert "Completed: all done" in capsys.readouterr().out
    assert watch_again("no-such-run") == 2
    assert "there is no flow run with the name or id 'no-such-run'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        (["confidence=2"], {}, "confidence"),
        (["no_such=1"], {}, "no_such"),
        ([], {"shards": 1000}, "expected 1 to 100"),
        ([], {"bucket": ""}, "no bucket is named"),
        (["backend=openvino", "precision=fp17"], {}, "precision"),
    ],
)
def test_what_can_not_be_used_starts_nothing(
    client: SyncPrefectClient,
    deployment: str,
    capsys: pytest.CaptureFixture[str],
    settings: Sequence[str],
    given: dict[str, Any],
    expected: str,
) -> None:
    assert start(deployment, *settings, **given) == 2
    assert expected in capsys.readouterr().err
    assert not runs_of(client, deployment)


def test_a_dataset_of_an_impossible_name(capsys: pytest.CaptureFixture[str]) -> None:
    given = {"dataset": "../other"}
    assert run_deployed(lambda: training("train/on-demand", given, ())) == 2
    assert "../other" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("detect/no-such", DEPLOY),
        ("no-such", "expected FLOW/NAME"),
    ],
)
def test_no_such_deployment(
    prefect_server: EmbeddedPrefect, capsys: pytest.CaptureFixture[str], name: str, expected: str
) -> None:
    assert start(name) == 2
    assert expected in capsys.readouterr().err


def test_no_server_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert start("detect/on-demand") == 2
    assert "PREFECT_API_URL" in capsys.readouterr().err


def test_a_server_that_is_away_for_a_while(
    prefect_server: EmbeddedPrefect,
    deployment: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away, watched, tell = threading.Event(), threading.Event(), watching._show_news

    def telling(*arguments: Any) -> bool:  # noqa: ANN401
        ended = tell(*arguments)
        watched.set()
        return ended

    monkeypatch.setattr(watching, "_show_news", telling)

    def play(client: SyncPrefectClient, run: UUID) -> None:
        set_state(client, run, Running())
        assert watched.wait(60)
        away.set()
        time.sleep(1)
        set_state(client, run, Completed(message="all done"))
        away.clear()

    Worker(deployment, play)
    with (
        proxy(prefect_server.api_url, refuse=away.is_set) as address,
        temporary_settings({PREFECT_API_URL: f"{address}/api", PREFECT_CLIENT_MAX_RETRIES: 0}),
    ):
        assert start(deployment, watch=True) == 0
        assert "the Prefect server does not answer" in capsys.readouterr().err

        monkeypatch.setattr(watching, "PATIENCE_SECONDS", 0.5)
        watched.clear()
        Then(watched, away.set)
        assert start(deployment, watch=True) == 2
        away.clear()
    assert "The run may continue without it" in capsys.readouterr().err


def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come once, as soon as the run is watched."""
    tell, times = watching._show_news, iter([True])

    def once(*arguments: Any) -> bool:  # noqa: ANN401
        if next(times, False):
            raise KeyboardInterrupt
        return tell(*arguments)

    monkeypatch.setattr(watching, "_show_news", once)


def test_without_a_terminal_ctrl_c_leaves_the_run_going(
    client: SyncPrefectClient,
    deployment: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted(monkeypatch)
    assert start(deployment, watch=True) == 2
    (run,) = runs_of(client, deployment)
    assert run.state is not None
    assert run.state.is_scheduled()
    assert f"pollen run watch {run.id}" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_ctrl_c_asks(
    client: SyncPrefectClient, prefect_server: EmbeddedPrefect, deployment: str, answer: str
) -> None:
    assert start(deployment) == 0
    (run,) = runs_of(client, deployment)
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        [*POLLEN, "run", "watch", str(run.id)],
        cwd=REPOSITORY,
        env={**os.environ, **prefect_server.environment(), "TERM": "xterm", "COLUMNS": "200"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # Tests that run in the background are started with Ctrl-C switched off.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,  # noqa: PLW1509
    )
    os.close(theirs)
    said = ""

    def until(*texts: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 60
        while not any(text in said for text in texts):
            assert time.monotonic() < deadline, said
            if select.select([terminal], [], [], 1)[0]:
                said += os.read(terminal, 4096).decode()

    try:
        until("Scheduled", "Late")
        process.send_signal(signal.SIGINT)
        until("Cancel the run")
        os.write(terminal, f"{answer}\n".encode())
        until("Cancelled" if answer == "y" else "To watch it again")
        assert process.wait(timeout=60) == 2
    finally:
        process.kill()
        os.close(terminal)
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_cancelled() == (answer == "y")


def test_it_loads_nothing_that_only_clusters_need() -> None:
    """Of the seconds until it says something, nearly all are spent loading libraries."""
    asked = "import sys, services.commands.run; print(*{each.partition('.')[0] for each in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "prefect" in loaded
    assert not loaded & {"kubernetes_asyncio", "kopf", "prefect_kubernetes", "torch", "ultralytics"}
