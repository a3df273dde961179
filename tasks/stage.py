"""Stages: Prefect tasks that also run outside of a flow run, with the same retry rule and no server.

On a laptop the story of a flow runs without a Prefect server; in a flow run each stage is a task
run with a state of its own. Either way only errors that may heal are retried, after a growing,
jittered wait.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from contextvars import copy_context
from copy import copy
from functools import partial
from itertools import islice
from typing import Any, ParamSpec, TypeVar

from prefect import Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import as_completed, wait
from prefect.tasks import exponential_backoff
from tenacity import (
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from pollen.errors import heals

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 3
FIRST_WAIT_SECONDS = 1
JITTER = 0.5

#: Batches that run at once: one in the model, the next one reading ahead.
BATCHES_AT_ONCE = 2


def logger() -> "logging.Logger | logging.LoggerAdapter[Any]":
    """Return the logger of the present flow or task run, or the process's own outside of one."""
    if FlowRunContext.get() or TaskRunContext.get():
        return get_run_logger()
    return logging.getLogger("pollen")


class Pool(ThreadPoolExecutor):
    """Threads that know which run they work for: its logger, its settings."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """See `concurrent.futures.Executor`."""
        context, call = copy_context(), partial(fn, *args, **kwargs)
        return super().submit(lambda: context.run(call))


def _heals(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Answer Prefect's question whether to retry a failed task."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001  (whatever the task raised)
        return heals(error)
    return False


def healing(function: Callable[P, R], retries: int = RETRIES) -> Callable[P, R]:
    """Return `function` with the retry rule of stages, for calls outside of a task's own retries."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        attempts = Retrying(
            stop=stop_after_attempt(retries + 1),
            wait=wait_exponential(multiplier=FIRST_WAIT_SECONDS) + wait_random(0, JITTER),
            retry=retry_if_exception(heals),
            reraise=True,
            before_sleep=lambda state: logger().warning(
                "%s; trying again in %.0f s",
                state.outcome.exception() if state.outcome else "failed",
                state.next_action.sleep if state.next_action else 0,
            ),
        )
        return attempts(function, *args, **kwargs)

    return call


class Stage(Task[P, R]):
    """One retryable step of a story: a Prefect task that can be called outside of a flow run, too.

    There the call needs no server and has no state; the retry rule is the same. Many calls of one
    stage are run with `each`. Everything else is what `prefect.Task` makes of it.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]  # narrower
        """Run the stage, as a task run if a flow run is under way or a state is asked for."""
        if FlowRunContext.get() or kwargs.keys() & {"return_state", "wait_for"}:
            return super().__call__(*args, **kwargs)
        return healing(self.fn, self.retries)(*args, **kwargs)

    def with_options(self, **options: Any) -> "Stage[P, R]":  # noqa: ANN401  (Prefect's options)
        """Return a stage with other options; see `prefect.Task.with_options`."""
        changed = copy(self)
        vars(changed).update(vars(super().with_options(**options)))  # Prefect makes a plain Task
        return changed

    def each(self, calls: Iterable[dict[str, Any]]) -> Iterator[R | Exception]:
        """Run the stage once for each set of keyword arguments, two at a time.

        Calls start only as earlier ones end; if the caller stops, those that have not started are
        dropped.

        Yields:
            Results in the order of completion; for a call that failed for good its exception, so
            that one failure does not stop the others.
        """
        alone = Pool(BATCHES_AT_ONCE, thread_name_prefix="batch")
        in_flow = FlowRunContext.get() is not None
        one_call: Callable[..., R] = self
        submit: Callable[..., Any] = self.submit if in_flow else partial(alone.submit, one_call)
        waiting = iter(calls)
        running: list[Any] = []
        try:
            while True:
                more = islice(waiting, BATCHES_AT_ONCE + 1 - len(running))
                running.extend(submit(**call) for call in more)
                if not running:
                    return
                done = next(as_completed(running) if in_flow else threads_completed(running))
                running.remove(done)
                yield _result(done)
        except KeyboardInterrupt:
            logger().warning(
                "stopping after the current batches; press Ctrl-C again to stop at once"
            )
            raise
        finally:
            alone.shutdown(cancel_futures=True)
            if in_flow:
                wait(running)


def _result(future: Any) -> Any:  # noqa: ANN401  (one of Prefect's futures, or a thread's)
    """Return what a call returned, or the exception it failed with."""
    if isinstance(future, Future):
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        return error or future.result()
    return future.result(raise_on_failure=False)


def stage(run_name: str) -> Callable[[Callable[P, R]], Stage[P, R]]:
    """Make a function a stage; `run_name` is what the Prefect UI shows, `{parameters}` filled in."""

    def decorate(function: Callable[P, R]) -> Stage[P, R]:
        return Stage(
            function,
            task_run_name=run_name,
            retries=RETRIES,
            retry_delay_seconds=exponential_backoff(FIRST_WAIT_SECONDS),
            retry_jitter_factor=JITTER,
            retry_condition_fn=_heals,
            cache_policy=NO_CACHE,  # records in the bucket say what is done, not Prefect's cache
            persist_result=False,
        )

    return decorate
