"""What runs need in the namespace: room in the quota, GPUs, and the Secrets that their pods name."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.cluster import FORBIDDEN, NOT_FOUND
from services.doctor.finding import Category, Finding
from services.doctor.kube import REQUEST_SECONDS, Access, cluster
from services.doctor.quantity import amount
from services.doctor.quotas import GPU, look_at_quotas
from services.setup.pools import pool_template
from services.site import Site

#: What pods of the server, the workers and runs read, and the entries it must have.
SECRETS: Final[dict[str, tuple[str, ...]]] = {
    "pollen-s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "pollen-prefect": ("auth-string",),
}
PULL_SECRET: Final = "kubernetes.io/dockerconfigjson"

_ABOUT = About(Category.RESOURCES)


async def look_at_resources(access: Access, site: Site) -> AsyncIterator[Finding]:
    """Quota, GPUs, Secrets and service account, as far as we may see them.

    Raises:
        PollenError: The cluster does not answer, or the site file's pools can't be used.
    """
    pools = {
        name: _defaults(pool_template(name, pool))
        for name, pool in site.pools.items()
        if pool.type == "kubernetes"
    }
    async with cluster(access) as client:
        async for finding in look_at_quotas(client, access.namespace, pools):
            yield finding
        async for finding in _gpus(client, pools):
            yield finding
        async for finding in _secrets(client, access.namespace, pools):
            yield finding


def _defaults(template: Mapping[str, Any]) -> dict[str, Any]:
    properties = template["variables"].get("properties", {})
    return {name: each.get("default") for name, each in properties.items()}


async def _gpus(
    client: ApiClient, pools: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[Finding]:
    wanted = {
        name: str(defaults.get("gpu_resource") or GPU)
        for name, defaults in pools.items()
        if defaults.get("gpu_count")
    }
    if not wanted:
        yield _ABOUT.info("no pool asks for GPUs: runs on them must have device: cpu")
        return
    try:
        nodes = await CoreV1Api(client).list_node(_request_timeout=REQUEST_SECONDS)
    except ApiException as error:
        if error.status != FORBIDDEN:
            raise
        yield _ABOUT.info(
            "whether nodes have GPUs was not looked at: we may not list nodes (usual in a namespace of one's own)",
            resolution="the cluster's documentation names its GPUs; a run that finds none stays unscheduled, and "
            "`pollen doctor RUN` says so",
        )
        return
    for name, resource in wanted.items():
        offered = sum(
            int(amount((node.status.allocatable or {}).get(resource, "0"))) for node in nodes.items
        )
        if offered:
            yield _ABOUT.ok(f"nodes offer {offered} {resource} in all, for pool '{name}'")
        else:
            yield _ABOUT.error(
                f"no node offers {resource}: runs on pool '{name}' can't start",
                resolution="name the cluster's GPUs as gpu_resource in the pool's variables in deployments/site.yaml, "
                "or set gpu_count: 0 there and device: cpu for the runs; then `pollen setup`",
            )


async def _secrets(
    client: ApiClient, namespace: str, pools: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[Finding]:
    needed = {name: (entries, "") for name, entries in SECRETS.items()}
    for defaults in pools.values():
        for each in defaults.get("image_pull_secrets") or ():
            needed[each["name"]] = ((), PULL_SECRET)
        for each in defaults.get("env_from") or ():
            if name := (each.get("secretRef") or {}).get("name"):
                needed.setdefault(name, ((), ""))
    if not any(kind for _, kind in needed.values()):
        yield _ABOUT.info(
            "no image pull secret is named: the image must be in a registry that asks nobody",
            resolution="for a private one: image_pull_secrets in the pools' variables in deployments/site.yaml",
        )
    for name, (entries, kind) in sorted(needed.items()):
        yield await _secret(client, namespace, name, entries, kind)


async def _secret(
    client: ApiClient, namespace: str, name: str, entries: tuple[str, ...], kind: str
) -> Finding:
    """Whether a Secret is there; of its content only the names of its entries are looked at."""
    try:
        found = await CoreV1Api(client).read_namespaced_secret(
            name, namespace, _request_timeout=REQUEST_SECONDS
        )
    except ApiException as error:
        if error.status == NOT_FOUND:
            return _ABOUT.error(
                f"there is no Secret '{name}' in '{namespace}': pods that name it do not start",
                resolution="deployments/kubernetes/secrets/README.md says how to make it",
            )
        if error.status == FORBIDDEN:
            return _ABOUT.info(f"Secret '{name}' not looked at: we may not read Secrets")
        raise
    missing = [entry for entry in entries if not (found.data or {}).get(entry)]
    if missing:
        return _ABOUT.error(
            f"Secret '{name}' lacks {', '.join(missing)}",
            resolution="deployments/kubernetes/secrets/README.md says how to make it",
        )
    if kind and found.type != kind:
        return _ABOUT.error(
            f"Secret '{name}' is of type {found.type}: nodes can't read a registry with it",
            resolution=f"make it anew: kubectl create secret docker-registry {name} ...",
        )
    return _ABOUT.ok(f"Secret '{name}' is there")
