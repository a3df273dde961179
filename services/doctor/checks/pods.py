"""Pods of the server, its database and the workers: whether they run, and whether workers see what they must."""

from collections.abc import Iterator
from typing import Any, Final

from services.doctor.checking import About
from services.doctor.finding import Category, Finding
from services.doctor.pod_status import CONFIG_ERROR, PodProblem, pod_problems

#: Label by which our manifests tell pods apart, and its values for those that stay.
ROLE: Final = "pollen/role"
ROLES: Final = ("server", "database", "worker", "receiver")
WORKER: Final = "worker"
#: Without it the worker sees no pod's end.
OBSERVER: Final = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
#: Restarts of a container from which a pod that runs at the moment wants a look.
RESTARTS: Final = 3

#: What containers wait for that are about to start.
_ON_ITS_WAY: Final = {"ContainerCreating", "PodInitializing"}

_ABOUT = About(Category.CLUSTER)
_APPLY: Final = "kubectl apply -k deployments/kubernetes/overlays/..."


def check_pods(pods: list[dict[str, Any]], namespace: str) -> Iterator[Finding]:
    """What pods of ours say.

    Args:
        pods: As Kubernetes' API has them, with one of ``ROLES`` each.
        namespace: They are in.
    """
    # A Deployment's pod that ended or is about to has a successor, which says what counts.
    present = [pod for pod in pods if not _is_over(pod)]
    if not any(_role(pod) == WORKER for pod in present):
        yield _ABOUT.info(
            f"no pod of a worker in '{namespace}': whether workers elsewhere see their pods' ends is not known",
            resolution=f"a worker outside needs {OBSERVER}={namespace}",
        )
    for pod in present:
        if _role(pod) == WORKER:
            yield _observer(pod, namespace)
        yield _condition(pod)


def _is_over(pod: dict[str, Any]) -> bool:
    over = (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}
    return over or bool(pod["metadata"].get("deletionTimestamp"))


def _role(pod: dict[str, Any]) -> str:
    return str((pod["metadata"].get("labels") or {}).get(ROLE))


def _condition(pod: dict[str, Any]) -> Finding:
    """Whether a pod runs."""
    status = pod.get("status") or {}
    name, role = pod["metadata"]["name"], _role(pod)
    problem = next((each for each in pod_problems(status) if each.kind not in _ON_ITS_WAY), None)
    if problem is not None:
        return _ABOUT.error(
            f"{role} {name} does not run ({problem.kind})", problem.text, _remedy(problem, name)
        )
    containers = status.get("containerStatuses") or ()
    log = f"kubectl logs {name}, and kubectl describe pod {name}, say why"
    if status.get("phase") != "Running" or not all(each.get("ready") for each in containers):
        return _ABOUT.warning(f"{role} {name} is not ready ({status.get('phase')})", "", log)
    restarts = max((each.get("restartCount") or 0 for each in containers), default=0)
    if restarts >= RESTARTS:
        return _ABOUT.warning(
            f"{role} {name} runs, and was started anew {restarts} times",
            resolution=f"kubectl logs {name} --previous says how it ended last",
        )
    return _ABOUT.ok(f"{role} {name} runs")


def _remedy(problem: PodProblem, name: str) -> str:
    if any(mark in problem.text.lower() for mark in ("persistentvolumeclaim", "persistent volume")):
        return (
            "its disk (PersistentVolumeClaim) can't be made: name a kind of disk of this cluster (kubectl get "
            "storageclass) as storageClassName in the overlay's storage.yaml, delete StatefulSet and claim, apply again"
        )
    for kind, remedy in _REMEDIES.items():
        if problem.kind.startswith(kind):
            return remedy.format(name=name)
    return f"kubectl describe pod {name} says more"


_REMEDIES: Final = {
    CONFIG_ERROR: "a Secret or an entry of one is missing: deployments/kubernetes/secrets/README.md says how to make "
    "it; the pod starts by itself then",
    "ImagePullError": "correct newName and newTag in the overlay's kustomization.yaml, or its pull secret; then "
    f"{_APPLY}",
    "CrashLoopBackOff": "kubectl logs {name} --previous says how it ended last",
    "OOMKilled": f"raise its memory limit in a patch of the overlay; then {_APPLY}",
    "Unschedulable": "no node has room for it or may take it: ask for less in a patch of the overlay, or ask the "
    "cluster's administrators",
}


def _observer(pod: dict[str, Any], namespace: str) -> Finding:
    """Whether a worker watches its namespace."""
    name = pod["metadata"]["name"]
    settings = {
        each["name"]: each
        for container in pod.get("spec", {}).get("containers") or ()
        for each in container.get("env") or ()
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
    if value is not None and namespace not in (each.strip() for each in value.split(",")):
        return _ABOUT.warning(
            f"worker {name} watches other namespaces than '{namespace}'",
            f"{OBSERVER}={value}",
            remedy,
        )
    return _ABOUT.ok(f"worker {name} watches its namespace")
