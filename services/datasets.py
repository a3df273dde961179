"""`pollen dataset check`: what a merge would make of labelled pictures, for the people who label them."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pollen.dataset.check import CheckResult, check
from pollen.dataset.findings import Severity
from pollen.dataset.settings import DatasetSettings
from pollen.dataset.trees import TreeError
from services.command_line import COULD_NOT_RUN, DONE, SOME_FAILED
from services.console import OUT, say_error
from services.options import parse_options
from tasks.faults import PollenError

#: Findings printed, the gravest first.
FINDINGS_SHOWN = 60
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def run_check(path: Path, settings: Sequence[str]) -> int:
    """Check a zip or folder and tell what was found; returns the exit code."""
    try:
        result = check(path.expanduser(), parse_options(settings, DatasetSettings))
    except (PollenError, TreeError) as error:
        say_error(str(error))
        return COULD_NOT_RUN
    _show_findings(result)
    if result.pictures:
        _show_counts(result)
    if not result.is_usable:
        OUT.print(f"{result.name} would be refused: correct the errors above and check again.")
        return COULD_NOT_RUN
    if any(found.severity is not Severity.NOTE for found in result.findings):
        OUT.print(f"{result.name} can be used; look at the warnings above first.")
        return SOME_FAILED
    OUT.print(f"{result.name} can be used as it is.")
    return DONE


def _show_findings(result: CheckResult) -> None:
    for found in result.findings[:FINDINGS_SHOWN]:
        OUT.print(f"[{_COLOURS[found.severity]}]{found.severity}[/] ", end="")
        OUT.print(f"{found.where}: {found.message}", markup=False, highlight=False, soft_wrap=True)
    rest = len(result.findings) - FINDINGS_SHOWN
    if rest > 0:
        OUT.print(f"... and {rest} findings more")


def _show_counts(result: CheckResult) -> None:
    table = Table(title=f"{result.name} ({result.form})", title_justify="left")
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
