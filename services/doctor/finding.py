"""What the doctor finds: values that a table shows, a program reads, and the exit code follows from."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Environment variables whose values never leave this process.
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
    """How bad a finding is. Values are a contract: programs read them from the JSON."""

    ERROR = "error"
    """Something will not work."""
    WARNING = "warning"
    """It may work, but a person should look."""
    INFO = "info"
    """Good to know, or could not be looked at from here."""
    OK = "ok"
    """Was looked at, and is as it should be."""


class Category(StrEnum):
    """What a finding is about. Values are a contract: programs read them from the JSON."""

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


#: How findings begin that stand for a whole category which was left out.
SKIPPED: Final = "not looked at: "


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: How bad it is.
        category: What it is about.
        summary: What was found, in one line.
        detail: What it was found from; may be empty.
        resolution: What to do; empty where there is nothing to do.
    """

    level: Level
    category: Category
    summary: str
    detail: str = ""
    resolution: str = ""


def exit_code(findings: Iterable[Finding]) -> int:
    """0: nothing is wrong, 1: something wants a look, 2: something will not work."""
    levels = {finding.level for finding in findings}
    if Level.ERROR in levels:
        return 2
    return 1 if Level.WARNING in levels else 0


def skipped(findings: Iterable[Finding]) -> list[Category]:
    """The categories that were left out."""
    left = (each.category for each in findings if each.summary.startswith(SKIPPED))
    return list(dict.fromkeys(left))


def redacted(text: str) -> str:
    """A text without what nobody is to read: values of secret variables, logins in addresses."""
    for name in SECRETS:
        value = os.environ.get(name)
        # A value this short stands in many texts by chance.
        if value and len(value) > 3:
            text = text.replace(value, _HIDDEN)
    return _LOGIN.sub(f"{_HIDDEN}@", text)
