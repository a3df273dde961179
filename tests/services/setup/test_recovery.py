"""What the recovery automations do with runs, on a real Prefect server with a real process worker.

The automations are a site's, but they wait for seconds instead of minutes, and so does the server
when it cancels. What would need a cluster:

* What Kubernetes says of pods and Jobs is made up here and given to the worker's own code for it
  (``prefect_kubernetes.observer``), which reports to the real server.
* A pod is the command that it would run, as a process.
* That the worker deletes the Job of a run which was declared Cancelled is Prefect's doing, and is
  not shown.

Nearly all the time is spent waiting, so tests are begun together.
"""

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.clients import get_events_client
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Cancelled, Crashed, Pending, Running, Submitting
from prefect_kubernetes import observer  # type: ignore[import-untyped]

from services.embedded import EmbeddedPrefect
from services.site import Recovery, Site
from tests.support.automations import declared_automations

REQUEUES = 2
WAIT = timedelta(seconds=15)  # Prefect allows 10 s and more
PATIENCE_S = 300  # on a very busy machine, a flow takes a minute to start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FLOW = """
import os, signal, time
from pathlib import Path
from prefect import flow

@flow(name="detect")
def story(act: str, marks: str) -> None:
    with Path(marks).open("a+") as file:
        file.seek(0)
        starts = len(file.readlines())
        print(os.getpid(), file=file)
    if act == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "sleeps at first" and not starts:
        time.sleep(600)
"""

_ONE_OBSERVER = threading.Lock()

IMAGE_NOT_PULLED = {
    "phase": "Pending",
    "containerStatuses": [
        {
            "name": "prefect-job",
            "restartCount": 0,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}},
        }
    ],
}


def unschedulable(message: str) -> dict[str, Any]:
    """Status of a pod that no node takes, with the scheduler's words."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": f"0/3 nodes are available: {message}.",
    }
    return {"phase": "Pending", "conditions": [condition]}


class QuickServer(EmbeddedPrefect):
    """A server that does within seconds what takes minutes elsewhere."""

    def _server_environment(self) -> dict[str, str]:
        return super()._server_environment() | {
            "PREFECT_SERVER_SERVICES_CANCELLATION_CLEANUP_CANCELLING_TIMEOUT_SECONDS": "1",
            "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
            "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
            # With a SQLite file, Prefect loses events when many things happen at once ("database is
            # locked"). In memory it has one connection, for which all wait, and loses none, as with
            # PostgreSQL.
            "PREFECT_API_DATABASE_CONNECTION_URL": (
                "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false"
            ),
        }


@dataclass
class World:
    """A server and deployments of one flow, by flow and name."""

    client: SyncPrefectClient
    folder: Path
    deployments: dict[str, UUID] = field(default_factory=dict)

    def deploy(
        self,
        path: str,
        *,
        pool: str,
        tags: tuple[str, ...] = ("pollen", "requeue"),
        concurrency_limit: int | None = None,
        job_variables: dict[str, Any] | None = None,
    ) -> None:
        flow, _, name = path.partition("/")
        self.deployments[path] = self.client.create_deployment(
            flow_id=self.client.create_flow_from_name(flow),
            name=name,
            entrypoint="story.py:story",
            pull_steps=[
                {"prefect.deployments.steps.set_working_directory": {"directory": str(self.folder)}}
            ],
            work_pool_name=pool,
            tags=list(tags),
            concurrency_limit=concurrency_limit,
            job_variables=job_variables,
        )

    def run(self, path: str, act: str = "", *states: State[Any]) -> "Run":
        marks = self.folder / f"{uuid4()}.txt"
        marks.touch()
        flow_run = self.client.create_flow_run_from_deployment(
            self.deployments[path], parameters={"act": act, "marks": str(marks)}
        )
        return Run(self, flow_run, marks).then(*states)

    def slots(self, path: str) -> int:
        limit = self.client.read_deployment(self.deployments[path]).global_concurrency_limit
        assert limit is not None
        return limit.active_slots


