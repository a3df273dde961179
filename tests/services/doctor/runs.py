"""Flow runs in the states that clusters leave them in, made on the real server."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, LogCreate, WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectAlreadyExists

from services.doctor.finding import Finding
from services.doctor.run.explain import explain
from services.doctor.run.facts import RunFacts
from services.doctor.run.from_server import gather

R = TypeVar("R")
IMAGE = "registry.example/pollen:abc"
TEMPLATES = Path(__file__).parents[3] / "deployments" / "work-pools"


async def with_client(work: Callable[[PrefectClient], Awaitable[R]]) -> R:
    """Do something with a client of the server in use."""
    async with get_client() as client:
        return await work(client)


@dataclass
class Story:
    """What happened to a run.

    Attributes:
        states: One after the other.
        logs: Level and text of what the run, its worker or its observer logged.
        pods: What the worker's observer said of its pods: labels of the events' resource.
        artifacts: What it published: key to (type, data, description).
        kind: Of its work pool, which has our template where that is kubernetes; None: no pool.
        workers: Names of workers that gave a sign of life.
        parent: The task run that started it.
    """

    states: Sequence[State] = ()
    logs: Sequence[tuple[int, str]] = ()
    pods: Sequence[Mapping[str, str]] = ()
    artifacts: Mapping[str, tuple[str, Any, str]] = field(default_factory=dict)
    kind: str | None = "kubernetes"
    workers: Sequence[str] = ()
    parent: UUID | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    flow: str = "detect"


async def make(client: PrefectClient, story: Story) -> UUID:
    """Let the story happen; returns the id of the run."""
    flow = await client.create_flow_from_name(story.flow)
    pool = await _pool(client, story) if story.kind else None
    deployment = await client.create_deployment(
        flow,
        f"on-{uuid4().hex[:8]}",
        work_pool_name=pool,
        job_variables={"image": IMAGE} if story.kind == "kubernetes" else {},
    )
    run = await client.create_flow_run_from_deployment(
        deployment,
        name=story.name or None,
        parameters=dict(story.parameters),
        parent_task_run_id=story.parent,
    )
    for state in story.states:
        fresh = state.model_copy(update={"id": uuid4(), "timestamp": datetime.now(UTC)})
        await client.set_flow_run_state(run.id, fresh, force=True)
    await _said(client, run.id, story)
    return run.id


async def _said(client: PrefectClient, run: UUID, story: Story) -> None:
    now = datetime.now(UTC)
    await client.create_logs(
        [
            LogCreate.model_validate(
                {
                    "name": "prefect.flow_runs.observer",
                    "level": level,
                    "message": text,
                    "timestamp": now,
                    "flow_run_id": run,
                }
            )
            for level, text in story.logs
        ]
    )
    for key, (kind, data, description) in story.artifacts.items():
        await client.create_artifact(
            ArtifactCreate(
                key=key,
                type=kind,
                data=json.dumps(data) if kind == "table" else data,
                description=description,
                flow_run_id=run,
            )
        )
    events = [
        {
            "id": str(uuid4()),
            "occurred": now.isoformat(),
            "event": "prefect.kubernetes.pod.pending",
            "resource": {"prefect.resource.id": f"prefect.kubernetes.pod.{uuid4()}"} | dict(labels),
            "related": [
                {
                    "prefect.resource.id": f"prefect.flow-run.{run}",
                    "prefect.resource.role": "flow-run",
                }
            ],
        }
        for labels in story.pods
    ]
    if events:
        (await client.request("POST", "/events", json=events)).raise_for_status()


async def _pool(client: PrefectClient, story: Story) -> str:
    """One pool for all that need no worker of their own."""
    name = f"doctor-{story.kind}-{uuid4().hex[:8] if story.workers else 'empty'}"
    template = {}
    if story.kind == "kubernetes":
        template = json.loads((TEMPLATES / "gpu.json").read_text("utf-8"))
    with suppress(ObjectAlreadyExists):
        await client.create_work_pool(
            WorkPoolCreate(name=name, type=str(story.kind), base_job_template=template)
        )
    for worker in story.workers:
        await client.send_worker_heartbeat(name, worker)
    return name


async def told(client: PrefectClient, story: Story) -> tuple[RunFacts, list[Finding]]:
    """Let the story happen, and ask the doctor."""
    facts = await gather(client, await client.read_flow_run(await make(client, story)))
    return facts, explain(facts)
