"""Events about uploads start runs with the right parameters, on a real Prefect server.

The events are posted as any program may post them (``POST /api/events``), without our receiver.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import FlowRun

from services.embedded import EmbeddedPrefect
from services.setup.automations import plan_automations
from services.site import Events, Site, SiteStorage

PATIENCE_S = 60


@pytest.fixture(scope="module")
def deployments(prefect_process: EmbeddedPrefect) -> Iterator[dict[str, UUID]]:
    """Both deployments that uploads start, and the automations of a site that wants both."""
    site = Site(storage=SiteStorage(block="lab"), events=Events(check_exports=True))
    with prefect_process.active(), get_client(sync_client=True) as client:
        made = {
            flow: client.create_deployment(
                flow_id=client.create_flow_from_name(flow), name="on-upload"
            )
            for flow in ("detect", "dataset-check")
        }
        for step in plan_automations(client, site):
            if step.do and "on upload" in step.change.name:
                step.do()
        yield made
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        for deployment in made.values():
            client.delete_deployment(deployment)


def post(client: SyncPrefectClient, event: str, root: str, **payload: object) -> None:
    data = {
        "id": str(uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": f"pollen.root.{root}"},
        "payload": payload,
    }
    client.request("POST", "/events", json=[data]).raise_for_status()


def runs(client: SyncPrefectClient, deployment: UUID, number: int) -> list[FlowRun]:
    """Runs of a deployment, once there are so many; the oldest first."""
    end = time.monotonic() + PATIENCE_S
    of_it = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    while len(found := client.read_flow_runs(flow_run_filter=of_it)) < number:
        assert time.monotonic() < end, failures(client)
        time.sleep(0.5)
    return sorted(found, key=lambda run: run.created or datetime.max.replace(tzinfo=UTC))


def failures(client: SyncPrefectClient) -> list[Any]:
    wanted = {"event": {"name": ["prefect.automation.action.failed"]}}
    found = client.request("POST", "/events/filter", json={"filter": wanted}).json()
    return [each["payload"] for each in found["events"]]


def test_pictures_start_a_detection_of_their_root(
    client: SyncPrefectClient, deployments: dict[str, UUID]
) -> None:
    event, now = "pollen.pictures.uploaded", datetime.now(UTC).isoformat()
    known = {"uploads": 3, "example": "detect_images/a b.png", "first": now, "last": now}
    cases: list[tuple[dict[str, object], dict[str, object]]] = [
        ({"bucket": "pollen", "prefix": None, **known}, {"bucket": "pollen", "prefix": None}),
        ({"bucket": "pollen", "prefix": "7", **known}, {"bucket": "pollen", "prefix": "7"}),
        (
            {"bucket": "other", "prefix": 'Ostatní/{{ 7 * 7 }} "x"', **known},
            {"bucket": "other", "prefix": 'Ostatní/{{ 7 * 7 }} "x"'},
        ),
        ({"bucket": "pollen"}, {"bucket": "pollen", "prefix": None}),
        ({}, {"bucket": "lab", "prefix": None}),
        ({"bucket": None, "prefix": None}, {"bucket": "lab", "prefix": None}),
    ]
    for number, (payload, _) in enumerate(cases, 1):
        post(client, event, "pollen", **payload)
        found = runs(client, deployments["detect"], number)

    assert [run.parameters for run in found] == [expected for _, expected in cases]
    assert all(run.state_type is not None and run.state_type.value == "SCHEDULED" for run in found)
    assert runs(client, deployments["dataset-check"], 0) == []


def test_exports_start_a_check_of_all_that_is_staged(
    client: SyncPrefectClient, deployments: dict[str, UUID]
) -> None:
    before = len(runs(client, deployments["detect"], 0))
    post(
        client,
        "pollen.exports.uploaded",
        "pollen.lab",
        bucket="pollen",
        prefix="lab",
        uploads=2,
        export="staging_area/newest.zip",
    )

    (run,) = runs(client, deployments["dataset-check"], 1)

    assert run.parameters == {"bucket": "pollen", "prefix": "lab"}
    assert len(runs(client, deployments["detect"], 0)) == before
