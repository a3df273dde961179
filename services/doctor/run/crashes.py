"""Explain why a run crashed: by the problems of its pod, or by the state that Prefect gave it."""

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

#: Seconds before its deadline from which a crash is attributed to the deadline.
NEAR_DEADLINE_S: Final = 120

_ABOUT = About(Category.RUN)

#: Parts of the messages of crashed states (by Prefect, the Kubernetes worker's observer and our
#: automations), their meaning, and the remedy.
CRASHES: Final = (
    (
        ("status code: -9.", "status code: 137.", "status code: 247."),
        "the run's process was killed (SIGKILL), most often because of too little memory",
        "raise memory_limit in the pool's variables (on a machine: add memory), or start with lower settings (detect: "
        "memory_megapixels, batch_images; train: batch); what was done is kept",
    ),
    (
        (
            "status code: -15.",
            "status code: 143.",
            "Execution was aborted by a termination signal.",
        ),
        "the run was terminated (SIGTERM): its pod was evicted, its node drained, its Job deleted or past its "
        "deadline, or its worker stopped",
        "what was done is kept: run again to continue. If it happens often, ask the cluster's administrators what "
        "ends the pods",
    ),
    (
        ("Kubernetes job was deleted",),
        "the run's Job in Kubernetes was deleted",
        "what was done is kept: run again to continue",
    ),
    (
        ("No active or succeeded pods found for any job",),
        "the run's pod ended without an error message",
        "its container did not start properly, or it was lost with its node: read the log below, and soon after a "
        "crash kubectl describe pod; run again",
    ),
    (
        ("Request to ", "Request failed while attempting to contact the server"),
        "the run lost its connection to the Prefect server",
        "check the server's health and the network from the pods to it (PREFECT_API_URL, network policies). What was "
        "done is kept: run again to continue",
    ),
    (
        ("No start within",),
        "the run did not start in time and was ended",
        "`pollen doctor` checks workers, quotas, Secrets and images; fix the cause, then start the run again",
    ),
    (
        ("No sign of life",),
        "the run sent no heartbeat any more: its node or worker was lost",
        "what was done is kept: run again to continue",
    ),
)


def crash(facts: RunFacts, state: State) -> Finding:
    """Explain a crash, by what Kubernetes reports or else by the message of the state.

    Args:
        facts: Facts about the run.
        state: State of the crash.
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
        "what was done is kept: run again to continue; report it if it happens again",
    )


def _deadline(facts: RunFacts) -> Finding | None:
    """Explain a run that ended just when its Job's deadline was over."""
    if facts.pool is None or facts.pool.kind != "kubernetes":
        return None
    seconds = facts.variable("active_deadline_seconds")
    lasted = facts.run.total_run_time.total_seconds()
    if not isinstance(seconds, int) or lasted < seconds - NEAR_DEADLINE_S:
        return None
    return explained(PodProblem(DEADLINE, f"it ran for {lasted:.0f} s"), facts)
