"""Check the cluster: the kubeconfig, the namespace, and the pods of server, database and workers."""

import stat
from collections.abc import AsyncIterator, Iterator
from typing import Final

from kubernetes_asyncio.client import ApiClient, CoreV1Api, VersionApi
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.checks.pods import ROLE, ROLES, check_pods
from services.doctor.cluster_access import PAGE, REQUEST_SECONDS, Access, cluster
from services.doctor.finding import Category, Finding

FORBIDDEN: Final = 403
NOT_FOUND: Final = 404

_ABOUT = About(Category.CLUSTER)


def check_access(access: Access) -> Iterator[Finding]:
    """Check the kubeconfig: who may read it, and which cluster and namespace it names."""
    if access.files:
        yield _ABOUT.ok(f"kubeconfig {access.source}, context '{access.context}'", access.server)
    else:
        yield _ABOUT.ok(f"the cluster is reached as {access.context}", access.server)
    for file in access.files:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield _ABOUT.warning(
                f"others on this machine can read the kubeconfig (mode {mode:o}), which holds your keys to the cluster",
                resolution=f"chmod 600 {file}",
            )
        else:
            yield _ABOUT.ok(f"only you can read the kubeconfig (mode {mode:o})")
    if access.named:
        yield _ABOUT.ok(f"namespace '{access.namespace}'")
    else:
        yield _ABOUT.warning(
            "no namespace is named: Kubernetes' own, 'default', is checked",
            resolution="set kubernetes.namespace in deployments/site.yaml, or kubectl config set-context --current "
            "--namespace=...",
        )


async def check_cluster(access: Access) -> AsyncIterator[Finding]:
    """Check that the cluster answers, and the pods of server, database and workers in it.

    Raises:
        PollenError: If it does not answer.
    """
    async with cluster(access) as client:
        version = await VersionApi(client).get_code(_request_timeout=REQUEST_SECONDS)
        yield _ABOUT.ok(f"the cluster answers: Kubernetes {version.git_version}")
        async for finding in _pods(client, access.namespace):
            yield finding


async def _pods(client: ApiClient, namespace: str) -> AsyncIterator[Finding]:
    """Read the pods of the server, its database and the workers, and check them."""
    try:
        found = await CoreV1Api(client).list_namespaced_pod(
            namespace,
            label_selector=f"{ROLE} in ({','.join(ROLES)})",
            limit=PAGE,
            _request_timeout=REQUEST_SECONDS,
        )
    except ApiException as error:
        if error.status not in {FORBIDDEN, NOT_FOUND}:
            raise
        yield _ABOUT.info(
            f"workers in '{namespace}' not checked: pods can't be listed ({error.status})",
            resolution="check the namespace, and ask for the right to list pods in it",
        )
        return
    for finding in check_pods(
        [client.sanitize_for_serialization(pod) for pod in found.items], namespace
    ):
        yield finding
