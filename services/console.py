"""What `pollen` prints: a progress bar on a terminal, plain lines elsewhere, tables, errors."""

import logging
import threading
import time
from typing import Self

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from pollen.statistics.intervals import percent
from tasks.detection.summary import Summary

#: Tables and results go to standard output, everything else to standard error.
OUT = Console()
ERR = Console(stderr=True)
#: Without a terminal a line is printed at most this often.
LINE_EVERY_SECONDS = 10.0
#: More failed pictures than this are in the table only.
FAILED_SHOWN = 20


def set_up_logging(*, verbose: bool) -> None:
    """Send our log lines to standard error, and keep libraries quiet."""
    handler = RichHandler(
        console=ERR, show_path=False, show_time=False, show_level=True, markup=False
    )
    log = logging.getLogger("pollen")
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO if verbose else logging.WARNING)
    log.propagate = False


def say_error(text: str) -> None:
    """One clear error."""
    ERR.print("[bold red]Error:[/] ", end="")
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressView:
    """Shows a run's progress; see :class:`tasks.progress.Progress`."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]}"),
            TimeRemainingColumn(),
            console=ERR,
            transient=True,
            disable=not ERR.is_terminal,
        )
        self._lock = threading.Lock()
        self._task: TaskID | None = None
        self._done = self._failed = self._total = 0
        self._printed = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """See :class:`tasks.progress.Progress`."""
        if self._task is not None and ERR.is_terminal:
            self._bar.update(self._task, description=text)
        else:
            ERR.print(f"{text} ...", highlight=False)

    def planned(self, waiting: int, inputs: int) -> None:
        """See :class:`tasks.progress.Progress`."""
        self._total = waiting
        ERR.print(f"{inputs} pictures found, {waiting} to count", highlight=False)
        if waiting:
            self._task = self._bar.add_task("counting", total=waiting, failed="")

    def counted(self, filename: str, *, failed: bool) -> None:  # noqa: ARG002  (only numbers are shown)
        """See :class:`tasks.progress.Progress`."""
        with self._lock:
            self._done += 1
            self._failed += failed
            shown = f"{self._failed} failed" if self._failed else ""
            if self._task is not None:
                # A file of several pages counts as one input but tells of every page.
                total = max(self._total, self._done)
                self._bar.update(
                    self._task,
                    completed=self._done,
                    total=total,
                    failed=shown,
                    description="counting",
                )
            if not ERR.is_terminal and time.monotonic() - self._printed > LINE_EVERY_SECONDS:
                self._printed = time.monotonic()
                ERR.print(
                    f"counted {self._done} of {self._total} {shown}".rstrip(), highlight=False
                )

    def reached(self, done: int, total: int, text: str) -> None:
        """See :class:`tasks.progress.Progress`."""
        with self._lock:
            if not logging.getLogger("pollen").isEnabledFor(logging.INFO):  # else the log tells it
                ERR.print(text, highlight=False, markup=False, soft_wrap=True)
            if self._task is None:
                self._task = self._bar.add_task("training", total=total, failed="")
            self._bar.update(self._task, completed=done, total=total)


def show_summary(summary: Summary) -> None:
    """The table at the end of a run, the failed pictures, and where everything is."""
    table = Table(title="Pollen counts", title_justify="left")
    table.add_column("image", overflow="fold")
    for name in ("viable", "non-viable", "counted", "viability", "95 % interval"):
        table.add_column(name, justify="right")
    rows = summary.present.filter(summary.present["status"] != "failed")
    for row in rows.head(FAILED_SHOWN).iter_rows(named=True):
        known = row["viability"] is not None
        table.add_row(
            Text(row["filename"]),
            str(row["viable"]),
            str(row["non_viable"]),
            str(row["total_counted"]),
            _percent(row["viability"]) if known else "-",
            f"{_percent(row['viability_low'])} to {_percent(row['viability_high'])}"
            if known
            else "-",
        )
    if rows.height:
        OUT.print(table)
    if rows.height > FAILED_SHOWN:
        OUT.print(f"... and {rows.height - FAILED_SHOWN} more in pollen_counts.csv")
    _show_failed(summary)
    OUT.print(summary.message, highlight=False)
    OUT.print(f"Results: {summary.output}", highlight=False, markup=False, soft_wrap=True)


def _percent(fraction: float) -> str:
    """Without a gap, at which the table would break the line."""
    return percent(fraction, gap="")


def _show_failed(summary: Summary) -> None:
    failed = summary.failed
    for row in failed.head(FAILED_SHOWN).iter_rows(named=True):
        OUT.print("[red]failed[/] ", end="")
        OUT.print(
            f"{row['filename']}: {row['reason']}", markup=False, highlight=False, soft_wrap=True
        )
    if failed.height > FAILED_SHOWN:
        OUT.print(
            f"... and {failed.height - FAILED_SHOWN} more failed pictures in pollen_counts.csv"
        )
