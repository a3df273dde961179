"""Read what the Prefect server knows of a flow run; all of it is bounded in size."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.events.filters import (
    EventAnyResourceFilter,
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
)
from prefect.exceptions import ObjectNotFound

from services.doctor.pod_status import PodProblem, better_kind
from services.doctor.run.facts import LogLine, PoolFacts, RunFacts
from services.doctor.run.pod_failures import problem_in_log, problem_of_state
from services.prefect_server.published import READ_BACK, failed_images, progress_of

#: Log lines that are read, from the end; the server returns at most this many at once.
LOG_LINES: Final = 200
#: Events about a run's pods that are read; the server returns at most this many at once.
EVENTS: Final = 50
#: Time for which the server keeps events; it refuses queries for older ones.
EVENTS_KEPT: Final = timedelta(days=7)
#: Runs that a run started which are read.
CHILDREN: Final = 20

_POD_EVENTS: Final = "prefect.kubernetes.pod."
_HEARTBEAT: Final = "prefect.flow-run.heartbeat"
_ACTIVE: Final = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def children_of(client: PrefectClient, run: FlowRun) -> list[FlowRun]:
    """Return the runs that a run started and waits for, such as its shards; the newest first."""
    started = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    return await client.read_flow_runs(
        flow_run_filter=started, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=CHILDREN
    )


async def gather(client: PrefectClient, run: FlowRun) -> RunFacts:
    """Gather all facts about a run from the server."""
    logs = list(reversed(await _logs(client, run)))
    states = sorted(await client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
    artifacts = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
            key=ArtifactFilterKey(any_=READ_BACK),
        ),
        limit=100,
    )
    images, total = failed_images(artifacts)
    deployment, variables = await _deployment(client, run)
    logged = [problem_in_log(log.message, log.timestamp) for log in logs]
    events = [problem async for problem in _pod_events(client, run)]
    problems = [problem for problem in (*logged, *events) if problem is not None]
    # The name of a state is the weakest evidence: it counts only if nothing else is known.
    named = [problem for state in states if (problem := problem_of_state(state)) is not None]
    heard = [run.state.timestamp] if run.state else []
    heard += [log.timestamp for log in logs[-1:]]
    heard += [event.occurred for event in await _events(client, run, name=_HEARTBEAT, limit=1)]
    return RunFacts(
        run=run,
        at=datetime.now(UTC),
        states=tuple(states),
        logs=tuple(LogLine(log.level, log.message) for log in logs),
        problems=(*named, *sorted(problems, key=lambda problem: problem.at or datetime.now(UTC))),
        failed_images=images,
        failed_total=total,
        progress=progress_of(artifacts),
        deployment=deployment,
        variables=variables,
        pool=await _pool(client, run),
        holders=await _holders(client, run),
        sign_of_life=max(heard, default=None),
    )


async def _logs(client: PrefectClient, run: FlowRun) -> Sequence[Any]:
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    return await client.read_logs(wanted, limit=LOG_LINES, sort=LogSort.TIMESTAMP_DESC)


async def _deployment(
    client: PrefectClient, run: FlowRun
) -> tuple[str | None, dict[str, Any] | None]:
    """Return the name of its deployment (`flow/name`), and the job variables."""
    if run.deployment_id is None:
        return None, None
    wanted = DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id]))
    found = await client.read_deployments(deployment_filter=wanted)
    if not found:
        return None, None
    flow = await client.read_flow(run.flow_id)
    return f"{flow.name}/{found[0].name}", found[0].job_variables


async def _pool(client: PrefectClient, run: FlowRun) -> PoolFacts | None:
    if run.work_pool_name is None:
        return None
    return await pool_facts(client, run.work_pool_name)


async def pool_facts(client: PrefectClient, name: str) -> PoolFacts | None:
    """Read a work pool and its workers; return None if there is no such pool."""
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        return None
    workers = await client.read_workers_for_work_pool(name)
    variables = pool.base_job_template.get("variables", {}).get("properties", {})
    return PoolFacts(
        name=pool.name,
        kind=pool.type,
        paused=pool.is_paused,
        limit=pool.concurrency_limit,
        online=sum(worker.status is WorkerStatus.ONLINE for worker in workers),
        known=len(workers),
        defaults={name: each.get("default") for name, each in variables.items()},
    )


async def _holders(client: PrefectClient, run: FlowRun) -> tuple[str, ...]:
    """Return the active runs of the same deployment."""
    if run.deployment_id is None:
        return ()
    runs = await client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ACTIVE))
        ),
        limit=5,
    )
    return tuple(f"{each.name} ({each.state_name})" for each in runs if each.id != run.id)


async def _pod_events(client: PrefectClient, run: FlowRun) -> AsyncIterator[PodProblem]:
    for event in await _events(client, run, prefix=_POD_EVENTS, limit=EVENTS):
        labels = event.resource.root
        kind = labels.get("kubernetes.diagnosis") or labels.get("kubernetes.reason")
        if kind:
            text = f"{event.event.removeprefix(_POD_EVENTS)}: {kind}"
            yield PodProblem(better_kind(kind, text), text, event.occurred)


async def _events(
    client: PrefectClient, run: FlowRun, *, name: str = "", prefix: str = "", limit: int
) -> Sequence[Any]:
    """Read the latest events about a run, of one name or of names with a common prefix."""
    began = max(run.created or datetime.min.replace(tzinfo=UTC), datetime.now(UTC) - EVENTS_KEPT)
    wanted = EventFilter(
        occurred=EventOccurredFilter.model_validate({"since": began}),
        event=EventNameFilter(name=[name]) if name else EventNameFilter(prefix=[prefix]),
        any_resource=EventAnyResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
    )
    page = await client.read_events(wanted, limit=limit)
    return page.events
