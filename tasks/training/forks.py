"""Processes that are forked from a flow run, such as those in which PyTorch prepares pictures."""

import functools
import os
import threading


@functools.cache
def drop_exit_hooks_in_forks() -> None:
    """Keep forked processes from ending what only their parent can end.

    Prefect sends the rest of the log when its process ends. A fork inherits this order without the threads that could
    carry it out, fails at it, and ends with exit code 1 although its work is done; PyTorch then takes its data loader
    for dead and the training breaks off (Prefect 3.8, `_QueueServiceBase._drain`).
    """
    os.register_at_fork(after_in_child=_forget_prefects_exits)


def _forget_prefects_exits() -> None:
    exits = getattr(threading, "_threading_atexits", [])
    exits[:] = [each for each in exits if not _is_prefects(each)]


def _is_prefects(exit_call: object) -> bool:
    call = getattr(exit_call, "func", exit_call)  # Python keeps them as partials
    return type(getattr(call, "__self__", None)).__module__.startswith("prefect.")
