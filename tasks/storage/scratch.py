"""Scratch folders and unfinished files, which the next run removes if a process was killed.

Their names say who made them: a short hash of the machine's name and the number of the process.
Once that process of this machine has ended, they are of no use. They are kept for a day all the
same: containers may share the name of their machine and not see each other's processes.
"""

import hashlib
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tasks.stage import logger

KEPT_SECONDS = 24 * 3600
UNFINISHED = ".unfinished-"
_SCRATCH = "pollen-"
_OWNER = re.compile(r"-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-[^-]+$")


def owned(prefix: str) -> str:
    """Return `prefix` with the mark of this process, for the functions of `tempfile`."""
    return f"{prefix}{_machine()}-{os.getpid()}-"


def scratch_folder(purpose: str) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder, removed with its context, or after a day if the process was killed."""
    return tempfile.TemporaryDirectory(prefix=owned(f"{_SCRATCH}{purpose}-"))


def scratch_folders() -> Iterator[Path]:
    """Yield what looks like a scratch folder of any run on this machine."""
    return Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*")


def unfinished_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder that are being written, or were never finished."""
    for place, _, names in os.walk(folder):
        yield from (Path(place, name) for name in names if name.startswith(UNFINISHED))


def remove_dead(candidates: Iterable[Path]) -> None:
    """Remove what ended processes left; what can't be removed stays."""
    for path in candidates:
        try:
            if not _is_dead(path):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger().debug("%s can't be removed: %s", path, error)
        else:
            logger().info("removed %s, which a killed run had left", path)


def _is_dead(path: Path) -> bool:
    owner = _OWNER.search(path.name)
    if owner is None or owner["machine"] != _machine() or _is_alive(int(owner["process"])):
        return False
    return time.time() - path.lstat().st_mtime > KEPT_SECONDS


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 is only checked, not sent
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
