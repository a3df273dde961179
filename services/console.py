"""Output of the `pollen` command: a progress bar on a terminal, plain lines elsewhere, tables, errors."""

import logging
import threading
import time
from collections.abc import Sequence
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
#: Without a terminal, progress is printed at most this often.
LINE_EVERY_SECONDS = 10.0
#: Failed pictures that are listed; `pollen_counts.csv` has all of them.
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


def say(text: str, label: str = "") -> None:
    """Print a line of results on standard output, after a label that may have markup."""
    _print(OUT, text, label)


def remark(text: str, label: str = "") -> None:
    """Print a line about the work on standard error, after a label that may have markup."""
    _print(ERR, text, label)


def say_error(text: str) -> None:
    """Print one clear error on standard error."""
    remark(text, "[bold red]Error:[/] ")


def _print(console: Console, text: str, label: str) -> None:
    if label:
        console.print(label, end="")
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class ProgressView:
    """Show the progress of a run; see `tasks.progress.Progress`."""

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
        """See `tasks.progress.Progress`."""
        if self._task is not None and ERR.is_terminal:
            self._bar.update(self._task, description=text)
        else:
            remark(f"{text} ...")

    def planned(self, waiting: int, inputs: int) -> None:
        """See `tasks.progress.Progress`."""
        self._total = waiting
        remark(f"{inputs} pictures found, {waiting} to count")
        if waiting:
            self._task = self._bar.add_task("counting", total=waiting, failed="")

    def counted(self, filename: str, *, failed: bool) -> None:  # noqa: ARG002  (only numbers are shown)
        """See `tasks.progress.Progress`."""
        with self._lock:
            self._done += 1
            self._failed += failed
            shown = f"{self._failed} failed" if self._failed else ""
            if self._task is not None:
                # A file with several pages is one input, but every page is reported.
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
                remark(f"counted {self._done} of {self._total} {shown}".rstrip())

    def reached(self, done: int, total: int, text: str) -> None:
        """See `tasks.progress.Progress`."""
        with self._lock:
            if not logging.getLogger("pollen").isEnabledFor(logging.INFO):  # else the log has it
                remark(text)
            if self._task is None:
                self._task = self._bar.add_task("training", total=total, failed="")
            self._bar.update(self._task, completed=done, total=total)


def show_summary(summary: Summary) -> None:
    """Print the table at the end of a run, the failed pictures, and the place of the results."""
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
        say(f"... and {rows.height - FAILED_SHOWN} more in pollen_counts.csv")
    failed = [(row["filename"], row["reason"]) for row in summary.failed.iter_rows(named=True)]
    show_failed(failed, len(failed))
    say(summary.message)
    say(f"Results: {summary.output}")


def _percent(fraction: float) -> str:
    """Return a percentage without a blank, at which the table would break the line."""
    return percent(fraction, gap="")


def show_failed(failed: Sequence[tuple[str, str]], number: int) -> None:
    """Print failed pictures and their reasons.

    Args:
        failed: File names and reasons, perhaps not all of them.
        number: Number of pictures that failed.
    """
    shown = failed[:FAILED_SHOWN]
    for filename, reason in shown:
        say(f"{filename}: {reason}", "[red]failed[/] ")
    if number > len(shown):
        say(f"... and {number - len(shown)} more failed pictures in pollen_counts.csv")
