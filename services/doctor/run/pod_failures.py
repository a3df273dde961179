"""Explain pods that don't start, pods that are killed, and Jobs that Kubernetes refuses.

The kinds of problems are those of the worker's observer (`prefect_kubernetes.diagnostics`) and Kubernetes'
own reasons; the texts of refused Jobs are those of the Kubernetes worker.
"""

import re
from datetime import datetime
from typing import Final

from prefect.client.schemas.objects import State
from prefect_kubernetes.diagnostics import DiagnosisCategory  # type: ignore[import-untyped]

from services.doctor.checking import About
from services.doctor.finding import Category, Finding
from services.doctor.pod_status import CONFIG_ERROR, DEADLINE, PodProblem, better_kind
from services.doctor.run.facts import RunFacts
from tasks.cluster.deploy_hint import DEPLOY

#: Beginning of the message of a state if the worker could not make a Job.
NOT_SUBMITTED: Final = "Failed to submit flow run to infrastructure:"
#: Kubernetes' reason for a Job whose pod failed too often.
BACKOFF: Final = "BackoffLimitExceeded"
#: Kubernetes' reason for events about Jobs that get no pod.
FAILED_CREATE: Final = "FailedCreate"
#: Separates the problem from the remedy in a line of the observer's log.
RESOLUTION: Final = "Resolution:"

_ABOUT = About(Category.RUN)

#: Summary and remedy of every known kind of problem.
EXPLAINED: Final[dict[str, tuple[str, str]]] = {
    DiagnosisCategory.IMAGE_PULL_ERROR.value: (
        "Kubernetes can't pull the image (ImagePullBackOff)",
        "check the image's name and tag ({image}) and that it is still in the registry (ttl.sh keeps images for a day "
        "at most); for a private registry, that the pull secret exists in the namespace and is named in the pool's "
        f"variable image_pull_secrets. After pushing another tag, {DEPLOY}",
    ),
    DiagnosisCategory.UNSCHEDULABLE_INSUFFICIENT_RESOURCES.value: (
        "no node has enough free GPUs, memory, CPU or disk (unschedulable)",
        "wait until other pods are done (kubectl get pods), or lower the requests in the pool's variables (gpu_count, "
        "memory_request, cpu_request, ephemeral_storage_request) and run `pollen setup`",
    ),
    DiagnosisCategory.UNSCHEDULABLE_NODE_AFFINITY.value: (
        "no node has the labels of the pool's node selector (unschedulable)",
        "correct node_selector in the pool's variables in deployments/site.yaml and run `pollen setup`; see the labels "
        "with kubectl get nodes --show-labels, or in the cluster's documentation",
    ),
    DiagnosisCategory.UNSCHEDULABLE_TAINT.value: (
        "the nodes that would fit have taints that keep this pod away (unschedulable, taints)",
        "add the taint to tolerations in the pool's variables in deployments/site.yaml and run `pollen setup`, if this "
        "project may use those nodes; ask the cluster's administrators",
    ),
    DiagnosisCategory.UNSCHEDULABLE.value: (
        "no node accepts this pod (unschedulable)",
        "read the message of the scheduler above; ask the cluster's administrators",
    ),
    DiagnosisCategory.OOM_KILLED.value: (
        "the run was killed because it used more memory than its limit ({memory_limit}) (OOMKilled)",
        "raise memory_limit in the pool's variables in deployments/site.yaml and run `pollen setup`, or start with "
        "lower settings (detect: memory_megapixels, batch_images; train: batch); what was done is kept",
    ),
    DiagnosisCategory.EVICTED.value: (
        "the node evicted the run's pod (evicted)",
        "the node ran short of disk or memory, or was drained for maintenance. Set the memory request equal to the "
        "limit and the disk request to what runs need (ephemeral_storage_request) in deployments/site.yaml; what was "
        "done is kept, and the next run continues from there",
    ),
    DiagnosisCategory.CRASH_LOOP_BACKOFF.value: (
        "the run's container ends right after every start",
        "read the log below; check the image and its start command",
    ),
    DEADLINE: (
        "the run took longer than its Job's deadline ({active_deadline_seconds} s)",
        "what was done is kept: run again to continue. If such runs need this long, raise "
        "active_deadline_seconds in the pool's variables in deployments/site.yaml and run `pollen setup`",
    ),
    CONFIG_ERROR: (
        "the pod waits for a Secret or ConfigMap that does not exist",
        "make it in the namespace: deployments/kubernetes/secrets has examples and instructions",
    ),
    "InvalidImageName": (
        "the image's name is not valid",
        f"correct it ({{image}}): {DEPLOY}",
    ),
    "ErrImageNeverPull": (
        "the image is not on the node, and image_pull_policy forbids pulling it",
        "set image_pull_policy to IfNotPresent",
    ),
}
_VARIABLES: Final = ("image", "memory_limit", "active_deadline_seconds")


def problem_in_log(text: str, at: datetime) -> PodProblem | None:
    """Return the problem that a line of the observer's log reports; None for other lines."""
    if RESOLUTION not in text:
        return None
    problem = text.partition(RESOLUTION)[0].strip()
    kind = next((kind for mark, kind in _LOGGED if mark in problem), None)
    return None if kind is None else PodProblem(better_kind(kind, problem), problem, at)


