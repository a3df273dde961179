"""A cluster in miniature: work pools whose runs are processes, a worker for each, and our deployments."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from services.embedded import EmbeddedPrefect
from services.embedded.process import SupervisedProcess
from tasks.cluster.turns import limit_name
from tasks.storage.store import Location
from tests.support.runs import REPOSITORY

POOLS: Final = ("gpu", "cpu")
#: A process that imports all of ours takes seconds, on a busy machine many.
PATIENCE_S: Final = 600.0
#: What a worker prints when it has no more to tell of a killed run.
_LAST_WORD: Final = "prefect.flow_runs.worker - Check whether the flow run exceeded its memory"


class Cluster:
    """Process work pools ``gpu`` and ``cpu`` with their workers on a server, and what prefect.yaml deploys.

    Args:
        server: The Prefect server; must be current (fixture ``prefect_server``, or ``active()``).
        scratch: Folder for what workers print.
        environment: More variables for the workers and their runs.
        make_pools: Whether the pools are to be made, and removed at the end; else they are there.
    """

    def __init__(
        self,
        server: EmbeddedPrefect,
        scratch: Path,
        environment: Mapping[str, str] | None = None,
        *,
        make_pools: bool = True,
    ) -> None:
        self._make_pools = make_pools
        self._scratch = scratch
        self._environment = {
            **os.environ,
            **server.environment(),
            "POLLEN_APP_DIR": str(REPOSITORY),
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            **(environment or {}),
        }
        self._workers: dict[str, SupervisedProcess] = {}
        #: The pools of killed runs.
        self._killed: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Make the pools, deploy, and start the workers."""
        if self._make_pools:
            self._new_pools()
        self.deploy()
        for pool in POOLS:
            self._stack.callback(self.stop_worker, pool)
            self.start_worker(pool)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers and what they started, and remove the pools."""
        self._stack.close()

    def _new_pools(self) -> None:
        template = ProcessWorker.get_default_base_job_template()
        with get_client(sync_client=True) as client:
            for pool in POOLS:
                _remove(pool)
                client.create_work_pool(
                    WorkPoolCreate(name=pool, type="process", base_job_template=template)
                )
                self._stack.callback(_remove, pool)

    def deploy(self) -> None:
        """Deploy as an operator does."""
        # Not POLLEN_APP_DIR: it is looked up where runs run, as on a cluster.
        environment = {k: v for k, v in self._environment.items() if k != "POLLEN_APP_DIR"}
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start_worker(self, pool: str) -> None:
        """Start the worker of a pool."""
        command = ["-m", "prefect", "worker", "start", "--pool", pool, "--type", "process"]
        self._workers[pool] = SupervisedProcess(
            [sys.executable, *command],
            environment=self._environment,
            folder=self._scratch,
            log_path=self._scratch / f"worker-{pool}.log",
        )

    def stop_worker(self, pool: str) -> None:
        """Stop the worker of a pool, and its runs."""
        worker = self._workers.pop(pool, None)
        if worker is not None:
            runs = _processes(worker.pid)
            worker.stop()
            _end(runs)

    def start(self, deployment: str, **parameters: Any) -> FlowRun:  # noqa: ANN401
        """Start a run of a deployment."""
        with get_client(sync_client=True) as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters)

    def wait(self, run: FlowRun | UUID, *names: str, timeout_s: float = PATIENCE_S) -> FlowRun:
        """Wait until a run is in a state of one of these names; without names, in a final one."""
        deadline = time.monotonic() + timeout_s
        wanted = run if isinstance(run, UUID) else run.id
        with get_client(sync_client=True) as client:  # to make one takes longer than to ask
            while True:
                now = client.read_flow_run(wanted)
                assert now.state is not None
                if now.state.name in names or (not names and now.state.is_final()):
                    return now
                assert not now.state.is_final(), f"{now.name}: {now.state.name} {now.state.message}"
                assert time.monotonic() < deadline, f"{now.name} is {now.state.name}: {self.logs()}"
                time.sleep(0.3)

    def kill(self, run: FlowRun | UUID) -> None:
        """Kill the process of a run with SIGKILL, as an out-of-memory killer does."""
        found = self._processes_of(run)
        assert found, f"no process runs {run}"
        self._killed += set(found.values())
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def suspend(self, run: FlowRun | UUID) -> None:
        """Halt the process of a run, so that it does not end before something else happens."""
        found = self._processes_of(run)
        assert found, f"no process runs {run}"
        for process in found:
            process.suspend()

    def resume(self, run: FlowRun | UUID) -> None:
        """Let a halted process go on, if nobody ended it."""
        for process in self._processes_of(run):
            process.resume()

    def _processes_of(self, run: FlowRun | UUID) -> dict[psutil.Process, str]:
        """The processes of a run, and the pool they belong to."""
        wanted = str(run if isinstance(run, UUID) else run.id)
        return {
            process: pool
            for pool, worker in self._workers.items()
            for process in _processes(worker.pid)
            if _flow_run(process) == wanted
        }

    def wait_until_reported(self) -> None:
        """Wait until killed runs were told crashed for the last time.

        A process worker says so at once and again when it has looked for the flow's own hooks, which takes as long as
        importing it. A run that is started again in between is taken for crashed once more.
        """
        deadline = time.monotonic() + PATIENCE_S
        for pool in POOLS:
            log = self._scratch / f"worker-{pool}.log"
            while log.read_text().count(_LAST_WORD) < self._killed.count(pool):
                assert time.monotonic() < deadline, self.logs()
                time.sleep(0.2)

    def logs(self) -> str:
        """What the workers printed last."""
        return "\n".join(worker.log_tail() for worker in self._workers.values())


def runs_of(flow_name: str, tag: str | None = None) -> list[FlowRun]:
    """All runs of a flow, oldest first."""
    flow = FlowFilter(name=FlowFilterName(any_=[flow_name]))
    condition = FlowRunFilter.model_validate({"tags": {"all_": [tag]}} if tag else {})
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(flow_filter=flow, flow_run_filter=condition)
    return sorted(found, key=lambda run: str(run.created))


def make_limit(root: Location) -> str:
    """The limit that lets one run at a time count below a root, as `pollen setup` makes it."""
    name = limit_name(root)
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=1))
    return name


def _remove(pool: str) -> None:
    """Remove a pool and what is deployed on it."""
    named = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
    with get_client(sync_client=True) as client, suppress(ObjectNotFound):
        for deployment in client.read_deployments(work_pool_filter=named):
            client.delete_deployment(deployment.id)
        client.delete_work_pool(pool)


def _processes(supervisor: int) -> Sequence[psutil.Process]:
    """What a worker started."""
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(supervisor).children(recursive=True)
    return ()


def _flow_run(process: psutil.Process) -> str | None:
    """The flow run that a process executes."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.environ().get("PREFECT__FLOW_RUN_ID")
    return None


def _end(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
