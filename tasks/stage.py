"""Stages: Prefect tasks inside a flow run, plain functions with the same retries outside of one.

On a laptop the story of a flow runs without any Prefect server; in a flow run each stage is a
task with its own state. The retry rule is one and the same: only what can heal is tried again,
after a growing, jittered wait.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import as_completed as threads_completed
from contextvars import copy_context
from functools import partial
from itertools import islice
from typing import Any, Generic, ParamSpec, TypeVar

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

#: Batches under way at once: one in the model, the next one reading ahead.
BATCHES_AT_ONCE = 2


def logger() -> "logging.Logger | logging.LoggerAdapter[Any]":
    """The log of the flow or task run, or the process's own where there is none."""
    if FlowRunContext.get() or TaskRunContext.get():
        return get_run_logger()
    return logging.getLogger("pollen")


class Pool(ThreadPoolExecutor):
    """Threads that know which run they work for: its logger, its settings."""

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """See :class:`concurrent.futures.Executor`."""
        context, call = copy_context(), partial(fn, *args, **kwargs)
        return super().submit(lambda: context.run(call))


def _heals(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Prefect's question whether to try a failed task again."""
    try:
        state.result()
    except Exception as error:  # noqa: BLE001  (whatever the task raised)
        return heals(error)
    return False


def healing(function: Callable[P, R]) -> Callable[P, R]:
    """``function`` with the retry rule of stages, for calls outside of a task's own retries."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        attempts = Retrying(
            stop=stop_after_attempt(RETRIES + 1),
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


class Stage(Generic[P, R]):
    """One retryable step of a story; call it, or run many of it with :meth:`each`."""

    def __init__(self, function: Callable[P, R], run_name: str) -> None:
        self.function = function
        self._alone: Callable[..., R] = healing(function)
        self.task: Task[P, R] = Task(
            function,
            task_run_name=run_name,
            retries=RETRIES,
            retry_delay_seconds=exponential_backoff(FIRST_WAIT_SECONDS),
            retry_jitter_factor=JITTER,
            retry_condition_fn=_heals,
            cache_policy=NO_CACHE,  # records in the bucket say what is done, not Prefect's cache
            persist_result=False,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the stage, as a task where a flow run is under way."""
        if FlowRunContext.get() is None:
            return self._alone(*args, **kwargs)
        return self.task(*args, **kwargs)

    def each(self, calls: Iterable[dict[str, Any]]) -> Iterator[R | Exception]:
        """Run the stage once per entry of keyword arguments, two at a time.

        Calls are begun only as earlier ones end; those not begun are dropped when the caller stops.

        Yields:
            Results in the order of completion; the exception where a call failed for good, so
            that one failure does not stop the others.
        """
        alone = Pool(BATCHES_AT_ONCE, thread_name_prefix="batch")
        in_flow = FlowRunContext.get() is not None
        waiting = iter(calls)
        under_way: list[Any] = []
        try:
            while True:
                for call in islice(waiting, BATCHES_AT_ONCE + 1 - len(under_way)):
                    submit = self.task.submit if in_flow else partial(alone.submit, self._alone)
                    under_way.append(submit(**call))
                if not under_way:
                    return
                done = next(as_completed(under_way) if in_flow else threads_completed(under_way))
                under_way.remove(done)
                yield _result(done)
        except KeyboardInterrupt:
            logger().warning("stopping behind the batches under way; Ctrl-C again stops at once")
            raise
        finally:
            alone.shutdown(cancel_futures=True)
            if in_flow:
                wait(under_way)


def _result(future: Any) -> Any:  # noqa: ANN401  (one of Prefect's futures, or a thread's)
    """What a call returned, or the exception it failed with."""
    if isinstance(future, Future):
        error = future.exception()
        if error is not None and not isinstance(error, Exception):
            raise error
        return error or future.result()
    return future.result(raise_on_failure=False)


def stage(run_name: str) -> Callable[[Callable[P, R]], Stage[P, R]]:
    """Make a function a stage; ``run_name`` is what the Prefect UI shows, ``{parameters}`` filled in."""

    def decorate(function: Callable[P, R]) -> Stage[P, R]:
        return Stage(function, run_name)

    return decorate
