"""Facts about one flow run: gathered first, explained afterwards."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prefect.client.schemas.objects import FlowRun, State

from services.doctor.pod_status import PodProblem
from services.prefect_server.automation_states import RESTARTING
from tasks.cluster.shards import LOST


@dataclass(frozen=True)
class LogLine:
    """A log line of a run, its worker or its observer."""

    level: int
    text: str


@dataclass(frozen=True)
class PoolFacts:
    """The work pool of a run.

    Attributes:
        name: Name of the pool.
        kind: Type of the pool.
        paused: Whether it is paused.
        limit: Largest number of runs at once; None for any.
        online: Number of workers that are online.
        known: Number of workers that were ever online.
        defaults: Defaults of the job template's variables.
    """

    name: str
    kind: str
    paused: bool = False
    limit: int | None = None
    online: int = 0
    known: int = 0
    defaults: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RunFacts:
    """One flow run.

    Attributes:
        run: Flow run on the server.
        at: Time when the facts were gathered.
        states: All its states so far, the oldest first.
        logs: Its last log lines, the oldest first.
        problems: Problems of its pods and Jobs, the latest last.
        failed_images: File names and reasons, as the run reported them.
        failed_total: Number of failed pictures, of which the server may not list all.
        progress: Text of its progress bar.
        deployment: Name of its deployment, such as `detect/nightly`.
        variables: Job variables of the deployment.
        pool: Its work pool; None if it has none, or the pool was deleted.
        holders: Names of the active runs of the same deployment.
        sign_of_life: Time of its last sign of life.
        pods: Number of its pods that are pending or running; None if the cluster was not asked.
    """

    run: FlowRun
    at: datetime
    states: tuple[State, ...] = ()
    logs: tuple[LogLine, ...] = ()
    problems: tuple[PodProblem, ...] = ()
    failed_images: tuple[tuple[str, str], ...] = ()
    failed_total: int = 0
    progress: str = ""
    deployment: str | None = None
    variables: Mapping[str, Any] | None = None
    pool: PoolFacts | None = None
    holders: tuple[str, ...] = ()
    sign_of_life: datetime | None = None
    pods: int | None = None

    @property
    def state(self) -> State:
        """The present state."""
        if self.run.state is not None:
            return self.run.state
        return self.states[-1]

    @property
    def message(self) -> str:
        """The message of the present state."""
        return self.state.message or ""

    @property
    def ran(self) -> bool:
        """True if the flow's own code was ever reached."""
        return any(state.is_running() for state in (*self.states, self.state))

    @property
    def crashes(self) -> tuple[State, ...]:
        """All its crashes, the latest last; a run that was lost before its start counts as crashed."""
        return tuple(state for state in self.states if state.is_crashed() or state.name == LOST)

    @property
    def is_restarting(self) -> bool:
        """True if it crashed and will start again automatically."""
        return self.state.name == RESTARTING

    def problems_during(self, state: State) -> tuple[PodProblem, ...]:
        """Return the problems of the attempt that a state belongs to.

        A run that is started again keeps the problems of earlier attempts; they do not explain its present state.
        """
        pairs = itertools.pairwise((None, *self.states))
        starts = [each.timestamp for before, each in pairs if each and _begins(each, before)]
        begin = max((at for at in starts if at <= state.timestamp), default=None)
        end = min((at for at in starts if at > state.timestamp), default=None)
        return tuple(
            problem
            for problem in self.problems
            if (end is None if problem.at is None else _between(begin, problem.at, end))
        )

    def since(self, moment: datetime | None) -> timedelta:
        """Return how long ago a moment was; zero for None."""
        return self.at - moment if moment else timedelta(0)

    def variable(self, name: str) -> Any:  # noqa: ANN401  (whatever the job template takes)
        """Return a job variable: of the run, else of the deployment, else the pool's default."""
        defaults = self.pool.defaults if self.pool else None
        for known in (self.run.job_variables, self.variables, defaults):
            if known and known.get(name) is not None:
                return known[name]
        return None


def _begins(state: State, before: State | None) -> bool:
    """Return whether a new attempt begins: the run was started again, or turned out to be alive."""
    return state.is_scheduled() or (
        before is not None and before.is_final() and not state.is_final()
    )


def _between(begin: datetime | None, at: datetime, end: datetime | None) -> bool:
    return (begin is None or begin <= at) and (end is None or at < end)
