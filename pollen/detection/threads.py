"""The number of threads to compute with, if a container may use fewer processors than its machine has.

The CPU limit of a pod is a quota of time per period. Libraries do not see it and start one thread per
core: on a node with 64 cores they use up the quota in an instant, and then all wait for the next
period. They do see the cores that a process is bound to.
"""

import os
from pathlib import Path
from typing import Any, Final

#: Where Linux keeps the limits of groups of processes; a container sees its own there.
CGROUPS: Final = Path("/sys/fs/cgroup")


def threads_allowed() -> int | None:
    """Return the number of whole processors in the quota, at least 1; None if it does not limit the cores."""
    quota = cpu_quota(CGROUPS)
    if quota is None:
        return None
    threads = max(1, int(quota))
    return threads if threads < _cores() else None


def cpu_quota(cgroups: Path) -> float | None:
    """Return the number of processors whose time a container may use; None if it is not limited.

    Args:
        cgroups: The folder with the limits, in the form of cgroup version 2 or 1.
    """
    try:
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:  # another system, or a machine without limits
            return None
    try:
        processors = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return processors if processors > 0 else None


def keep_to_quota(torch: Any = None) -> int | None:  # noqa: ANN401  (a module)
    """Let OpenCV, and PyTorch if it is given, use no more threads than the container may.

    Returns:
        The number, for libraries that are set up elsewhere; None: no limit.
    """
    threads = threads_allowed()
    if threads is not None:
        import cv2

        cv2.setNumThreads(threads)
        if torch is not None:
            torch.set_num_threads(threads)
    return threads


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
