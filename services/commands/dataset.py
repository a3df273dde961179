"""`pollen dataset check`: tell the people who label pictures how a merge would use them."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from pollen.dataset.check import CheckOutcome, CheckResult, check
from pollen.dataset.findings import Severity
from pollen.dataset.settings import DatasetSettings
from services.commands.shared import guarded
from services.console import OUT, say, set_up_logging
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from services.options import parse_options

#: Findings that are printed; the most serious come first.
FINDINGS_SHOWN = 60
_CODES = {CheckOutcome.GOOD: DONE, CheckOutcome.REFUSED: COULD_NOT_RUN}
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def run_check(path: Path, settings: Sequence[str], *, verbose: bool = False) -> int:
    """Check an export or a folder and print what was found; return the exit code."""
    set_up_logging(verbose=verbose)

    def work() -> int:
        return _show(check(path.expanduser(), parse_options(settings, DatasetSettings)))

    return guarded(work, stopped="stopped", kept="nothing was written", verbose=verbose)


def _show(result: CheckResult) -> int:
    """Print what was found; return the exit code."""
    _show_findings(result)
    if result.pictures:
        _show_counts(result)
    say(f"{result.name} {result.verdict.sentence('above')}")
    return _CODES.get(result.verdict, SOME_FAILED)


def _show_findings(result: CheckResult) -> None:
    for found in result.findings[:FINDINGS_SHOWN]:
        label = f"[{_COLOURS[found.severity]}]{found.severity}[/] "
        say(f"{found.where}: {found.message}", label)
    rest = len(result.findings) - FINDINGS_SHOWN
    if rest > 0:
        say(f"... and {rest} more findings")


def _show_counts(result: CheckResult) -> None:
    table = Table(title=Text(f"{result.name} ({result.form})"), title_justify="left")
    table.add_column("")
    table.add_column("number", justify="right")
    grains = result.grains
    for name, number in (
        ("pictures that can be used", result.pictures),
        ("pictures left out", result.left_out),
        ("viable grains", grains.viable),
        ("non-viable grains", grains.non_viable),
        ("grains labelled 'unsure'", grains.unsure),
        *((f"pictures for {split}", count) for split, count in result.splits.items()),
    ):
        table.add_row(name, str(number))
    OUT.print(table)
