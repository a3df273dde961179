"""Print findings: a table on a terminal, lines elsewhere, JSON for programs. Never a secret."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from services.console import OUT, say
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
    """Print findings; return the exit code that belongs to them."""
    code = exit_code(findings)
    if as_json:
        document = {"exit_code": code, "findings": [_as_dict(finding) for finding in findings]}
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return code
    if OUT.is_terminal:
        _table(findings)
    else:
        for finding in findings:
            _line(finding)
    say(conclusion(findings))
    return code


def conclusion(findings: Sequence[Finding]) -> str:
    """Return a line with the number of findings of each level, and what was skipped."""
    counts = Counter(finding.level for finding in findings)
    numbers = ", ".join(
        f"{counts[level]} {_PLURALS[level] if counts[level] != 1 else level.value}"
        for level in (Level.ERROR, Level.WARNING, Level.INFO, Level.OK)
        if counts[level]
    )
    left_out = ", ".join(skipped(findings))
    words = {
        0: "Nothing is wrong in what was checked" if left_out else "Nothing is wrong",
        1: "Something needs attention",
        2: "Something will not work",
    }
    line = f"{words[exit_code(findings)]} ({numbers})."
    return f"{line} Not checked: {left_out}." if left_out else line


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
    lines = [f"{finding.level.value:8}{finding.category.value:14}{finding.summary}"]
    if finding.level is not Level.OK:
        lines += [f"{'':22}{line}" for line in finding.detail.splitlines()]
    if finding.resolution:
        lines.append(f"{'':22}-> {finding.resolution}")
    say(redacted("\n".join(lines)))
