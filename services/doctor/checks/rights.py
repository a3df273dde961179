"""Check rights in the namespace: those of this account, and those of the workers."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

from kubernetes_asyncio.client import ApiClient, AuthorizationV1Api, RbacAuthorizationV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.checks.cluster import FORBIDDEN, NOT_FOUND
from services.doctor.cluster_access import REQUEST_SECONDS, Access, cluster
from services.doctor.finding import Category, Finding

WORKER: Final = "pollen-worker"

_ABOUT = About(Category.RIGHTS)
_RBAC: Final = "rbac.authorization.k8s.io"


class Right(NamedTuple):
    """A right to do something with a kind of object in the namespace.

    Attributes:
        group: API group of the resource.
        resource: Kind of object, perhaps with a subresource (`pods/log`).
        verb: Action.
    """

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        """Describe it as kubectl does."""
        return f"{self.verb} {self.resource}"


#: Rights of a worker: it makes one Job per run and watches it to its end.
FOR_WORKERS: Final = (
    *(Right("batch", "jobs", verb) for verb in ("get", "list", "watch", "create", "delete")),
    *(Right("", "pods", verb) for verb in ("get", "list", "watch")),
    Right("", "pods/log", "get"),
)
#: Further rights of a person (docs/cluster.md): to install and upgrade (kubectl apply -k), reach the server,
#: set keys, back up, and find errors.
FOR_PEOPLE: Final = (
    Right("", "events", "list"),
    Right("", "pods/portforward", "create"),
    Right("", "pods/exec", "create"),
    *(Right("apps", "deployments", verb) for verb in ("list", "watch")),
    Right("apps", "deployments/scale", "patch"),
    Right("", "secrets", "delete"),
    Right("apps", "statefulsets", "delete"),
    Right("", "persistentvolumeclaims", "delete"),
    *(
        Right(group, resource, verb)
        for group, resource in (
            ("apps", "deployments"),
            ("apps", "statefulsets"),
            ("", "services"),
            ("", "secrets"),
            ("", "configmaps"),
            ("", "persistentvolumeclaims"),
            ("", "serviceaccounts"),
            ("networking.k8s.io", "networkpolicies"),
            (_RBAC, "roles"),
            (_RBAC, "rolebindings"),
        )
        for verb in ("get", "create", "patch")
    ),
)


async def check_rights(access: Access) -> AsyncIterator[Finding]:
    """Ask the cluster for the rights of this account and of the workers.

    Raises:
        PollenError: If the cluster does not answer.
    """
    async with cluster(access) as client:
        who = f"'{access.context}' in namespace '{access.namespace}'"
        missing = await _missing(client, access.namespace, FOR_WORKERS)
        if missing:
            yield _ABOUT.error(
                f"{who} may not: {_listed(missing)}",
                "workers need these rights, and a person can only grant rights that they have",
                "ask the cluster's administrators for these rights in this namespace (a Role; no cluster-wide rights "
                "are needed)",
            )
        else:
            yield _ABOUT.ok(f"{who} may do all that runs need ({len(FOR_WORKERS)} rights)")
        if access.files and (missing := await _missing(client, access.namespace, FOR_PEOPLE)):
            yield _ABOUT.warning(
                f"{who} can't install or update this project: it may not {_listed(missing)}",
                "runs are not affected",
                "to install it with this kubeconfig, ask the cluster's administrators for these rights",
            )
        elif access.files:
            yield _ABOUT.ok(f"{who} may install this project ({len(FOR_PEOPLE)} rights)")
        if access.files:
            async for finding in _of_workers(client, access.namespace):
                yield finding


async def _missing(
    client: ApiClient, namespace: str, wanted: Iterable[Right], user: str | None = None
) -> list[Right]:
    """Return the rights that this account, or another user, lacks."""
    rights = list(wanted)
    answers = await asyncio.gather(*(_may(client, namespace, right, user) for right in rights))
    return [right for right, may in zip(rights, answers, strict=True) if not may]


async def _may(client: ApiClient, namespace: str, right: Right, user: str | None) -> bool:
    resource, _, sub = right.resource.partition("/")
    attributes = {
        "namespace": namespace,
        "group": right.group,
        "resource": resource,
        "verb": right.verb,
        **({"subresource": sub} if sub else {}),
    }
    review: Any = {"spec": {"resourceAttributes": attributes}}
    api = AuthorizationV1Api(client)
    if user is None:
        mine = await api.create_self_subject_access_review(review, _request_timeout=REQUEST_SECONDS)
        return bool(mine.status.allowed)
    review["metadata"] = {"namespace": namespace}
    review["spec"]["user"] = user
    theirs = await api.create_namespaced_local_subject_access_review(
        namespace, review, _request_timeout=REQUEST_SECONDS
    )
    return bool(theirs.status.allowed)


async def _of_workers(client: ApiClient, namespace: str) -> AsyncIterator[Finding]:
    """Check the rights of the workers' service account: ask the cluster, or else read its Role."""
    remedy = "kubectl apply -k deployments/kubernetes/overlays/... gives it the Role it needs"
    user = f"system:serviceaccount:{namespace}:{WORKER}"
    try:
        missing = await _missing(client, namespace, FOR_WORKERS, user)
    except ApiException as error:
        if error.status != FORBIDDEN:
            raise
    else:
        yield _judged(missing, remedy)
        return
    try:
        role = await RbacAuthorizationV1Api(client).read_namespaced_role(
            WORKER, namespace, _request_timeout=REQUEST_SECONDS
        )
    except ApiException as error:
        if error.status == NOT_FOUND:
            yield _ABOUT.error(
                f"there is no Role '{WORKER}' in '{namespace}': workers may not create Jobs there",
                resolution=remedy,
            )
        elif error.status == FORBIDDEN:
            yield _ABOUT.info(
                f"the rights of the service account '{WORKER}' were not checked: this account may not ask",
                resolution="ask from a worker's own pod: kubectl exec deployment/worker-gpu -- pollen doctor; there, "
                "only findings about rights and cluster count (that pod has no S3 keys and can't reach the storage)",
            )
        else:
            raise
        return
    yield _judged([right for right in FOR_WORKERS if not _grants(role.rules, right)], remedy)


def _judged(missing: list[Right], remedy: str) -> Finding:
    if missing:
        return _ABOUT.error(
            f"the service account '{WORKER}' may not: {_listed(missing)}", resolution=remedy
        )
    return _ABOUT.ok(f"the service account '{WORKER}' may do all that workers need")


def _grants(rules: Iterable[Any], right: Right) -> bool:
    def covers(given: list[str] | None, wanted: str) -> bool:
        return given is not None and ("*" in given or wanted in given)

    return any(
        covers(rule.api_groups, right.group)
        and covers(rule.resources, right.resource)
        and covers(rule.verbs, right.verb)
        and not rule.resource_names
        for rule in rules or ()
    )


def _listed(rights: Iterable[Right]) -> str:
    return ", ".join(map(str, rights))
