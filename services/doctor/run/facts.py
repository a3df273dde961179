"""What is known of one flow run: gathered first, explained afterwards."""

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
    """A line that a run, its worker or its observer logged."""

    level: int
    text: str


@dataclass(frozen=True)
class PoolFacts:
    """The work pool of a run.

    Attributes:
        online: Workers that gave a sign of life lately.
        known: Workers that ever did.
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
        run: As the server has it.
        states: All its states so far, the oldest first.
        logs: Its last lines, warnings and errors of long ago included; the oldest first.
        problems: What Kubernetes said of its pods, the latest last.
        failed_images: File names and reasons, as the run reported them.
        failed_total: How many failed, where the server has not all of them.
        progress: What its progress bar says.
        deployment: Its name, such as ``detect/nightly``.
        variables: Job variables of the deployment.
        pool: Its work pool; None where it has none, or the pool is gone.
        holders: Names of the runs of the same deployment that are under way.
        sign_of_life: When it was last heard of.
        pods: What the cluster has of it: pods that are pending or running. None: was not looked at.
        at: When all this was gathered.
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
        """What the present state says."""
        return self.state.message or ""

    @property
    def ran(self) -> bool:
        """Whether the flow's own code was ever reached."""
        return any(state.is_running() for state in (*self.states, self.state))

    @property
    def crashes(self) -> tuple[State, ...]:
        """All its crashes, the latest last; a run that was lost before its start counts as crashed."""
        return tuple(state for state in self.states if state.is_crashed() or state.name == LOST)

    @property
    def is_restarting(self) -> bool:
        """Whether it crashed and is about to be started again by itself."""
        return self.state.name == RESTARTING

    def problems_during(self, state: State) -> tuple[PodProblem, ...]:
        """What Kubernetes said in the attempt that ended in a state, or is in it.

        A run that is started again keeps what was said before; that does not explain what is now.
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
        """How long ago something was."""
        return self.at - moment if moment else timedelta(0)

    def variable(self, name: str) -> Any:  # noqa: ANN401  (whatever the job template takes)
        """A job variable, as far as the server knows it: the run's own, the deployment's, the pool's default."""
        defaults = self.pool.defaults if self.pool else None
        for known in (self.run.job_variables, self.variables, defaults):
            if known and known.get(name) is not None:
                return known[name]
        return None


def _begins(state: State, before: State | None) -> bool:
    """Whether a new attempt begins: a run was started again, or turned out to be alive after all."""
    return state.is_scheduled() or (
        before is not None and before.is_final() and not state.is_final()
    )


def _between(begin: datetime | None, at: datetime, end: datetime | None) -> bool:
    return (begin is None or begin <= at) and (end is None or at < end)
