"""`prefect deploy --all` as an operator gives it, against a real server that asks for a password.

From a copy of what the image holds as its application folder: nothing else of the checkout is there.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect_kubernetes.worker import (  # type: ignore[import-untyped]
    KubernetesWorkerJobConfiguration,
)

from services.embedded import EmbeddedPrefect
from services.setup.pools import pool_template
from services.setup.schedules import plan_schedules
from services.site import Events, PoolType, Site, SitePool
from tests.deployments.rendering import IMAGE, NAMESPACE, ROOT, as_the_worker, render
from tests.support.prefect_servers import PreparedPrefect
from tools.deployment_lint.rules import CONTRACT

pytestmark = [pytest.mark.server, pytest.mark.slow]

AUTH_STRING = "operator:a-long-password"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPrefect]:
    with PreparedPrefect(auth_string=AUTH_STRING) as locked:
        yield locked


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the image has in /opt/app."""
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(ROOT / "prefect.yaml", folder)
    for part in ("flows", "deployments"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def deploy(
    server: EmbeddedPrefect, application: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "POLLEN_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", *arguments],
        cwd=application,
        env={**environment, **server.environment(), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def make_pools(client: SyncPrefectClient, kind: PoolType) -> None:
    for name in ("gpu", "cpu"):
        template = pool_template(name, SitePool(type=kind), namespace=NAMESPACE)
        pool = WorkPoolCreate(name=name, type=kind, base_job_template=template)
        client.create_work_pool(pool)


def deployments(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    names = {flow.id: flow.name for flow in client.read_flows()}
    return {f"{names[each.flow_id]}/{each.name}": each for each in client.read_deployments()}


def refusal(
    client: SyncPrefectClient, deployment: UUID, parameters: dict[str, Any], **variables: object
) -> str:
    """Return the answer of the server when it refuses a run with these job variables."""
    with pytest.raises(PrefectHTTPStatusError) as caught:
        client.create_flow_run_from_deployment(
            deployment, parameters=parameters, job_variables=variables
        )
    return str(caught.value.response.json()["detail"])


@pytest.fixture
def client(server: EmbeddedPrefect) -> Iterator[SyncPrefectClient]:
    """A client; afterwards the server has neither pools nor deployments."""
    with server.active(), get_client(sync_client=True) as connected:
        yield connected
        for deployment in connected.read_deployments():
            connected.delete_deployment(deployment.id)
        auth = httpx.BasicAuth(*AUTH_STRING.split(":"))
        with httpx.Client(base_url=server.api_url, auth=auth, trust_env=False) as raw:
            for name in ("gpu", "cpu"):
                raw.delete(f"/work_pools/{name}").raise_for_status()


def schedules(made: DeploymentResponse) -> set[tuple[str, str, bool]]:
    """Return cron expression, time zone and activity of each schedule."""
    return {
        (each.schedule.cron, each.schedule.timezone, each.active)  # type: ignore[union-attr,misc]
        for each in made.schedules
    }


def declared_schedules(name: str) -> set[tuple[str, str, bool]]:
    """The same, as the file says: engineers choose other times."""
    file = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    (found,) = [each for each in file["deployments"] if each["name"] == name]
    return {
        (each["cron"], each["timezone"], each.get("active", True)) for each in found["schedules"]
    }


def test_to_process_pools_without_variables(
    server: EmbeddedPrefect, application: Path, client: SyncPrefectClient
) -> None:
    make_pools(client, "process")
    done = deploy(server, application, "--all")
    assert done.returncode == 0, done.stdout + done.stderr

    made = deployments(client)
    pools = {name: each.work_pool_name for name, each in made.items()}
    assert pools == CONTRACT
    for name, each in made.items():
        # Looked up where a run runs, not where it was deployed.
        assert each.pull_steps == [
            {
                "prefect.deployments.steps.set_working_directory": {
                    "directory": "{{ $POLLEN_APP_DIR }}"
                }
            }
        ]
        assert "pollen" in each.tags
        assert ("requeue" in each.tags) is (not name.startswith(("detect-shard", "promote")))
        assert each.job_variables == {}
        assert "device" not in each.parameters.get("settings", {})
        assert each.description
        assert len(each.description) > 80
        if each.concurrency_options is not None:
            assert each.concurrency_options.grace_period_seconds == 3600
    assert schedules(made["detect/nightly"]) == declared_schedules("nightly")
    # A process pool needs no image, and knows no job variables of ours.
    run = client.create_flow_run_from_deployment(made["detect/on-demand"].id)
    assert run.deployment_id == made["detect/on-demand"].id


def make_schedules(client: SyncPrefectClient) -> None:
    """Schedules of a further root and of sweeps, as `pollen setup` makes them."""
    for step in plan_schedules(client, Site(prefixes=("", "lab"), events=Events(sweep_minutes=15))):
        if step.do:
            step.do()


def all_schedules(client: SyncPrefectClient) -> dict[str, tuple[UUID, dict[str, Any], bool]]:
    """Return id, parameters and activity of each schedule, by its deployment and slug."""
    return {
        f"{name} {each.slug}": (each.id, each.parameters, each.active)
        for name, deployment in deployments(client).items()
        for each in deployment.schedules
    }


def test_to_kubernetes_pools(
    server: EmbeddedPrefect, application: Path, client: SyncPrefectClient
) -> None:
    make_pools(client, "kubernetes")
    # Without an image it deploys, but a run that can't start is refused at once.
    two = deploy(server, application, "--name", "detect/nightly", "--name", "detect/sweep")
    assert two.returncode == 0, two.stdout + two.stderr
    nightly = deployments(client)["detect/nightly"].id
    assert "'image' is a required property" in refusal(client, nightly, {})

    make_schedules(client)
    before = all_schedules(client)
    client.update_deployment_schedule(nightly, before["detect/nightly nightly"][0], active=False)
    before = all_schedules(client)
    assert len(before) == 4

    done = deploy(server, application, "--all", POLLEN_IMAGE=IMAGE, POLLEN_DEVICE="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all_schedules(client) == before  # with what is paused and what setup made
    made = deployments(client)
    assert made.keys() == CONTRACT.keys()
    assert {each.job_variables["image"] for each in made.values()} == {IMAGE}
    assert {
        name: each.parameters.get("settings", {}).get("device") for name, each in made.items()
    } == dict.fromkeys(CONTRACT) | dict.fromkeys(
        (
            "detect/on-demand",
            "detect/nightly",
            "detect/on-upload",
            "detect/sweep",
            "train/on-demand",
        ),
        "cpu",
    )
    for name in CONTRACT:
        _assert_renders_as_tested(server, client, name, made[name].id)

    # Prefect ignores misspelt job variables; our template does not.
    shard = partial(
        refusal, client, made["detect-shard/gpu"].id, {"bucket": "pollen", "plan": "p", "shard": 1}
    )
    assert "gpu_cuont" in shard(gpu_cuont=2)
    assert "gpu_resource" in shard(gpu_resource="nvidia.com/mig-1g.10gb")
    assert "memory_limit" in shard(memory_limit="12 GB")

    wrong = deploy(server, application, "--name", "train/on-demand", POLLEN_DEVICE="gpu")
    assert wrong.returncode != 0
    assert "'gpu' is not one of ['auto', 'cpu', 'cuda']" in wrong.stdout + wrong.stderr


def _assert_renders_as_tested(
    server: EmbeddedPrefect, client: SyncPrefectClient, name: str, deployment: UUID
) -> None:
    """A worker would make of the deployment on the server what the golden files show."""
    required: dict[str, dict[str, Any]] = {
        "detect-shard/gpu": {"bucket": "pollen", "plan": "p", "shard": 1},
        "promote/on-demand": {"version": "v"},
    }
    parameters = required.get(name, {})
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
    job = asyncio.run(_rendered(server, run))
    tested = render(name)
    _without_ids(job)
    _without_ids(tested)
    assert job["spec"] == tested["spec"]
    assert job["metadata"]["namespace"] == NAMESPACE


async def _rendered(server: EmbeddedPrefect, run: FlowRun) -> dict[str, Any]:
    with as_the_worker():
        with temporary_settings(
            {PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: AUTH_STRING}
        ):
            connection = get_client()
        async with connection as client:
            pool = await client.read_work_pool(run.work_pool_name or "")
            configuration = await KubernetesWorkerJobConfiguration.resolve_for_flow_run(
                run, client=client, work_pool=pool, worker_name=f"worker-{pool.name}"
            )
    return dict(configuration.job_manifest)


def _without_ids(job: dict[str, Any]) -> None:
    """Leave out what differs from run to run, and the password that is replaced later."""
    template = job["spec"]["template"]
    template["metadata"]["labels"] = {
        key: value
        for key, value in template["metadata"]["labels"].items()
        if not key.startswith("prefect.io/")
    }
    (container,) = template["spec"]["containers"]
    container["env"] = [
        each
        for each in container["env"]
        if not each["name"].startswith(("PREFECT__", "PREFECT_API_AUTH_STRING"))
    ]
