"""Runs a command no longer than the process that asked for it lives.

It is a script that imports only the standard library, so that it costs about 30 ms and 10 MB:

    python -I -S supervisor.py PARENT_PID GRACE_S LITTER COMMAND...

A parent that is killed with SIGKILL can't stop its servers, so this process does. It recognises the
death of its parent by its parent process id, which then changes on every POSIX system. (Linux could
signal the server directly, but its "parent death signal" is sent when the *thread* that started the
server ends. So it is only used one level down, where there is one thread.)

LITTER are paths, separated by colons, to remove after a parent that died without cleaning up.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.25


def _death_signal_setter() -> Callable[[], None] | None:
    """Return a function for the new child, which makes it die with the supervisor (Linux only)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)  # loaded before the fork, because nothing may be allocated after it

    def set_death_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return set_death_signal


def _stop(child: "subprocess.Popen[bytes]", grace_s: float) -> None:
    child.terminate()
    try:
        child.wait(timeout=grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.unlink(path)  # noqa: PTH108 - pathlib takes longer to import than all the rest


def supervise(parent_pid: int, grace_s: float, litter: list[str], command: list[str]) -> int:
    """Run the command until it ends or the parent is gone.

    SIGTERM is passed on to the command; SIGUSR1 kills it. In both cases this process waits for it, so
    that its ports and files are free when this process has ended.

    Returns:
        The exit code of the command (negative: the signal that ended it), or 1 if the parent is gone.
    """
    child: subprocess.Popen[bytes] | None = None
    wanted: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        wanted.append(signal.SIGKILL if number == signal.SIGUSR1 else signal.SIGTERM)
        if child:
            child.send_signal(wanted[-1])

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGUSR1, pass_on)
    child = subprocess.Popen(command, preexec_fn=_death_signal_setter())  # noqa: PLW1509 - one thread
    for number in wanted:  # signals that arrived before there was a child
        child.send_signal(number)
    while True:
        try:
            return child.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            if os.getppid() == parent_pid:
                continue
        _stop(child, grace_s)
        for path in litter:
            _remove(path)
        return 1


if __name__ == "__main__":
    _, pid, seconds, paths, *rest = sys.argv
    sys.exit(supervise(int(pid), float(seconds), list(filter(None, paths.split(os.pathsep))), rest))
