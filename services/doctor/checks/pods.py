"""Check the pods of server, database and workers: they run, and workers watch the pods of runs."""

from collections.abc import Iterator
from typing import Any, Final

from services.doctor.checking import About
from services.doctor.finding import Category, Finding
from services.doctor.pod_status import CONFIG_ERROR, PodProblem, pod_problems

#: Label of the pods in our manifests, and its values for pods that stay.
ROLE: Final = "pollen/role"
ROLES: Final = ("server", "database", "worker", "receiver")
WORKER: Final = "worker"
#: Variable without which a worker never notices the end of a pod.
OBSERVER: Final = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
#: Restarts of a container from which a running pod needs attention.
RESTARTS: Final = 3

#: Reasons of containers that are about to start.
_ON_ITS_WAY: Final = {"ContainerCreating", "PodInitializing"}

_ABOUT = About(Category.CLUSTER)
_APPLY: Final = "kubectl apply -k deployments/kubernetes/overlays/..."


def check_pods(pods: list[dict[str, Any]], namespace: str) -> Iterator[Finding]:
    """Check pods of server, database, workers and receiver.

    Args:
        pods: Pods as Kubernetes' API returns them, with one of `ROLES` each.
        namespace: Their namespace.
    """
    # A pod of a Deployment that ended or is about to end has a successor, which counts.
    present = [pod for pod in pods if not _is_over(pod)]
    if not any(_role(pod) == WORKER for pod in present):
        yield _ABOUT.info(
            f"no worker's pod in '{namespace}': it is not known whether workers elsewhere notice the end of pods",
            resolution=f"a worker outside the namespace needs {OBSERVER}={namespace}",
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
    """Report whether a pod runs."""
    status = pod.get("status") or {}
    name, role = pod["metadata"]["name"], _role(pod)
    problem = next((each for each in pod_problems(status) if each.kind not in _ON_ITS_WAY), None)
    if problem is not None:
        return _ABOUT.error(
            f"{role} {name} does not run ({problem.kind})", problem.text, _remedy(problem, name)
        )
    containers = status.get("containerStatuses") or ()
    log = f"kubectl logs {name} and kubectl describe pod {name} show the cause"
    if status.get("phase") != "Running" or not all(each.get("ready") for each in containers):
        return _ABOUT.warning(f"{role} {name} is not ready ({status.get('phase')})", "", log)
    restarts = max((each.get("restartCount") or 0 for each in containers), default=0)
    if restarts >= RESTARTS:
        return _ABOUT.warning(
            f"{role} {name} runs, but was restarted {restarts} times",
            resolution=f"kubectl logs {name} --previous shows how it ended last",
        )
    return _ABOUT.ok(f"{role} {name} runs")


def _remedy(problem: PodProblem, name: str) -> str:
    if any(mark in problem.text.lower() for mark in ("persistentvolumeclaim", "persistent volume")):
        return (
            "its disk (PersistentVolumeClaim) can't be made: name a storage class of this cluster (kubectl get "
            "storageclass) as storageClassName in the overlay's storage.yaml, delete StatefulSet and claim, apply again"
        )
    for kind, remedy in _REMEDIES.items():
        if problem.kind.startswith(kind):
            return remedy.format(name=name)
    return f"kubectl describe pod {name} shows the cause"


_REMEDIES: Final = {
    CONFIG_ERROR: "a Secret or one of its entries is missing: deployments/kubernetes/secrets/README.md explains how "
    "to make it; then the pod starts by itself",
    "ImagePullError": "correct newName and newTag in the overlay's kustomization.yaml, or its pull secret; then "
    f"{_APPLY}",
    "CrashLoopBackOff": "kubectl logs {name} --previous shows how it ended last",
    "OOMKilled": f"raise its memory limit in a patch of the overlay; then {_APPLY}",
    "Unschedulable": "no node has room for it or accepts it: lower its requests in a patch of the overlay, or ask the "
    "cluster's administrators",
}


def _observer(pod: dict[str, Any], namespace: str) -> Finding:
    """Report whether a worker watches its namespace."""
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
            f"worker {name} does not watch its namespace: it never notices that a run was killed",
            f"{OBSERVER} is not set",
            remedy,
        )
    value = given.get("value")
    if value is not None and namespace not in (each.strip() for each in value.split(",")):
        return _ABOUT.warning(
            f"worker {name} watches other namespaces, not '{namespace}'",
            f"{OBSERVER}={value}",
            remedy,
        )
    return _ABOUT.ok(f"worker {name} watches its namespace")
