"""The slots of runs (`concurrency_limit`) survive a restart of the server, as our manifest sets it up."""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import (
    ConcurrencyLimitStrategy,
    ConcurrencyOptions,
    StateType,
)
from prefect.states import Completed, Pending, Running

from services.embedded import EmbeddedPrefect
from services.site import deployments_folder
from tests.support.prefect_servers import PreparedPrefect

SERVER = deployments_folder() / "kubernetes" / "base" / "server.yaml"
DOCKERFILE = deployments_folder().parent / "Dockerfile"


def pod() -> dict[str, Any]:
    (deployment,) = (
        each
        for each in yaml.safe_load_all(SERVER.read_text(encoding="utf-8"))
        if each["kind"] == "Deployment"
    )
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


class AsInTheManifest(PreparedPrefect):
    """A server that keeps leases where that of the cluster keeps them."""

    def _server_environment(self) -> dict[str, str]:
        (server,) = pod()["containers"]
        ours = {
            each["name"]: each["value"]
            for each in server["env"]
            if each["name"].startswith("PREFECT_SERVER_CONCURRENCY_")
        }
        return {**super()._server_environment(), **ours}


@pytest.fixture
def server() -> Iterator[EmbeddedPrefect]:
    with AsInTheManifest() as started, started.active():
        yield started


@flow
def long_work() -> None:
    """Stands for a run whose pod counts while the server is away."""


def deployed(client: SyncPrefectClient) -> UUID:
    options = ConcurrencyOptions(
        collision_strategy=ConcurrencyLimitStrategy.ENQUEUE, grace_period_seconds=3600
    )
    return client.create_deployment(
        flow_id=client.create_flow(long_work),
        name="one-at-a-time",
        concurrency_limit=1,
        concurrency_options=options,
    )


def start(client: SyncPrefectClient, deployment: UUID) -> tuple[UUID, StateType, UUID | None]:
    """A run that a worker takes: its id, the state it got, and its lease."""
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, Pending())
    state = client.read_flow_run(run.id).state
    assert state is not None
    return run.id, state.type, state.state_details.deployment_concurrency_lease_id


@pytest.mark.slow
def test_a_run_under_way_keeps_its_place_when_the_server_starts_anew(
    server: EmbeddedPrefect,
) -> None:
    with get_client(sync_client=True) as client:
        deployment = deployed(client)
        first, state, lease = start(client, deployment)
        assert (state, lease is not None) == (StateType.PENDING, True)
        client.set_flow_run_state(first, Running())

    server.kill()
    server.start()

    with get_client(sync_client=True) as client:
        # What the run does every four minutes; where it is refused (410), Prefect ends the run.
        assert lease is not None
        client.renew_concurrency_lease(lease, 300)
        assert start(client, deployment)[1] is StateType.SCHEDULED
        client.set_flow_run_state(first, Completed())
        assert start(client, deployment)[1] is StateType.PENDING


def test_they_lie_on_a_volume_that_outlives_the_container() -> None:
    found = re.search(r"\bPREFECT_HOME=(\S+)", DOCKERFILE.read_text(encoding="utf-8"))
    assert found is not None
    home = PurePosixPath(found[1])
    (server,) = pod()["containers"]
    names = {each["name"]: each.get("value") for each in server["env"]}
    assert "PREFECT_HOME" not in names
    mounts = [each for each in server["volumeMounts"] if home.is_relative_to(each["mountPath"])]
    assert [each["name"] for each in mounts] == ["scratch"]
