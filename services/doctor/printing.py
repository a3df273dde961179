"""How findings are shown: a table on a terminal, lines elsewhere, JSON for programs. Never a secret."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from services.console import OUT
from services.doctor.finding import Finding, Level, exit_code, redacted, skipped

_COLOURS: Final = {
    Level.ERROR: "bold red",
    Level.WARNING: "yellow",
    Level.INFO: "cyan",
    Level.OK: "green",
}
_PLURALS: Final = {
    Level.ERROR: "errors",
    Level.WARNING: "warnings",
    Level.INFO: "notes",
    Level.OK: "ok",
}


def show(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Print findings; returns the exit code that goes with them."""
    code = exit_code(findings)
    if as_json:
        told = {"exit_code": code, "findings": [_as_dict(finding) for finding in findings]}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return code
    if OUT.is_terminal:
        _table(findings)
    else:
        for finding in findings:
            _line(finding)
    _say(conclusion(findings))
    return code


def conclusion(findings: Sequence[Finding]) -> str:
    """How many of what were found, and what was left out, in one line."""
    counts = Counter(finding.level for finding in findings)
    numbers = ", ".join(
        f"{counts[level]} {_PLURALS[level] if counts[level] != 1 else level.value}"
        for level in (Level.ERROR, Level.WARNING, Level.INFO, Level.OK)
        if counts[level]
    )
    left_out = ", ".join(skipped(findings))
    words = {
        0: "Nothing is wrong in what was looked at" if left_out else "Nothing is wrong",
        1: "Something wants a look",
        2: "Something will not work",
    }
    said = f"{words[exit_code(findings)]} ({numbers})."
    return f"{said} Not looked at: {left_out}." if left_out else said


def _as_dict(finding: Finding) -> dict[str, str]:
    return {name: redacted(str(value)) for name, value in asdict(finding).items()}


def _table(findings: Sequence[Finding]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        text = Text(redacted(finding.summary))
        if finding.detail and finding.level is not Level.OK:
            text.append(f"\n{redacted(finding.detail)}", "dim")
        if finding.resolution:
            text.append(f"\n→ {redacted(finding.resolution)}", "bold")
        table.add_row(
            Text(finding.level.value, _COLOURS[finding.level]), Text(finding.category.value), text
        )
    OUT.print(table)


def _line(finding: Finding) -> None:
    _say(f"{finding.level.value:8}{finding.category.value:14}{finding.summary}")
    if finding.level is not Level.OK:
        for line in finding.detail.splitlines():
            _say(f"{'':22}{line}")
    if finding.resolution:
        _say(f"{'':22}-> {finding.resolution}")


def _say(text: str) -> None:
    OUT.print(redacted(text), markup=False, highlight=False, soft_wrap=True)
