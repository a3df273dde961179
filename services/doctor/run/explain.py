"""Explain the state of one flow run and name the remedy: pure functions of the gathered facts."""

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

#: Time that a run may wait for its pod or worker before that is a warning.
LONGEST_START: Final = timedelta(minutes=5)
#: Time without a heartbeat before that is a warning; runs send one every three minutes.
LONGEST_SILENCE: Final = timedelta(minutes=10)
#: Failed pictures and log lines that are shown.
SHOWN_IMAGES: Final = 20
SHOWN_LINES: Final = 8

_ABOUT = About(Category.RUN)

LIMIT_REACHED: Final = "Deployment concurrency limit reached."
NO_GPU: Final = "no usable NVIDIA GPU"
NOT_STARTED: Final = "No start within"
ONE_AT_A_TIME: Final = "this run waits for the end of it"


def explain(facts: RunFacts) -> list[Finding]:
    """Explain the state of a run, and add what else a person should know about it."""
    found = [_MAIN[facts.state.type](facts)]
    if facts.failed_images:
        found.append(_failed_images(facts))
    if facts.crashes and not (facts.state.is_crashed() or facts.is_restarting):
        found.append(_earlier_crash(facts))
    if facts.state.is_failed() or facts.state.is_crashed():
        lines = _lines(facts)
        if lines:
            found.append(_ABOUT.info("the last warnings and errors in its log", lines))
    return found


def _completed(facts: RunFacts) -> Finding:
    state = facts.state
    if state.name == Outcome.NO_IMAGES:
        return _ABOUT.error(
            "there were no pictures to count (NoImages)",
            state.message or "",
            f"the run looked in {_place(facts)}{INPUTS}: upload pictures there, or start it with the right prefix; "
            "`pollen doctor` checks the storage",
        )
    if state.name == Outcome.WITH_FAILURES:
        return _ABOUT.warning(
            "done, but some pictures could not be counted (CompletedWithFailures)",
            state.message or "",
            "read the reasons: after temporary failures (storage, memory) the next run tries again; a picture that "
            "can't be read must be replaced",
        )
    if state.name == TrainingOutcome.NOT_PROMOTED:
        return _ABOUT.warning(
            "the new model was published, but the gate did not promote it to production (NotPromoted)",
            state.message or "",
            "read its evaluation; to use the model anyway: `pollen models promote VERSION`",
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
            "the run found no usable GPU (CUDA)",
            message,
            "check that the pool requests a GPU (gpu_count, gpu_resource) and that the node's driver works (nvidia-smi "
            "in a pod), or start with `--set device=cpu`",
        )
    if facts.state.name == "TimedOut":
        return _ABOUT.error("the run exceeded its time limit (TimedOut)", message, "run it again")
    if message.startswith(NOT_STARTED):
        return _with_message(crash(facts, facts.state), facts)
    return _ABOUT.error(
        f"the run failed ({facts.state.name})",
        message,
        "the message names the remedy; then start the run again. What was done is kept",
    )


def _restarting(facts: RunFacts) -> Finding:
    """Explain a run that our automations will start again; its state does not name the cause."""
    cause = crash(facts, facts.crashes[-1]) if facts.crashes else None
    why = f": {cause.summary}" if cause else ""
    return _ABOUT.warning(
        f"it crashed and will start again automatically{why}",
        "\n".join(part for part in (cause.detail if cause else "", facts.message) if part),
        f"wait; if it crashes again: {cause.resolution}" if cause else "wait",
    )


def _crashed(facts: RunFacts) -> Finding:
    found = crash(facts, facts.state)
    if not facts.ran:
        return _with_message(found, facts, "crashed before it ran: ")
    return _with_message(found, facts)


def _cancelled(facts: RunFacts) -> Finding:
    message = facts.message
    if LIMIT_REACHED in message:
        others = ", ".join(facts.holders) or "another run"
        return _ABOUT.warning(
            "cancelled: another run of this deployment was active, and only one may be at a time",
            f"{message} Active now: {others}",
            "wait for the other run; nothing is lost, it or the next run counts the new pictures",
        )
    problem = latest_explained(facts)
    if problem is not None and not facts.ran:
        return _with_message(
            problem, facts, f"{(facts.state.name or '').lower()} while it waited to start: "
        )
    if facts.state.type is StateType.CANCELLING:
        return _ABOUT.info(
            "it is being cancelled",
            message,
            "this can take some minutes (five if its pod has not started)",
        )
    return _ABOUT.warning(
        "it was cancelled",
        message,
        "what was done is kept: start it again to continue",
    )


def _scheduled(facts: RunFacts) -> Finding:
    state = facts.state
    if state.name == "AwaitingConcurrencySlot":
        others = ", ".join(facts.holders) or "none any more; the run asks again every 30 s"
        return _ABOUT.info(
            "it waits because another run of this deployment is active, and only one may be at a time",
            f"active: {others}",
            "wait for the other run, or find out why it takes long: pollen doctor NAME",
        )
    due = state.state_details.scheduled_time
    if due is not None and due > facts.at:
        return _ABOUT.info(f"it will start at {due:%Y-%m-%d %H:%M UTC}", state.message or "")
    return _not_taken(facts)


