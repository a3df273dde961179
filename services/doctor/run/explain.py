"""Why one flow run is where it is, and the way out: pure functions of what was gathered."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from prefect.client.schemas.objects import StateType

from pollen.layout import INPUTS
from services.doctor.checking import About
from services.doctor.checks.workers import start_worker
from services.doctor.finding import Category, Finding
from services.doctor.run.crashes import crash
from services.doctor.run.facts import RunFacts
from services.doctor.run.pod_failures import latest_explained
from tasks.cluster.deploy_hint import DEPLOY
from tasks.detection.summary import Outcome
from tasks.training.release import TrainingOutcome

#: How long a run may wait for its pod or worker before that is a warning.
PATIENCE: Final = timedelta(minutes=5)
#: Runs send a heartbeat every three minutes.
SILENCE: Final = timedelta(minutes=10)
#: Failed images and log lines that are shown.
SHOWN_IMAGES: Final = 20
SHOWN_LINES: Final = 8

_ABOUT = About(Category.RUN)

LIMIT_REACHED: Final = "Deployment concurrency limit reached."
NO_GPU: Final = "no usable NVIDIA GPU"
NOT_STARTED: Final = "No start within"
ONE_AT_A_TIME: Final = "this run waits for the end of it"


def explain(facts: RunFacts) -> list[Finding]:
    """What became of a run, and what else a person should know of it."""
    found = [_MAIN[facts.state.type](facts)]
    if facts.failed_images:
        found.append(_failed_images(facts))
    if facts.crashes and not (facts.state.is_crashed() or facts.is_restarting):
        found.append(_earlier_crash(facts))
    if facts.state.is_failed() or facts.state.is_crashed():
        lines = _lines(facts)
        if lines:
            found.append(_ABOUT.info("the last warnings and errors of its log", lines))
    return found


def _completed(facts: RunFacts) -> Finding:
    state = facts.state
    if state.name == Outcome.NO_IMAGES:
        return _ABOUT.error(
            "there was nothing to count: no pictures where the run looked (NoImages)",
            state.message or "",
            f"it looked below {_place(facts)}{INPUTS}: upload pictures there, or start it with the right prefix; "
            "`pollen doctor` looks into the storage",
        )
    if state.name == Outcome.WITH_FAILURES:
        return _ABOUT.warning(
            "done, but some images could not be counted (CompletedWithFailures)",
            state.message or "",
            "read their reasons: what may pass (storage, memory) the next run tries again by itself; a picture that "
            "can't be read must be replaced",
        )
    if state.name == TrainingOutcome.NOT_PROMOTED:
        return _ABOUT.warning(
            "the new model was published, but the gate did not let it into production (NotPromoted)",
            state.message or "",
            "look at its evaluation; to use it all the same: `pollen models promote VERSION`",
        )
    if state.name == Outcome.NOTHING_NEW:
        return _ABOUT.ok("done: there was nothing new to do (NothingNew)", state.message or "")
    return _ABOUT.ok(f"done ({state.name})", state.message or "")


def _failed(facts: RunFacts) -> Finding:
    message = facts.message
    if facts.is_restarting:
        return _restarting(facts)
    if NO_GPU in message:
        return _ABOUT.error(
            "the run found no GPU that it can use (CUDA)",
            message,
            "check that the pool asks for a GPU (gpu_count, gpu_resource) and the node's driver works (nvidia-smi in a "
            "pod), or start with `--set device=cpu`",
        )
    if facts.state.name == "TimedOut":
        return _ABOUT.error("the run took longer than it may (TimedOut)", message, "run it again")
    if message.startswith(NOT_STARTED):
        return _told(crash(facts, facts.state), facts)
    return _ABOUT.error(
        f"the run failed ({facts.state.name})",
        message,
        "the message names the remedy; when it is done, start the run again. What was counted before is kept",
    )


def _restarting(facts: RunFacts) -> Finding:
    """A run that our automations start again; its state says nothing of the cause."""
    cause = crash(facts, facts.crashes[-1]) if facts.crashes else None
    why = f": {cause.summary}" if cause else ""
    return _ABOUT.warning(
        f"it crashed and is about to be started again by itself{why}",
        "\n".join(part for part in (cause.detail if cause else "", facts.message) if part),
        f"wait; if it crashes again: {cause.resolution}" if cause else "wait",
    )


def _crashed(facts: RunFacts) -> Finding:
    found = crash(facts, facts.state)
    if not facts.ran:
        return _told(found, facts, "crashed before it ran: ")
    return _told(found, facts)


def _cancelled(facts: RunFacts) -> Finding:
    message = facts.message
    if LIMIT_REACHED in message:
        others = ", ".join(facts.holders) or "another run"
        return _ABOUT.warning(
            "cancelled: another run of this deployment was under way, and only one may be",
            f"{message} Under way now: {others}",
            "wait for the other one; nothing is lost, it or the next one counts what is new",
        )
    problem = latest_explained(facts)
    if problem is not None and not facts.ran:
        return _told(
            problem, facts, f"{(facts.state.name or '').lower()} while it waited for its start: "
        )
    if facts.state.type is StateType.CANCELLING:
        return _ABOUT.info(
            "it is being cancelled",
            message,
            "this can take some minutes (a pod that has not started: five)",
        )
    return _ABOUT.warning(
        "it was cancelled",
        message,
        "what was done is kept: start it again to go on from there",
    )


def _scheduled(facts: RunFacts) -> Finding:
    state = facts.state
    if state.name == "AwaitingConcurrencySlot":
        others = (
            ", ".join(facts.holders) or "none that is still there: it is asked again every 30 s"
        )
        return _ABOUT.info(
            "it waits because another run of this deployment is under way, and only one may be",
            f"under way: {others}",
            "wait for the other one, or see what keeps it: pollen doctor NAME",
        )
    due = state.state_details.scheduled_time
    if due is not None and due > facts.at:
        return _ABOUT.info(f"it is to start at {due:%Y-%m-%d %H:%M UTC}", state.message or "")
    return _not_taken(facts)


def _not_taken(facts: RunFacts) -> Finding:
    """A run whose time has come, and nobody takes it."""
    pool = facts.pool
    if pool is None:
        return _ABOUT.error(
            "nobody will start this run: it has no work pool, or the pool is gone",
            resolution=f"run `pollen setup`, then {DEPLOY}; then start it anew",
        )
    if pool.paused:
        return _ABOUT.error(
            f"work pool '{pool.name}' is paused",
            resolution=f"prefect work-pool resume {pool.name}",
        )
    if not pool.online:
        seen = "none ever was" if not pool.known else f"{pool.known} were there before"
        return _ABOUT.error(
            f"no worker is online for work pool '{pool.name}': the run waits for one",
            f"of its workers {seen}" if pool.known else seen,
            start_worker(pool.name, pool.kind),
        )
    waited = facts.since(facts.state.state_details.scheduled_time)
    detail = f"{pool.online} online for pool '{pool.name}'; due {_spell(waited)} ago"
    if pool.limit is not None:
        detail += f"; the pool starts at most {pool.limit} runs at once"
    if waited < PATIENCE:
        return _ABOUT.info("a worker will take it within some seconds", detail)
    return _ABOUT.warning(
        "workers are online, but none takes the run",
        detail,
        "the limit of the pool or of its work queue may be reached, or the queue paused: prefect work-pool inspect "
        f"{pool.name}; the worker's log says why it takes no more",
    )


def _pending(facts: RunFacts) -> Finding:
    problem = latest_explained(facts)
    if problem is not None:
        return _told(problem, facts)
    waited = facts.since(facts.state.timestamp)
    detail = f"{facts.state.name} for {_spell(waited)}. {facts.message}".strip()
    if waited < PATIENCE:
        return _ABOUT.info("it is being started", detail)
    if facts.pool is not None and not facts.pool.online:
        return _ABOUT.error(
            f"the worker that took it is gone: none is online for work pool '{facts.pool.name}'",
            detail,
            f"{start_worker(facts.pool.name, facts.pool.kind)}; the recovery automations end the run, then start it "
            "again",
        )
    return _ABOUT.warning(
        "its pod or process does not come",
        detail,
        "a large image takes minutes to pull; else kubectl get jobs,pods and kubectl describe pod say why, or "
        "`pollen doctor RUN` where there is a kubeconfig. The recovery automations end runs that wait too long",
    )


def _running(facts: RunFacts) -> Finding:
    took = _spell(facts.since(facts.run.start_time))
    detail = ". ".join(part for part in (f"running for {took}", facts.progress) if part)
    if facts.pods == 0 and facts.pool is not None and facts.pool.kind == "kubernetes":
        gone = latest_explained(facts)
        return _ABOUT.error(
            "Prefect takes it for running, but it has no pod any more",
            gone.summary if gone else detail,
            "the worker did not see its end: is PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES set on the worker? "
            "The automation 'no sign of life' ends it; run it again",
        )
    silent = facts.since(facts.sign_of_life)
    if silent > SILENCE:
        return _ABOUT.warning(
            f"no sign of life for {_spell(silent)}",
            detail,
            "its machine or node may be lost, or the network between; the automation 'no sign of life' ends such runs",
        )
    if facts.logs and ONE_AT_A_TIME in facts.logs[-1].text:
        return _ABOUT.info("it waits for its turn: one run per root at a time", facts.logs[-1].text)
    return _ABOUT.ok("it is at work", detail)


def _paused(facts: RunFacts) -> Finding:
    return _ABOUT.warning(
        f"it is paused ({facts.state.name})", facts.message, "resume it in the Prefect UI"
    )


_MAIN: Final[dict[StateType, Callable[[RunFacts], Finding]]] = {
    StateType.COMPLETED: _completed,
    StateType.FAILED: _failed,
    StateType.CRASHED: _crashed,
    StateType.CANCELLED: _cancelled,
    StateType.CANCELLING: _cancelled,
    StateType.SCHEDULED: _scheduled,
    StateType.PENDING: _pending,
    StateType.RUNNING: _running,
    StateType.PAUSED: _paused,
}


def _told(finding: Finding, facts: RunFacts, before: str = "") -> Finding:
    """A finding whose detail also has what the run's state says."""
    said = [part for part in (finding.detail, facts.message) if part]
    detail = "\n".join(dict.fromkeys(said))
    return Finding(
        finding.level, finding.category, before + finding.summary, detail, finding.resolution
    )


