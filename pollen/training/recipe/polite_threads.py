"""How many threads a training in the background should use just now."""

import os
from pathlib import Path
from typing import Final

from pollen.detection.threads import threads_allowed

LOAD_FILE: Final = Path("/proc/loadavg")


class PoliteThreads:
    """Counts who else wants the processor and leaves them their cores.

    Threads of one computation wait for each other. When one of them shares its core with a process
    of higher priority all wait for that one: with the machine half busy, one thread is then several
    times faster than two.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores or threads_allowed() or len(os.sched_getaffinity(0))
        self.others = 0.0
        self.threads = self.cores

    def advise(self) -> int:
        """Threads for the next step: the cores that nobody else used lately, at least one."""
        self.others = 0.8 * self.others + 0.2 * max(runnable() - 1, 0)
        self.threads = max(1, min(self.cores, round(self.cores - self.others)))
        return self.threads


def runnable() -> int:
    """Processes and threads that run or wait for a core now; 1 where the system does not tell."""
    try:
        return int(LOAD_FILE.read_text(encoding="ascii").split()[3].split("/")[0])
    except (OSError, ValueError, IndexError):
        return 1
