"""Findings on a dataset or an export, in sentences for the people who label."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The weight of a finding.

    `error`: what it speaks of can't be used as it is; an export with an error is refused whole.
    `warning`: handled as the message says, and a person should look. `note`: nothing to do.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """0 for the gravest, for sorting."""
        return list(Severity).index(self)


@dataclass(frozen=True)
class DatasetFinding:
    """One thing that was noticed.

    Attributes:
        severity: How much it matters.
        file: The file as the user knows it: `export.zip/train/labels/a.txt`, or the zip itself.
        line: Line in that file, counted from 1; None if the whole file is meant.
        message: What was expected, what came, and what to do.
    """

    severity: Severity
    file: str
    line: int | None
    message: str

    @classmethod
    def error(cls, file: str, message: str, line: int | None = None) -> "DatasetFinding":
        """Return a finding that makes its file unusable."""
        return cls(Severity.ERROR, file, line, message)

    @classmethod
    def warning(cls, file: str, message: str, line: int | None = None) -> "DatasetFinding":
        """Return a finding that was handled, but that a person should check."""
        return cls(Severity.WARNING, file, line, message)

    @classmethod
    def note(cls, file: str, message: str, line: int | None = None) -> "DatasetFinding":
        """Return a finding that needs no action."""
        return cls(Severity.NOTE, file, line, message)

    @property
    def where(self) -> str:
        """File and line in words."""
        return self.file if self.line is None else f"{self.file}, line {self.line}"

    def __str__(self) -> str:
        """Return one line of text: `error: export.zip/labels/a.txt, line 3: ...`."""
        return f"{self.severity}: {self.where}: {self.message}"


def in_order(findings: Iterable[DatasetFinding]) -> tuple[DatasetFinding, ...]:
    """Return the findings sorted by severity, file and line, each once."""
    return tuple(
        sorted(
            set(findings),
            key=lambda found: (found.severity.rank, found.file, found.line or 0, found.message),
        )
    )


def has_error(findings: Iterable[DatasetFinding]) -> bool:
    """Return whether one of them is an error."""
    return any(found.severity is Severity.ERROR for found in findings)
