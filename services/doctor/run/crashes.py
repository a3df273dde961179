"""Why a run crashed: what Kubernetes said of its pod, or Prefect's own words for how its process ended."""

from typing import Final

from prefect.client.schemas.objects import State

from services.doctor.checking import About
from services.doctor.finding import Category, Finding
from services.doctor.pod_status import DEADLINE, PodProblem
from services.doctor.run.facts import RunFacts
from services.doctor.run.pod_failures import (
    NOT_SUBMITTED,
    explained,
    latest_explained,
    refused_job,
)

#: Seconds before its deadline from which a run that crashed is taken for ended by it.
NEAR_DEADLINE_S: Final = 120

_ABOUT = About(Category.RUN)

#: What the state of a crashed run says (the words of Prefect, of the Kubernetes worker's observer and
#: of our automations), what that is, and what to do.
CRASHES: Final = (
    (
        ("status code: -9.", "status code: 137.", "status code: 247."),
        "the run's process was killed (SIGKILL), most often for want of memory",
        "raise memory_limit in the pool's variables (on a machine: add memory), or start with lower settings (detect: "
        "memory_megapixels, batch_images; train: batch); what was done is kept",
    ),
    (
        (
            "status code: -15.",
            "status code: 143.",
            "Execution was aborted by a termination signal.",
        ),
        "the run was told to stop (SIGTERM): its pod was evicted, its node emptied, its Job deleted or past its "
        "deadline, or its worker stopped",
        "what was done is kept: run again, it goes on from there. If it happens often, ask the cluster's "
        "administrators what ends the pods",
    ),
    (
        ("Kubernetes job was deleted",),
        "somebody or something deleted the run's Job in Kubernetes",
        "run again, it goes on from where it was",
    ),
    (
        ("No active or succeeded pods found for any job",),
        "the run's pod ended without a word",
        "its container did not start properly, or it was killed with its node: look at the log below, and soon enough "
        "at kubectl describe pod; run again",
    ),
    (
        ("Request to ", "Request failed while attempting to contact the server"),
        "the run lost the Prefect server",
        "check the server's health and the network from the pods to it (PREFECT_API_URL, network policies); run again, "
        "it goes on from there",
    ),
    (
        ("No start within",),
        "the run did not start in time, and was given up",
        "`pollen doctor` looks at workers, quotas, Secrets and images; start the run again when that is mended",
    ),
    (
        ("No sign of life",),
        "the run gave no sign of life any more: the node or worker it ran on was lost",
        "run again, it goes on from where it was",
    ),
)


def crash(facts: RunFacts, state: State) -> Finding:
    """Why a run crashed; what Kubernetes said comes before what the state says.

    Args:
        facts: All about the run.
        state: The crash that is meant.
    """
    message = state.message or ""
    if message.startswith(NOT_SUBMITTED):
        return refused_job(message)
    problem = latest_explained(facts, state) or _deadline(facts)
    if problem is not None:
        return problem
    for marks, summary, resolution in CRASHES:
        if any(mark in message for mark in marks):
            return _ABOUT.error(summary, message, resolution)
    return _ABOUT.error(
        f"the run crashed ({state.name})",
        message,
        "run again, it goes on from where it was; report it if it happens again",
    )


def _deadline(facts: RunFacts) -> Finding | None:
    """A run that was ended just when its Job's deadline was over."""
    if facts.pool is None or facts.pool.kind != "kubernetes":
        return None
    seconds = facts.variable("active_deadline_seconds")
    lasted = facts.run.total_run_time.total_seconds()
    if not isinstance(seconds, int) or lasted < seconds - NEAR_DEADLINE_S:
        return None
    return explained(PodProblem(DEADLINE, f"it ran for {lasted:.0f} s"), facts)
