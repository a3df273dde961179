"""Prefect servers whose database is copied instead of made: making it takes twice as long as the rest of a start."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from services.embedded import EmbeddedPrefect

#: Names the folder that all processes of a test session share; `tests/conftest.py` sets it.
SHARED: Final = "SHARED_BY_TESTS"
_DATABASE: Final = "prefect.db"


class PreparedPrefect(EmbeddedPrefect):
    """A Prefect server that begins with the empty database of the first one of the session, if there was one."""

    def start(self) -> None:
        """Start the server, with its own database if it has one."""
        ours, first = self.home / _DATABASE, Path(os.environ[SHARED], _DATABASE)
        new = not ours.exists()
        if new and first.exists():
            _copy(first, ours)
        super().start()
        if new and not first.exists():
            unfinished = first.with_name(f"{_DATABASE}-{os.getpid()}")
            _copy(ours, unfinished)
            unfinished.rename(first)


def _copy(source: Path, target: Path) -> None:
    """Copy a database, even while a server uses it."""
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as written:
        read.backup(written)
