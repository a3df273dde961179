"""Findings of the doctor: values for tables, programs and the exit code."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Environment variables whose values are never printed.
SECRETS: Final = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY",
    "PREFECT_SERVER_API_AUTH_STRING",
    "PREFECT_SERVER_ENCRYPTION_KEY",
)
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_HIDDEN: Final = "********"


class Level(StrEnum):
    """The severity of a finding. Values are a contract: programs read them from the JSON."""

    ERROR = "error"
    """Something will not work."""
    WARNING = "warning"
    """It may work, but it needs attention."""
    INFO = "info"
    """Good to know, or could not be checked from here."""
    OK = "ok"
    """Checked, and as it should be."""


class Category(StrEnum):
    """The subject of a finding. Values are a contract: programs read them from the JSON."""

    CONFIGURATION = "configuration"
    STORAGE = "storage"
    PREFECT = "prefect"
    BLOCKS = "blocks"
    POOLS = "pools"
    LIMITS = "limits"
    AUTOMATIONS = "automations"
    DEPLOYMENTS = "deployments"
    CLUSTER = "cluster"
    RIGHTS = "rights"
    RESOURCES = "resources"
    MODEL = "model"
    RUN = "run"


#: Beginning of findings that stand for a whole category that was skipped.
SKIPPED: Final = "not checked: "


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        level: Severity.
        category: Subject.
        summary: Result, in one line.
        detail: Evidence; may be empty.
        resolution: Remedy; empty if there is nothing to do.
    """

    level: Level
    category: Category
    summary: str
    detail: str = ""
    resolution: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if nothing is wrong, 1 if something needs attention, 2 if something will not work."""
    levels = {finding.level for finding in findings}
    if Level.ERROR in levels:
        return 2
    return 1 if Level.WARNING in levels else 0


def skipped(findings: Iterable[Finding]) -> list[Category]:
    """Return the categories that were skipped."""
    left = (each.category for each in findings if each.summary.startswith(SKIPPED))
    return list(dict.fromkeys(left))


def redacted(text: str) -> str:
    """Return a text without secrets: values of secret variables, logins in addresses."""
    for name in SECRETS:
        value = os.environ.get(name)
        # A value this short occurs in many texts by chance.
        if value and len(value) > 3:
            text = text.replace(value, _HIDDEN)
    return _LOGIN.sub(f"{_HIDDEN}@", text)
