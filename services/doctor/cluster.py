"""The cluster: reached with which kubeconfig, in which namespace, and whether its workers see what they must."""

import stat
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from kubernetes_asyncio.client import ApiClient, CoreV1Api, VersionApi
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.finding import Category, Finding
from services.doctor.kube import PAGE, REQUEST_SECONDS, Access, cluster, pod_troubles

#: Without it the worker sees no pod's end.
OBSERVER: Final = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
FORBIDDEN: Final = 403
NOT_FOUND: Final = 404

_ABOUT = About(Category.CLUSTER)


def look_at_access(access: Access) -> Iterator[Finding]:
    """The kubeconfig itself: whose eyes it is open to, and where it leads."""
    if access.files:
        yield _ABOUT.ok(f"kubeconfig {access.source}, context '{access.context}'", access.server)
    else:
        yield _ABOUT.ok(f"the cluster is reached as {access.context}", access.server)
    for file in access.files:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield _ABOUT.warning(
                f"others on this machine may read the kubeconfig (mode {mode:o}): it holds your keys to the cluster",
                resolution=f"chmod 600 {file}",
            )
        else:
            yield _ABOUT.ok(f"nobody else may read the kubeconfig (mode {mode:o})")
    if access.named:
        yield _ABOUT.ok(f"namespace '{access.namespace}'")
    else:
        yield _ABOUT.warning(
            "no namespace is named: Kubernetes' own, 'default', is looked at",
            resolution="set kubernetes.namespace in deployments/site.yaml, or kubectl config set-context --current "
            "--namespace=...",
        )


async def look_at_cluster(access: Access) -> AsyncIterator[Finding]:
    """Whether the cluster answers us, and the workers in it.

    Raises:
        PollenError: It does not.
    """
    async with cluster(access) as client:
        version = await VersionApi(client).get_code(_request_timeout=REQUEST_SECONDS)
        yield _ABOUT.ok(f"the cluster answers: Kubernetes {version.git_version}")
        async for finding in _workers(client, access.namespace):
            yield finding


async def _workers(client: ApiClient, namespace: str) -> AsyncIterator[Finding]:
    """Pods of workers, and whether they watch their namespace."""
    try:
        found = await CoreV1Api(client).list_namespaced_pod(
            namespace, limit=PAGE, _request_timeout=REQUEST_SECONDS
        )
    except ApiException as error:
        if error.status not in {FORBIDDEN, NOT_FOUND}:
            raise
        yield _ABOUT.info(
            f"workers in '{namespace}' not looked at: pods can't be listed ({error.status})",
            resolution="check the namespace, and ask for the right to list pods in it",
        )
        return
    pods: list[dict[str, Any]] = [client.sanitize_for_serialization(pod) for pod in found.items]
    workers = [pod for pod in pods if _is_worker(pod)]
    if not workers:
        yield _ABOUT.info(
            f"no pod of a worker in '{namespace}': whether workers elsewhere see their pods' ends is not known",
            resolution=f"a worker outside needs {OBSERVER}={namespace}",
        )
    for pod in workers:
        yield _observer(pod, namespace)
        for trouble in pod_troubles(pod.get("status") or {}):
            name = pod["metadata"]["name"]
            yield _ABOUT.error(f"worker {name} does not run ({trouble.kind})", trouble.text)


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return pod.get("spec", {}).get("containers") or []


def _is_worker(pod: dict[str, Any]) -> bool:
    for container in _containers(pod):
        words = [*(container.get("command") or ()), *(container.get("args") or ())]
        if "worker start" in " ".join(words):
            return True
    return False


def _observer(pod: dict[str, Any], namespace: str) -> Finding:
    name = pod["metadata"]["name"]
    settings = {
        each["name"]: each for container in _containers(pod) for each in container.get("env") or ()
    }
    given = settings.get(OBSERVER)
    remedy = f"set {OBSERVER}={namespace} on it (deployments/kubernetes does)"
    if given is None:
        return _ABOUT.error(
            f"worker {name} is not told its namespace: it never learns that a run was killed",
            f"{OBSERVER} is not set",
            remedy,
        )
    value = given.get("value")
    if value is not None and namespace not in value:
        return _ABOUT.warning(
            f"worker {name} watches other namespaces than '{namespace}'",
            f"{OBSERVER}={value}",
            remedy,
        )
    return _ABOUT.ok(f"worker {name} watches its namespace")
