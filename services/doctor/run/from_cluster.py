"""Read what a cluster knows of one run: its Jobs and pods, and the events about them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from kubernetes_asyncio.client import ApiClient, BatchV1Api, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.cluster_access import PAGE, REQUEST_SECONDS
from services.doctor.pod_status import PodProblem, pod_problems
from services.doctor.run.pod_failures import BACKOFF, FAILED_CREATE

#: Label of a run's Jobs and pods, set by the worker.
RUN_LABEL: Final = "prefect.io/flow-run-id"


@dataclass(frozen=True)
class OnCluster:
    """The pods and Jobs of one run.

    Attributes:
        pods: Number of its pods that are pending or running.
        problems: Problems of its pods and Jobs.
    """

    pods: int
    problems: tuple[PodProblem, ...]


async def of_run(client: ApiClient, namespace: str, run: UUID) -> OnCluster:
    """Read the Jobs and pods of a run; those of its earlier attempts stay for days.

    Raises:
        ApiException: If the cluster refuses.
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
    problems = [
        replace(problem, at=_ended(pod, newest=pod is pods[-1]))
        for pod in pods
        for problem in pod_problems(pod.get("status") or {})
    ]
    for job in jobs:
        problems += job_problems(job.get("status") or {})
        if not any(_made_by(pod, job) for pod in pods):
            problems += await _refused_pods(client, namespace, job["metadata"]["name"])
    return OnCluster(sum(_alive(pod) for pod in pods), tuple(problems))


def _by_age(client: ApiClient, found: Any) -> list[dict[str, Any]]:  # noqa: ANN401  (of any kind)
    """Return objects as plain values, the newest last."""
    plain: list[dict[str, Any]] = [client.sanitize_for_serialization(each) for each in found.items]
    return sorted(plain, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""))


def _alive(pod: dict[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") in {"Pending", "Running"}


def _made_by(pod: dict[str, Any], job: dict[str, Any]) -> bool:
    owners = pod["metadata"].get("ownerReferences") or ()
    return any(owner.get("name") == job["metadata"]["name"] for owner in owners)


def _ended(pod: dict[str, Any], *, newest: bool) -> datetime | None:
    """Return when a pod's problem happened; None for the present."""
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


def job_problems(status: dict[str, Any]) -> Iterator[PodProblem]:
    """Yield the problems in the status of a Job that ended."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Failed" and condition.get("reason") != BACKOFF:
            text = f"{condition.get('reason')}: {condition.get('message', '')}"
            at = _moment(condition.get("lastTransitionTime"))
            yield PodProblem(str(condition.get("reason")), text, at)


async def _refused_pods(client: ApiClient, namespace: str, job: str) -> list[PodProblem]:
    """Return why a Job has no pod: Kubernetes reports that only in events."""
    try:
        events = await CoreV1Api(client).list_namespaced_event(
            namespace,
            field_selector=f"involvedObject.kind=Job,involvedObject.name={job}",
            limit=PAGE,
            _request_timeout=REQUEST_SECONDS,
        )
    except ApiException:  # this account may not read events
        return []
    return [
        PodProblem(FAILED_CREATE, event.get("message") or "", _moment(event.get("lastTimestamp")))
        for event in map(client.sanitize_for_serialization, events.items)
        if event.get("reason") == FAILED_CREATE
    ]