def _earlier_crash(facts: RunFacts) -> Finding:
    """What happened before a run was started again."""
    number = len(facts.crashes)
    times = "once" if number == 1 else f"{number} times"
    last = crash(facts, facts.crashes[-1])
    detail = "\n".join(part for part in (last.summary, facts.crashes[-1].message or "") if part)
    told = _ABOUT.info if facts.state.is_completed() else _ABOUT.warning
    resolution = "nothing, unless it crashes again: it goes on from where it was"
    if facts.state.is_final():
        resolution = "" if facts.state.is_completed() else last.resolution
    return told(f"it crashed {times} before and was started again", detail, resolution)


def _failed_images(facts: RunFacts) -> Finding:
    rows = facts.failed_images[:SHOWN_IMAGES]
    number = max(facts.failed_total, len(facts.failed_images))
    more = number - len(rows)
    lines = [f"{name}: {reason}" for name, reason in rows]
    if more:
        lines.append(f"... and {more} more in pollen_counts.csv")
    return _ABOUT.warning(
        f"{number} images could not be counted" if number > 1 else "1 image could not be counted",
        "\n".join(lines),
        "mend or replace the pictures that can't be read; the others are tried again by the next run",
    )


def _lines(facts: RunFacts) -> str:
    told = [line.text for line in facts.logs if line.level >= logging.WARNING]
    return "\n".join(told[-SHOWN_LINES:])


def _place(facts: RunFacts) -> str:
    """Where a run looked, from its parameters, as far as they say."""
    given = facts.run.parameters
    place = given.get("bucket")
    if not isinstance(place, str):
        return ""
    prefix = given.get("prefix")
    return f"block '{place}', " + (f"{str(prefix).strip('/')}/" if prefix else "")


def _spell(time: timedelta) -> str:
    minutes = time.total_seconds() / 60
    if minutes < 1:
        return f"{max(time.total_seconds(), 0):.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h"