@dataclass(frozen=True)
class Run:
    """A flow run and the file in which each of its starts leaves its process id."""

    world: World
    flow_run: FlowRun
    marks: Path

    def then(self, *states: State[Any]) -> "Run":
        """Report states as the run's process or worker would."""
        for state in states:
            self.world.client.set_flow_run_state(self.flow_run.id, state)
        return self

    def states(self) -> list[State[Any]]:
        found = self.world.client.read_flow_run_states(self.flow_run.id)
        return sorted(found, key=lambda state: state.timestamp)

    def names(self) -> list[str]:
        return [state.name or "" for state in self.states()]

    def message(self, name: str) -> str:
        return next(state.message or "" for state in self.states() if state.name == name)

    def pids(self) -> list[int]:
        return [int(line) for line in self.marks.read_text().splitlines()]

    def until(self, met: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not met():
            assert time.monotonic() < end, [
                f"{each.timestamp:%X} {each.name}: {(each.message or '')[:40]}"
                for each in self.states()
            ]
            time.sleep(1)

    def until_state(self, name: str) -> None:
        self.until(lambda: name in self.names())

    def until_last(self, name: str) -> None:
        self.until(lambda: self.names()[-1] == name)

    def has_beaten(self) -> bool:
        """Whether the server has a heartbeat of the run."""
        wanted = {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{self.flow_run.id}"]},
        }
        answer = self.world.client.request("POST", "/events/filter", json={"filter": wanted})
        return bool(answer.json()["events"])

    def labels(self) -> dict[str, str]:
        """Those that the worker gives the run's Job and pod."""
        flow = self.world.client.read_flow(self.flow_run.flow_id)
        assert self.flow_run.deployment_id is not None
        deployment = self.world.client.read_deployment(self.flow_run.deployment_id)
        return {
            "prefect.io/flow-run-id": str(self.flow_run.id),
            "prefect.io/flow-run-name": self.flow_run.name,
            "prefect.io/flow-id": str(flow.id),
            "prefect.io/flow-name": flow.name,
            "prefect.io/deployment-id": str(deployment.id),
            "prefect.io/deployment-name": deployment.name,
        }

    def pod(self, *statuses: dict[str, Any]) -> None:
        """Let the worker's observer see a pod of the run in these conditions, one after another."""
        about = {"uid": str(uuid4()), "name": "pod", "namespace": "lab", "labels": self.labels()}
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {"type": "MODIFIED", "object": {"metadata": {"creationTimestamp": created}}}

        async def seen() -> None:
            for status in statuses:
                await observer._replicate_pod_event(
                    event=event, status=status, logger=logging.getLogger("observer"), **about
                )

        observed(seen)

    def job_failed(self) -> None:
        """Let the worker's observer see that the run's Job failed."""
        observed(
            lambda: observer._mark_flow_run_as_crashed(
                event={"type": "MODIFIED"},
                name="job",
                namespace="lab",
                uid=str(uuid4()),
                labels=self.labels(),
                status={"failed": 1},
                spec={"backoffLimit": 0},
                logger=logging.getLogger("observer"),
            )
        )


def observed(what: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a part of the observer with the clients that it has in a worker."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            with pytest.MonkeyPatch.context() as patch:
                for name, client in (
                    ("orchestration_client", get_client()),
                    ("events_client", get_events_client()),
                ):
                    patch.setattr(observer, name, await stack.enter_async_context(client))
                await what()

    with _ONE_OBSERVER:
        asyncio.run(run())


@contextmanager
def worker(pool: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process worker, killed at the end."""
    with prefect(folder, "worker", "start", "--pool", pool, PREFECT_WORKER_QUERY_SECONDS="1") as it:
        yield it


@contextmanager
def prefect(
    folder: Path, *arguments: str, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A command of Prefect as a process, killed at the end."""
    with (folder / f"{arguments[0]}-{uuid4()}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            env={**os.environ, "PREFECT_LOGGING_TO_API_ENABLED": "false", **environment},
            stdout=log,
            stderr=log,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def hurried(automation: AutomationCore, world: World) -> AutomationCore:
    """Make an automation wait for seconds, and only where these tests mean it.

    On a busy machine, runs that are well start slower than that.
    """
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)
    assert isinstance(trigger.match_related, list)
    if trigger.posture is Posture.Proactive:
        trigger.within = WAIT
    if automation.name == "pollen: alive after all":
        trigger.within = WAIT - timedelta(seconds=5)
    if automation.name.startswith("pollen: end "):
        trigger.match_related.append(
            {"prefect.resource.role": "work-pool", "prefect.resource.name": "nobody"}
        )
    if automation.name == "pollen: no sign of life":
        lost = world.deployments["train/on-demand"]
        trigger.match_related.append(
            {
                "prefect.resource.role": "deployment",
                "prefect.resource.id": f"prefect.deployment.{lost}",
            }
        )
    return automation


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("flows")
    (folder / "story.py").write_text(FLOW)
    with QuickServer() as server, server.active(), get_client(sync_client=True) as client:
        world = World(client, folder)
        for pool in ("cpu", "gpu", "pods", "nobody"):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        world.deploy("detect/on-demand", pool="cpu", concurrency_limit=1)
        # No process comes of it: the folder in which it should start is not there.
        world.deploy("detect/nightly", pool="cpu", job_variables={"working_dir": "/not/there"})
        world.deploy("train/on-demand", pool="gpu")
        world.deploy("detect/on-upload", pool="nobody")
        world.deploy("detect-shard/gpu", pool="nobody", tags=("pollen",))
        world.deploy("detect/in-a-pod", pool="pods")
        world.deploy("detect/of-others", pool="nobody", tags=())
        for automation in declared_automations(Site(recovery=Recovery(requeues=REQUEUES))):
            client.create_automation(hurried(automation, world))
        yield world


Story = Callable[[World], None]
_STORIES: list[Story] = []
_AT_ONCE = 6


@pytest.fixture(scope="module")
def begun(world: World) -> Iterator[dict[Story, "Future[None]"]]:
    """All tests of this module, under way; the first are those that take longest."""
    with ThreadPoolExecutor(_AT_ONCE) as threads, worker("cpu", world.folder):
        yield {
            story: threads.submit(contextvars.copy_context().run, story, world)
            for story in _STORIES
        }


def together(story: Story) -> Callable[[dict[Story, "Future[None]"]], None]:
    """Make a test of what is begun together with all others of its kind."""

    def test(begun: dict[Story, "Future[None]"]) -> None:
        begun[story].result()

    _STORIES.append(story)
    return test


@together
def test_a_run_that_always_crashes_stays_crashed_in_the_end(world: World) -> None:
    run = world.run("detect/on-demand", "killed")

    stays_crashed(run)

    # Fewer than allowed, where the worker on a busy machine reports a crash once more, too late.
    assert 2 <= len(run.pids()) <= 1 + REQUEUES
    assert world.slots("detect/on-demand") == 0


@together
def test_one_that_never_gets_as_far_as_running_stays_crashed_in_the_end(world: World) -> None:
    run = world.run("detect/nightly")

    stays_crashed(run)

    assert run.pids() == []
    assert 2 <= run.names().count("Pending") <= 1 + REQUEUES


@together
def test_a_run_whose_machine_is_lost_is_finished_on_another(world: World) -> None:
    run = world.run("train/on-demand", "sleeps at first")
    with worker("gpu", world.folder):
        run.until(lambda: bool(run.pids()) and run.has_beaten())
    os.kill(run.pids()[0], signal.SIGKILL)
    run.until_last("AwaitingRetry")
    assert "No sign of life" in run.message("Crashed")

    with worker("gpu", world.folder):
        run.until_last("Completed")

    assert len(run.pids()) == 2


@together
def test_an_evicted_pod_is_one_crash(world: World) -> None:
    run = world.run("detect/in-a-pod", "sleeps at first", Pending())
    with prefect(
        world.folder,
        "flow-run",
        "execute",
        PREFECT__FLOW_RUN_ID=str(run.flow_run.id),
        PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR="crash",
    ) as pod:
        run.until(lambda: bool(run.pids()))
        pod.terminate()
        pod.wait()
    os.kill(run.pids()[0], signal.SIGKILL)  # as all that is in a container whose command ended
    # Had the run put itself back, it would be AwaitingRetry by now, time after time.
    assert run.names()[-1] == "Running"

    run.job_failed()

    run.until_last("AwaitingRetry")
    assert run.names()[-4:] == ["Running", "Crashed", "Restarting", "AwaitingRetry"]


@together
def test_only_crashes_of_ours_and_only_once_each_lead_to_new_starts(world: World) -> None:
    shard, others, ours = (
        world.run(path, "", Pending(), Running(), Crashed())
        for path in ("detect-shard/gpu", "detect/of-others", "detect/on-upload")
    )
    ours.until_state("Restarting")

    ours.then(Crashed(message="reported by the worker, too"))
    ours.job_failed()

    ours.until_last("AwaitingRetry")
    assert ours.names().count("Crashed") == 1
    assert shard.names()[-1] == others.names()[-1] == "Crashed"


@together
def test_a_run_that_is_cancelled_or_was_not_dead_is_not_started_again(world: World) -> None:
    alive = world.run("detect/on-upload", "", Pending(), Running(), Crashed())
    while alive.names()[-1] in {"Crashed", "Restarting"}:
        event(alive, "heartbeat")
        time.sleep(1)
    assert alive.names()[-2:] == ["Restarting", "Running"]
    cancelled = world.run("detect/on-upload", "", Pending(), Running(), Crashed())
    cancelled.until_state("Restarting")
    cancelled.then(Cancelled())

    later = world.run("detect/on-upload", "", Pending(), Running(), Crashed())
    later.until_last("AwaitingRetry")

    assert cancelled.names()[-1] == "Cancelled"
    assert alive.names()[-1] == "Running"


@together
def test_a_run_that_waits_too_long_ends_with_what_it_waited_for(world: World) -> None:
    waits = {
        "ImagePullError": (IMAGE_NOT_PULLED, "can't pull the image"),
        "InsufficientResources": (
            unschedulable("3 Insufficient nvidia.com/gpu"),
            "No node has enough free GPUs",
        ),
        "NoSuitableNode": (
            unschedulable("3 node(s) had untolerated taint {a: b}"),
            "node selector",
        ),
    }
    runs = {name: world.run("detect/on-upload", "", Pending(), Submitting()) for name in waits}
    for name, run in runs.items():
        run.pod(waits[name][0])

    for name, run in runs.items():
        run.until_last("PendingTooLong")
        assert run.names()[-6:] == [
            "InfrastructurePending",
            name,  # seen in the list of runs from the first minute
            f"Ending{name}",
            "Cancelling",
            "Cancelled",
            "PendingTooLong",
        ]
        assert run.states()[-1].is_failed()
        assert waits[name][1] in run.message("PendingTooLong")
        assert "pollen doctor RUN" in run.message("PendingTooLong")


@together
def test_one_that_waits_for_a_reason_unknown_leaves_its_place_to_others(world: World) -> None:
    one_at_a_time = f"detect-shard/{uuid4()}"
    world.deploy(one_at_a_time, pool="nobody", tags=("pollen",), concurrency_limit=1)
    run = world.run(one_at_a_time, "", Pending(), Submitting())
    run.pod({"phase": "Pending"})
    assert world.slots(one_at_a_time) == 1

    run.until_last("PendingTooLong")

    assert "Secret" in run.message("PendingTooLong")
    assert world.slots(one_at_a_time) == 0


@together
def test_a_pod_that_starts_late_runs_unless_its_run_is_being_ended(world: World) -> None:
    late, too_late = (world.run("detect/on-upload", "", Pending(), Submitting()) for _ in range(2))
    late.pod(unschedulable("3 Insufficient nvidia.com/gpu"))
    late.until_state("InsufficientResources")
    late.then(Running())
    too_late.pod(IMAGE_NOT_PULLED)
    too_late.until_state("Cancelling")

    too_late.then(Running())

    too_late.until_last("PendingTooLong")
    assert "Running" not in too_late.names()
    assert late.names()[-1] == "Running"


@together
def test_a_run_that_runs_is_not_ended_when_old_news_comes_late(world: World) -> None:
    runs, waits = (world.run("detect/on-upload", "", Pending(), Submitting()) for _ in range(2))
    runs.then(Running())

    event(runs, "InfrastructurePending")
    event(waits, "InfrastructurePending")

    # What it is ended for is not asked here: a busy server may take these events in another order than they came.
    waits.until_state("Cancelling")
    assert runs.names()[-1] == "Running"


@together
def test_a_run_of_which_no_pod_came_is_started_again(world: World) -> None:
    run = world.run("detect/on-upload", "", Pending(), Submitting())

    run.until_last("AwaitingRetry")

    assert run.names()[-6:] == [
        "EndingNoPod",
        "Cancelling",
        "Cancelled",
        "LostBeforeStart",
        "Restarting",
        "AwaitingRetry",
    ]
    assert "quota" in run.message("LostBeforeStart")


def stays_crashed(run: Run) -> None:
    """Wait until a run has crashed for the last time, and is not put back any more."""
    run.until(lambda: any("Crash 2" in (each.message or "") for each in run.states()))
    run.until_last("Crashed")
    time.sleep(WAIT.total_seconds() + 5)
    assert run.names()[-1] == "Crashed"


def event(run: Run, name: str) -> None:
    """Send the server an event about a run, as its engine or the server itself does."""
    related = {
        "deployment": f"prefect.deployment.{run.flow_run.deployment_id}",
        "tag": "prefect.tag.pollen",
        "work-pool": f"prefect.work-pool.{run.flow_run.work_pool_id}",
    }
    data = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": f"prefect.flow-run.{name}",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run.flow_run.id}"},
        "related": [
            {
                "prefect.resource.id": resource,
                "prefect.resource.role": role,
                "prefect.resource.name": run.flow_run.work_pool_name or "",
            }
            for role, resource in related.items()
        ],
    }
    run.world.client.request("POST", "/events", json=[data]).raise_for_status()