def _not_taken(facts: RunFacts) -> Finding:
    """Explain why no worker takes a run that is due."""
    pool = facts.pool
    if pool is None:
        return _ABOUT.error(
            "no worker will start this run: it has no work pool, or its pool was deleted",
            resolution=f"run `pollen setup`, then {DEPLOY}; then start a new run",
        )
    if pool.paused:
        return _ABOUT.error(
            f"work pool '{pool.name}' is paused",
            resolution=f"prefect work-pool resume {pool.name}",
        )
    if not pool.online:
        seen = f"{pool.known} were online before" if pool.known else "none was ever online"
        return _ABOUT.error(
            f"no worker is online for work pool '{pool.name}': the run waits for one",
            f"of its workers, {seen}",
            start_worker(pool.name, pool.kind),
        )
    waited = facts.since(facts.state.state_details.scheduled_time)
    detail = f"{pool.online} workers online for pool '{pool.name}'; due {_spell(waited)} ago"
    if pool.limit is not None:
        detail += f"; the pool allows at most {pool.limit} runs at once"
    if waited < LONGEST_START:
        return _ABOUT.info("a worker will start it within seconds", detail)
    return _ABOUT.warning(
        "workers are online, but none starts the run",
        detail,
        "the pool or its work queue may have reached its limit, or the queue is paused: prefect work-pool inspect "
        f"{pool.name}; the worker's log names the reason",
    )


def _pending(facts: RunFacts) -> Finding:
    problem = latest_explained(facts)
    if problem is not None:
        return _with_message(problem, facts)
    waited = facts.since(facts.state.timestamp)
    detail = f"{facts.state.name} for {_spell(waited)}. {facts.message}".strip()
    if waited < LONGEST_START:
        return _ABOUT.info("it is starting", detail)
    if facts.pool is not None and not facts.pool.online:
        return _ABOUT.error(
            f"its worker is gone: none is online for work pool '{facts.pool.name}'",
            detail,
            f"{start_worker(facts.pool.name, facts.pool.kind)}; the recovery automations end the run; then start it "
            "again",
        )
    return _ABOUT.warning(
        "its pod or process does not start",
        detail,
        "pulling a large image takes minutes; otherwise kubectl get jobs,pods and kubectl describe pod show the cause, "
        "as does `pollen doctor RUN` with a kubeconfig. The recovery automations end runs that wait too long",
    )


def _running(facts: RunFacts) -> Finding:
    took = _spell(facts.since(facts.run.start_time))
    detail = ". ".join(part for part in (f"running for {took}", facts.progress) if part)
    if facts.pods == 0 and facts.pool is not None and facts.pool.kind == "kubernetes":
        gone = latest_explained(facts)
        return _ABOUT.error(
            "Prefect shows it as running, but it has no pod any more",
            gone.summary if gone else detail,
            "the worker did not notice that the pod ended: check that "
            "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES is set on the "
            "worker. The automation 'no sign of life' ends the run; then run it again",
        )
    silent = facts.since(facts.sign_of_life)
    if silent > LONGEST_SILENCE:
        return _ABOUT.warning(
            f"no heartbeat for {_spell(silent)}",
            detail,
            "its machine, its node or the network may be lost; the automation 'no sign of life' ends such runs",
        )
    if facts.logs and ONE_AT_A_TIME in facts.logs[-1].text:
        return _ABOUT.info("it waits for its turn: one run per root at a time", facts.logs[-1].text)
    return _ABOUT.ok("it is running", detail)


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


def _with_message(finding: Finding, facts: RunFacts, before: str = "") -> Finding:
    """Add the message of the run's state to the detail of a finding."""
    parts = [part for part in (finding.detail, facts.message) if part]
    detail = "\n".join(dict.fromkeys(parts))
    return Finding(
        finding.level, finding.category, before + finding.summary, detail, finding.resolution
    )


def _earlier_crash(facts: RunFacts) -> Finding:
    """Explain the crash before a run was started again."""
    number = len(facts.crashes)
    times = "once" if number == 1 else f"{number} times"
    last = crash(facts, facts.crashes[-1])
    detail = "\n".join(part for part in (last.summary, facts.crashes[-1].message or "") if part)
    level = _ABOUT.info if facts.state.is_completed() else _ABOUT.warning
    resolution = "nothing, unless it crashes again: it continues from where it was"
    if facts.state.is_final():
        resolution = "" if facts.state.is_completed() else last.resolution
    return level(f"it crashed {times} before and was started again", detail, resolution)


def _failed_images(facts: RunFacts) -> Finding:
    rows = facts.failed_images[:SHOWN_IMAGES]
    number = max(facts.failed_total, len(facts.failed_images))
    more = number - len(rows)
    lines = [f"{name}: {reason}" for name, reason in rows]
    if more:
        lines.append(f"... and {more} more in pollen_counts.csv")
    return _ABOUT.warning(
        f"{number} pictures could not be counted"
        if number > 1
        else "1 picture could not be counted",
        "\n".join(lines),
        "replace the pictures that can't be read; the next run tries the others again",
    )


def _lines(facts: RunFacts) -> str:
    serious = [line.text for line in facts.logs if line.level >= logging.WARNING]
    return "\n".join(serious[-SHOWN_LINES:])


def _place(facts: RunFacts) -> str:
    """Describe the root of a run, as far as its parameters name it."""
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
