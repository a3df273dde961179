"""Check what runs need in the namespace: room in the quota, GPUs, Secrets and ConfigMaps."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.checks.cluster import FORBIDDEN, NOT_FOUND
from services.doctor.checks.pods import ROLE
from services.doctor.checks.quantity import amount
from services.doctor.checks.quotas import GPU, check_quotas
from services.doctor.cluster_access import PAGE, REQUEST_SECONDS, Access, cluster
from services.doctor.finding import Category, Finding
from services.setup.pools import pool_template
from services.site import Site

PREFECT_SECRET: Final = "pollen-prefect"
#: Entries of it that our pods read, by the role of the pod (deployments/kubernetes/base).
PREFECT_ENTRIES: Final[dict[str, tuple[str, ...]]] = {
    "worker": ("auth-string",),
    "server": ("auth-string", "encryption-key", "database-password"),
    "database": ("database-password",),
}
S3_SECRET: Final = "pollen-s3"
S3_ENTRIES: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
PULL_SECRET: Final = "kubernetes.io/dockerconfigjson"

_ABOUT = About(Category.RESOURCES)
_SITE_FILE: Final = "deployments/site.yaml"

Kind = Literal["Secret", "ConfigMap"]
_REFERENCES: Final[tuple[tuple[str, Kind], ...]] = (
    ("secretRef", "Secret"),
    ("configMapRef", "ConfigMap"),
)


@dataclass(frozen=True)
class _Needed:
    """An object that pods name and need to start.

    Attributes:
        kind: Kind of the object.
        name: Name of the object.
        entries: Entries that are read from it, as far as known.
        type: Type that the Secret must have; empty for any.
    """

    kind: Kind
    name: str
    entries: tuple[str, ...] = ()
    type: str = ""


async def check_resources(access: Access, site: Site) -> AsyncIterator[Finding]:
    """Check quota, GPUs, Secrets and ConfigMaps, as far as this account may read them.

    Raises:
        PollenError: If the cluster does not answer, or the site file's pools can't be used.
    """
    pools = {
        name: _defaults(pool_template(name, pool))
        for name, pool in site.pools.items()
        if pool.type == "kubernetes"
    }
    async with cluster(access) as client:
        async for finding in check_quotas(client, access.namespace, pools):
            yield finding
        async for finding in _gpus(client, pools):
            yield finding
        async for finding in _references(client, access.namespace, pools):
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
        yield _ABOUT.info("no pool requests GPUs: runs need the setting device: cpu")
        return
    try:
        nodes = await CoreV1Api(client).list_node(_request_timeout=REQUEST_SECONDS)
    except ApiException as error:
        if error.status != FORBIDDEN:
            raise
        yield _ABOUT.info(
            "whether nodes have GPUs was not checked: this account may not list nodes (usual for accounts of one "
            "namespace)",
            resolution="the cluster's documentation names its GPUs; a run that finds none stays unscheduled, and "
            "`pollen doctor RUN` reports it",
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


async def _references(
    client: ApiClient, namespace: str, pools: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[Finding]:
    """Check the Secrets and ConfigMaps that pods of server, workers and runs need, and their entries."""
    needed = _needed(pools, await _roles(client, namespace))
    if not any(each.type for each in needed):
        yield _ABOUT.info(
            "no image pull secret is named: the image must be in a public registry",
            resolution="for a private one, set image_pull_secrets in the pools' variables in deployments/site.yaml",
        )
    for each in needed:
        yield await _look_at(client, namespace, each)


def _needed(pools: Mapping[str, Mapping[str, Any]], roles: Iterable[str]) -> list[_Needed]:
    """Return all that is needed, each object once, ordered by name."""
    own = [PREFECT_ENTRIES["worker"], *(PREFECT_ENTRIES[role] for role in roles)]
    entries = tuple(dict.fromkeys(entry for some in own for entry in some))
    needed = {("Secret", PREFECT_SECRET): _Needed("Secret", PREFECT_SECRET, entries)}
    for defaults in pools.values():
        for given in defaults.get("image_pull_secrets") or ():
            wanted = _Needed("Secret", given["name"], type=PULL_SECRET)
            needed["Secret", wanted.name] = wanted
        for wanted in _environment(defaults.get("env_from") or ()):
            needed.setdefault((wanted.kind, wanted.name), wanted)
    return sorted(needed.values(), key=lambda each: (each.name, each.kind))


def _environment(env_from: Iterable[Mapping[str, Any]]) -> Iterator[_Needed]:
    """Yield the sources of a pod's environment that it needs to start."""
    for each in env_from:
        for field, kind in _REFERENCES:
            given = each.get(field) or {}
            if given.get("name") and not given.get("optional"):
                entries = S3_ENTRIES if (kind, given["name"]) == ("Secret", S3_SECRET) else ()
                yield _Needed(kind, given["name"], entries)


async def _roles(client: ApiClient, namespace: str) -> list[str]:
    """Return the roles, server or database, that run in the namespace; none if we may not list pods."""
    try:
        found = await CoreV1Api(client).list_namespaced_pod(
            namespace,
            label_selector=f"{ROLE} in (server,database)",
            limit=PAGE,
            _request_timeout=REQUEST_SECONDS,
        )
    except ApiException as error:
        if error.status not in {FORBIDDEN, NOT_FOUND}:
            raise
        return []
    return sorted({pod.metadata.labels[ROLE] for pod in found.items})


async def _look_at(client: ApiClient, namespace: str, needed: _Needed) -> Finding:
    """Report whether an object exists; of its content, only the names of the entries are used."""
    kind, name = needed.kind, needed.name
    api = CoreV1Api(client)
    read = api.read_namespaced_secret if kind == "Secret" else api.read_namespaced_config_map
    remedy = (
        "deployments/kubernetes/secrets/README.md explains how to make it"
        if name in {PREFECT_SECRET, S3_SECRET} or needed.type
        else f"make it in the namespace, or correct env_from in the pools' variables in {_SITE_FILE}"
    )
    try:
        found = await read(name, namespace, _request_timeout=REQUEST_SECONDS)
    except ApiException as error:
        if error.status == NOT_FOUND:
            return _ABOUT.error(
                f"there is no {kind} '{name}' in '{namespace}': pods that name it do not start",
                resolution=remedy,
            )
        if error.status == FORBIDDEN:
            return _ABOUT.info(f"{kind} '{name}' not checked: this account may not read {kind}s")
        raise
    missing = [entry for entry in needed.entries if not (found.data or {}).get(entry)]
    if missing:
        return _ABOUT.error(f"{kind} '{name}' lacks {', '.join(missing)}", resolution=remedy)
    made = getattr(found, "type", "")  # ConfigMaps have none
    if needed.type and made != needed.type:
        return _ABOUT.error(
            f"Secret '{name}' is of type {made}: nodes can't read a registry with it",
            resolution=f"make it again: kubectl create secret docker-registry {name} ...",
        )
    return _ABOUT.ok(f"{kind} '{name}' exists")
