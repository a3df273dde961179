"""The way to a cluster: by a pod's own service account, or by a kubeconfig; and what it says of one run."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, BatchV1Api, Configuration, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException
from prefect_kubernetes.diagnostics import diagnose_k8s_pod  # type: ignore[import-untyped]
from yaml import YAMLError

from services.doctor.run.facts import Trouble
from services.doctor.run.pod_failures import BACKOFF, DEADLINE, FAILED_CREATE, better_kind
from services.namespace import current_namespace
from tasks.faults import PollenError

#: Seconds a request to the cluster may take.
REQUEST_SECONDS: Final = 10.0
#: Label that the worker puts on Jobs and pods.
RUN_LABEL: Final = "prefect.io/flow-run-id"
#: Pods and events that are read at most.
PAGE: Final = 200

_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Access:
    """How a cluster is reached.

    Attributes:
        files: The kubeconfig, or several of them; empty in a pod with a service account's token.
        context: The kubeconfig's current context.
        server: Address of the cluster.
        namespace: That is looked at.
        named: Whether the namespace was said anywhere, or is Kubernetes' default.
    """

    files: tuple[Path, ...]
    context: str
    server: str
    namespace: str
    named: bool = True

    @property
    def source(self) -> str:
        """Where the keys to the cluster come from, as the client library wants it."""
        return os.pathsep.join(map(str, self.files)) or self.context


def find_access(namespace: str | None = None) -> Access | None:
    """The way to a cluster from here; None where there is none.

    Args:
        namespace: The one to look at; None: that of this pod or of the kubeconfig's context.

    Raises:
        PollenError: There is a kubeconfig, and it can't be used.
    """
    chosen = namespace or current_namespace()
    looked_at = chosen or "default"
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if host and _TOKEN.is_file():
        return Access((), "this pod's service account", f"https://{host}", looked_at)
    named = os.environ.get("KUBECONFIG")
    places = [Path(each).expanduser() for each in (named or "~/.kube/config").split(os.pathsep)]
    files = tuple(each for each in places if each.is_file())
    if files:
        return Access(files, *_current(files), looked_at, named=chosen is not None)
    if named:
        raise PollenError(f"KUBECONFIG names {named}, which is no file: correct it, or unset it")
    return None


def _current(files: tuple[Path, ...]) -> tuple[str, str]:
    """Name of the current context, and address of its cluster."""
    source = os.pathsep.join(map(str, files))
    try:
        active: Any = config.list_kube_config_contexts(source)[1]
        clusters: dict[str, Any] = {}
        for file in reversed(files):  # of a name given twice, the first file's counts
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            clusters |= {each["name"]: each["cluster"] for each in content.get("clusters") or ()}
        return str(active["name"]), str(clusters[active["context"]["cluster"]]["server"])
    except _UNUSABLE as error:
        raise PollenError(
            f"the kubeconfig {source} can't be used ({error}): download it anew, and choose a context with kubectl "
            "config use-context NAME"
        ) from error


_UNUSABLE: Final = (
    config.ConfigException,
    OSError,
    YAMLError,
    TypeError,
    KeyError,
    AttributeError,
    UnicodeDecodeError,
)


@asynccontextmanager
async def cluster(access: Access) -> AsyncIterator[ApiClient]:
    """A client of the cluster; what goes wrong with it becomes one clear error.

    Raises:
        PollenError: The cluster can't be reached, or does not let us in.
    """
    try:
        async with await _client(access) as client:
            yield client
    except ApiException as error:
        if error.status == 401:
            raise PollenError(
                f"the cluster at {access.server} does not know us (401): the token in {access.source} has "
                "run out or was revoked. Download the kubeconfig anew (Rancher: the cluster's page, Download "
                "KubeConfig) and chmod 600 it"
            ) from error
        raise PollenError(
            f"the cluster at {access.server} answered {error.status} {error.reason}"
        ) from error
    except config.ConfigException as error:
        raise PollenError(
            f"{access.source} can't be used: {error}. Download the kubeconfig anew"
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise PollenError(
            f"the cluster at {access.server} can't be reached ({str(error) or type(error).__name__}): check the "
            "network (is a VPN needed?) and the address in the kubeconfig"
        ) from error


async def _client(access: Access) -> ApiClient:
    if access.files:
        return await config.new_client_from_config(access.source, persist_config=False)
    settings = Configuration()
    config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    return ApiClient(configuration=settings)


@dataclass(frozen=True)
class OnCluster:
    """What a cluster has of one run.

    Attributes:
        pods: How many of its pods wait or run.
        troubles: Of its pods and Jobs.
    """

    pods: int
    troubles: tuple[Trouble, ...]


async def of_run(client: ApiClient, namespace: str, run: UUID) -> OnCluster:
    """Look for the Jobs and pods of a run; those of its earlier attempts stay for days, and tell their time.

    Raises:
        ApiException: The cluster refuses.
    """
    selector = f"{RUN_LABEL}={run}"
    limits: dict[str, Any] = {"limit": PAGE, "_request_timeout": REQUEST_SECONDS}
    pods = _by_age(
        client,
        await CoreV1Api(client).list_namespaced_pod(namespace, label_selector=selector, **limits),
    )
    jobs = _by_age(
        client,
        await BatchV1Api(client).list_namespaced_job(namespace, label_selector=selector, **limits),
    )
    troubles = [
        replace(trouble, at=_ended(pod, newest=pod is pods[-1]))
        for pod in pods
        for trouble in pod_troubles(pod.get("status") or {})
    ]
    for job in jobs:
        troubles += job_troubles(job.get("status") or {})
        if not any(_made_by(pod, job) for pod in pods):
            troubles += await _refused_pods(client, namespace, job["metadata"]["name"])
    return OnCluster(sum(_alive(pod) for pod in pods), tuple(troubles))


def _by_age(client: ApiClient, found: Any) -> list[dict[str, Any]]:  # noqa: ANN401  (of any kind)
    """Objects as plain values, the newest last."""
    plain: list[dict[str, Any]] = [client.sanitize_for_serialization(each) for each in found.items]
    return sorted(plain, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""))


def _alive(pod: dict[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Pending", "Running"}


def _made_by(pod: dict[str, Any], job: dict[str, Any]) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("name") == job["metadata"]["name"] for owner in owners)


def _ended(pod: dict[str, Any], *, newest: bool) -> datetime | None:
    """When what a pod says happened; None: at present."""
    if _alive(pod):
        return None if newest else _moment(pod["metadata"].get("creationTimestamp"))
    status = pod.get("status") or {}
    ends = [
        ((each.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for each in status.get("containerStatuses") or ()
    ]
    changes = [each.get("lastTransitionTime") for each in status.get("conditions") or ()]
    moments = [moment for each in (*ends, *changes) if (moment := _moment(each)) is not None]
    return max(moments, default=_moment(pod["metadata"].get("creationTimestamp")))


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def pod_troubles(status: dict[str, Any]) -> Iterator[Trouble]:
    """What a pod's status says; the observer's categories first, then what it does not know of."""
    diagnosis = diagnose_k8s_pod(status)
    if diagnosis is not None:
        text = f"{diagnosis.summary}: {diagnosis.detail}"
        yield Trouble(better_kind(diagnosis.category.value, text), text)
        return
    if status.get("reason") == DEADLINE:
        yield Trouble(DEADLINE, str(status.get("message") or ""))
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            yield Trouble(waiting["reason"], f"{waiting['reason']}: {waiting.get('message', '')}")


def job_troubles(status: dict[str, Any]) -> Iterator[Trouble]:
    """What a Job's status says of its end."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Failed" and condition.get("reason") != BACKOFF:
            text = f"{condition.get('reason')}: {condition.get('message', '')}"
            at = _moment(condition.get("lastTransitionTime"))
            yield Trouble(str(condition.get("reason")), text, at)


async def _refused_pods(client: ApiClient, namespace: str, job: str) -> list[Trouble]:
    """Why a Job has no pod: Kubernetes tells it in events alone."""
    try:
        events = await CoreV1Api(client).list_namespaced_event(
            namespace,
            field_selector=f"involvedObject.kind=Job,involvedObject.name={job}",
            limit=PAGE,
            _request_timeout=REQUEST_SECONDS,
        )
    except ApiException:  # events may be closed to us
        return []
    return [
        Trouble(FAILED_CREATE, event.get("message") or "", _moment(event.get("lastTimestamp")))
        for event in map(client.sanitize_for_serialization, events.items)
        if event.get("reason") == FAILED_CREATE
    ]
