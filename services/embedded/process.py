"""A child process that is stopped properly and can't outlive its owner."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from services.embedded import supervisor

_LOG_TAIL_LINES = 20
#: Time for a killed process to release its memory, files and ports.
_KILL_S = 5.0


class SupervisedProcess:
    """A command running under the supervisor, in a process group and session of its own.

    The separate session keeps a Ctrl-C in the terminal away from it: the owner decides when it stops.

    Args:
        command: Program and arguments, without secrets, because other users of the machine can see them.
        environment: The whole environment of the command.
        folder: Working directory.
        log_path: File to which the output of the command is appended.
        grace_s: Seconds between the request to stop and the kill.
        litter: Paths to remove if the owner dies without stopping the process.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log_path: Path,
        grace_s: float = 10.0,
        litter: Sequence[Path] = (),
    ) -> None:
        self._log_path = log_path
        self._grace_s = grace_s
        script = [sys.executable, "-I", "-S", supervisor.__file__]
        arguments = [str(os.getpid()), str(grace_s), os.pathsep.join(map(str, litter)), *command]
        with log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                [*script, *arguments],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the supervisor, which is also the id of the process group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command; None while it runs."""
        return self._popen.poll()

    def stop(self) -> None:
        """Ask the command to stop, wait for it, and kill what is left after `grace_s`."""
        self._signal(signal.SIGTERM)
        try:
            self._popen.wait(timeout=self._grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            self._kill_group()

    def kill(self) -> None:
        """Kill the command and its children at once, as a crash would."""
        self._signal(signal.SIGUSR1)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout=_KILL_S)
        self._kill_group()

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def _kill_group(self) -> None:
        """Kill what is left of the process group: children of the command, or a stuck supervisor."""
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def log_tail(self) -> str:
        """Return the last lines of the command's output, for error messages."""
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])
