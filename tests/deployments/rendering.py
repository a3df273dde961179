"""Jobs as the worker makes them: its own code, with the settings that our manifests give it.

Only the last step is replaced: the finished Job is caught where the worker would hand it to Kubernetes.
"""

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

import yaml
from prefect.client.schemas.objects import Flow, FlowRun, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.context import SettingsContext
from prefect.settings import Profile, Settings
from prefect.utilities.templating import apply_values
from prefect_kubernetes.worker import (  # type: ignore[import-untyped]
    KubernetesWorker,
    KubernetesWorkerJobConfiguration,
)

from services.setup.deployments import declared_deployments
from services.setup.pools import pool_template
from services.site import SitePool

ROOT = Path(__file__).parents[2]
IMAGE = "registry.example.org/pollen/pollen-viability-flows:0123abc"
#: Stands for the real one; must be in no Job.
AUTH_STRING = "admin:the-password-itself"
NAMESPACE = "stenc-ns"

_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def _id(number: int) -> UUID:
    return UUID(int=number)


def declared(name: str) -> dict[str, Any]:
    """Return a deployment of `prefect.yaml` by its full name, with the values that `prefect deploy` fills in."""
    path = ROOT / "prefect.yaml"
    file = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = [each.name for each in declared_deployments(path)]
    found = file["deployments"][names.index(name)]
    return dict(apply_values(found, {"POLLEN_IMAGE": IMAGE}))


def render(
    name: str,
    *,
    run: Mapping[str, Any] | None = None,
    site: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The Job of a run.

    Args:
        name: Full name of the deployment.
        run: Job variables of the single run.
        site: Variables of the pool in `site.yaml`.
    """
    choice = declared(name)["work_pool"]
    template = pool_template(choice["name"], SitePool(variables=dict(site or {})))
    variables = {**choice["job_variables"], "namespace": NAMESPACE, **(run or {})}
    with as_the_worker():
        return asyncio.run(_job(name, choice["name"], template, variables))


async def _job(
    name: str, pool: str, template: dict[str, Any], variables: dict[str, Any]
) -> dict[str, Any]:
    flow, _, own = name.partition("/")
    configuration = await KubernetesWorkerJobConfiguration.from_template_and_values(
        template,
        variables,
        client=mock.Mock(),  # asked only for blocks and variables, of which there are none
    )
    configuration.prepare_for_flow_run(
        FlowRun(id=_id(1), flow_id=_id(2), deployment_id=_id(3), name="amber-otter"),
        DeploymentResponse.model_validate(
            {"id": _id(3), "flow_id": _id(2), "name": own, "updated": _DAY}
        ),
        Flow.model_validate({"id": _id(2), "name": flow}),
        WorkPool.model_validate({"id": _id(4), "name": pool, "type": "kubernetes"}),
        worker_name=f"worker-{pool}",
        worker_id=_id(5),
    )
    worker = KubernetesWorker(work_pool_name=pool)
    with mock.patch("prefect_kubernetes.worker.BatchV1Api") as api:
        create = api.return_value.create_namespaced_job = mock.AsyncMock()
        await worker._create_job(configuration, mock.Mock())
    ((namespace, job), _) = create.await_args_list[0]
    assert namespace == NAMESPACE
    return dict(job)


@contextmanager
def as_the_worker() -> Iterator[None]:
    """The environment of a worker's pod, and Prefect's settings as read from it."""
    environment = worker_environment()
    with mock.patch.dict(os.environ):
        for variable in [each for each in os.environ if each.startswith("PREFECT_")]:
            del os.environ[variable]
        os.environ.update(environment)
        with SettingsContext(profile=Profile(name="worker", settings={}), settings=Settings()):
            yield


def worker_environment() -> dict[str, str]:
    """Return the variables that the image and the manifest set in the container of a worker."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    environment = dict(re.findall(r"^(?:ENV)?\s+(PREFECT_\w+)=(\S+)", image, re.MULTILINE))
    manifests = (ROOT / "deployments/kubernetes/base/workers.yaml").read_text(encoding="utf-8")
    for manifest in yaml.safe_load_all(manifests):
        (container,) = manifest["spec"]["template"]["spec"]["containers"]
        for entry in container["env"]:
            environment[entry["name"]] = entry.get("value") or _from_elsewhere(entry["valueFrom"])
    return environment


def _from_elsewhere(source: dict[str, Any]) -> str:
    if source == {"fieldRef": {"fieldPath": "metadata.namespace"}}:
        return NAMESPACE
    assert source == {"secretKeyRef": {"name": "pollen-prefect", "key": "auth-string"}}
    return AUTH_STRING