def problem_of_state(state: State) -> PodProblem | None:
    """Return the problem that our automations put into the name of a state; None for other states."""
    kind = _NAMED.get(state.name or "")
    return None if kind is None else PodProblem(kind.value, state.message or "", state.timestamp)


#: Names of states given by deployments/automations/diagnoses.yaml.
_NAMED: Final = {
    "ImagePullError": DiagnosisCategory.IMAGE_PULL_ERROR,
    "InsufficientResources": DiagnosisCategory.UNSCHEDULABLE_INSUFFICIENT_RESOURCES,
    "NoSuitableNode": DiagnosisCategory.UNSCHEDULABLE,
}
#: Parts of the observer's log lines, and the kind of problem.
_LOGGED: Final = (
    ("Image pull failed for container", DiagnosisCategory.IMAGE_PULL_ERROR.value),
    ("(OOMKilled)", DiagnosisCategory.OOM_KILLED.value),
    ("was evicted", DiagnosisCategory.EVICTED.value),
    ("is crash-looping", DiagnosisCategory.CRASH_LOOP_BACKOFF.value),
    ("Pod is unschedulable", DiagnosisCategory.UNSCHEDULABLE.value),
)


def explained(problem: PodProblem, facts: RunFacts) -> Finding | None:
    """Explain a problem of a pod; return None if its kind is not known."""
    if problem.kind == FAILED_CREATE:
        return refused_job(problem.text)
    known = EXPLAINED.get(problem.kind)
    if known is None:
        return None
    values = {name: facts.variable(name) or "see the pool" for name in _VARIABLES}
    summary, resolution = (text.format_map(values) for text in known)
    return _ABOUT.error(summary, problem.text, resolution)


def latest_explained(facts: RunFacts, state: State | None = None) -> Finding | None:
    """Explain the latest known problem in the attempt of a state; None for the present state."""
    problems = facts.problems_during(facts.state if state is None else state)
    found = (explained(problem, facts) for problem in reversed(problems))
    return next(filter(None, found), None)


def refused_job(text: str) -> Finding:
    """Explain why a Job or pod could not be made.

    Args:
        text: Message of the worker's state, or of Kubernetes' event.
    """
    message = text.removeprefix(NOT_SUBMITTED).strip()
    lower = message.lower()
    for marks, summary, resolution in _REFUSALS:
        if any(re.search(mark, lower) for mark in marks):
            return _ABOUT.error(summary, message, resolution)
    return _ABOUT.error(
        "the worker could not start the run",
        message,
        "fix what the message names; the worker's own log has details",
    )


#: Patterns of refusals, their meaning, and the remedy; the most specific ones first.
_REFUSALS: Final = (
    (
        ("violates podsecurity",),
        "the namespace's Pod Security refuses the pod",
        "the pool's job template was changed: `pollen setup` restores ours, which satisfies the restricted profile",
    ),
    (
        ("exceeded quota",),
        "the namespace's quota is used up",
        "wait until other pods of the namespace are done, lower the pool's requests in deployments/site.yaml (then "
        "`pollen setup`), or ask the cluster's administrators for more. `pollen doctor` shows the quotas",
    ),
    (
        ("failed quota: .*must specify",),
        "the namespace's quota counts a resource that the pod does not specify",
        "set it in the pool's variables in deployments/site.yaml, then `pollen setup`",
    ),
    (
        (r"(maximum|minimum) \S+ usage per (container|pod)", "limit to request ratio per"),
        "the namespace's limits for single pods (LimitRange) refuse the pod",
        "change the pool's requests in deployments/site.yaml to what the message allows (kubectl get limitrange -o "
        "yaml), then `pollen setup`; or ask the cluster's administrators",
    ),
    (
        ("error looking up service account", 'serviceaccount "[^"]*" not found'),
        "the service account of the run's pod does not exist in the namespace",
        "kubectl apply -k deployments/kubernetes/overlays/... makes it (pollen-job); or correct service_account_name "
        "in the pool's variables",
    ),
    (
        ("because it is being terminated",),
        "the namespace is being deleted",
        "ask the cluster's administrators; elsewhere, set kubernetes.namespace in deployments/site.yaml and run "
        "`pollen setup`",
    ),
    (
        (r"cannot \w+ resource", r"kubernetes job: forbidden(\.|$)"),
        "the worker may not create Jobs (Forbidden)",
        "give its service account the Role of this project (kubectl apply -k deployments/kubernetes/overlays/...), and "
        "check that the pool's namespace is the worker's own. `pollen doctor` checks the rights",
    ),
    (
        ("forbidden",),
        "Kubernetes forbids the Job or its pod",
        "follow the message: its cause may be a rule of the cluster's administrators (an admission policy). If it is "
        "about rights, `pollen doctor` checks them",
    ),
    (
        (r"namespaces? .*not found",),
        "the namespace for the Job does not exist",
        "set kubernetes.namespace in deployments/site.yaml to yours and run `pollen setup`",
    ),
    (
        ("unprocessable", "is invalid", "bad request"),
        "Kubernetes rejects the Job as invalid",
        "correct the job variables of the pool (deployments/site.yaml, then `pollen setup`), of the deployment "
        "(prefect.yaml), or of this run",
    ),
    (
        ("unauthorized", "invalid kube-config", "cannot connect"),
        "the worker can't reach the cluster",
        "a worker in the cluster needs its service account's token mounted; one outside needs a kubeconfig "
        "(KUBECONFIG)",
    ),
)
