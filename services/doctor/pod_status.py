"""Problems of pods, as their status in Kubernetes shows them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from prefect_kubernetes.diagnostics import (  # type: ignore[import-untyped]
    DiagnosisCategory,
    diagnose_k8s_pod,
)

#: Kubernetes' reason for a pod or Job that was ended because its time was over.
DEADLINE: Final = "DeadlineExceeded"
#: Kubernetes' reason for a container that waits for a missing Secret or ConfigMap.
CONFIG_ERROR: Final = "CreateContainerConfigError"
_UNSCHEDULABLE: Final = (
    (("insufficient",), DiagnosisCategory.UNSCHEDULABLE_INSUFFICIENT_RESOURCES),
    (("affinity", "node selector"), DiagnosisCategory.UNSCHEDULABLE_NODE_AFFINITY),
    (("taint",), DiagnosisCategory.UNSCHEDULABLE_TAINT),
)


@dataclass(frozen=True)
class PodProblem:
    """A problem of a pod or Job.

    Attributes:
        kind: Category of the worker's observer (such as `OOMKilled`), or Kubernetes' own reason.
        text: Description by Kubernetes or the observer.
        at: Time of the problem; None for the present.
    """

    kind: str
    text: str
    at: datetime | None = None


def pod_problems(status: dict[str, Any]) -> Iterator[PodProblem]:
    """Yield the problems in a pod's status: the observer's diagnosis, else what it does not know of."""
    diagnosis = diagnose_k8s_pod(status)
    if diagnosis is not None:
        text = f"{diagnosis.summary}: {diagnosis.detail}"
        yield PodProblem(better_kind(diagnosis.category.value, text), text)
        return
    if status.get("reason") == DEADLINE:
        yield PodProblem(DEADLINE, str(status.get("message") or ""))
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            yield PodProblem(
                waiting["reason"], f"{waiting['reason']}: {waiting.get('message', '')}"
            )


def better_kind(kind: str, text: str) -> str:
    """Return the decisive one of the causes that the scheduler names.

    The observer looks for taints first. But some nodes always have taints that keep everyone away,
    while the pod waits because the other nodes lack GPUs.
    """
    if not kind.startswith(DiagnosisCategory.UNSCHEDULABLE.value):
        return kind
    lower = text.lower()
    for marks, better in _UNSCHEDULABLE:
        if any(mark in lower for mark in marks):
            return str(better.value)
    return kind
