"""Read the files in `deployments/automations`, fill in the values of a site, and check them.

`{name}` in them stands for a value of the site, `{deployment:detect/on-upload}` for the id of a deployment
on the server. Jinja's `{{ ... }}`, which the server fills in later, stays as it is.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pollen.errors import PollenError
from services.setup.references import Kind, LookUp, NotThereError, Reference
from services.site import Notifications, Occasion, Recovery, Site, deployments_folder

if TYPE_CHECKING:
    from prefect.events.schemas.automations import AutomationCore

#: Beginning of the names of our automations: those that are no longer declared are deleted.
PREFIX = "pollen: "

#: One pair of braces: a value, or a reference by kind and name. Two pairs are Jinja's.
_PLACEHOLDER = re.compile(r"(?<!\{)\{(?:(deployment|block):([^{}\s]+)|(\w+))\}(?!\})")
_ROWS = TypeAdapter(list[dict[str, Any]])


class _File(BaseModel):
    """A file of automations; each is made once for every row of `for_each`."""

    model_config = ConfigDict(extra="forbid")

    for_each: str | list[dict[str, Any]] = [{}]
    automations: list[dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class DeclaredAutomation:
    """An automation of the files.

    Attributes:
        name: Name of the automation.
        automation: The automation; None as long as something that it refers to does not exist.
        waits: The missing object, and what to do about it.
    """

    name: str
    automation: "AutomationCore | None"
    waits: str = ""


def read_declared(
    site: Site, look_up: LookUp, folder: Path | None = None
) -> list[DeclaredAutomation]:
    """Read the automations that belong on the server.

    Args:
        site: Source of the values.
        look_up: Finds the ids of the objects that they refer to.
        folder: Folder with the files; None for that of the application.

    Raises:
        PollenError: If a file can't be used; the message names it and what is wrong.
    """
    folder = folder or deployments_folder() / "automations"
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise PollenError(f"{folder} holds no automations (*.yaml): the application is incomplete")
    values = _site_values(site)
    found: dict[str, DeclaredAutomation] = {}
    for path in paths:
        for declared in _read(path, values, look_up):
            if declared.name in found:
                raise PollenError(
                    f"{path}: there are two automations with the name {declared.name!r}"
                )
            found[declared.name] = declared
    return list(found.values())


def _site_values(site: Site) -> dict[str, object]:
    """Return the values of the placeholders."""
    return {
        "storage_block": site.storage.block,
        "checked_exports": [{}] if site.events.check_exports else [],
        **_of_recovery(site.recovery),
        **_of_notifications(site.notifications),
    }


def _of_recovery(recovery: Recovery) -> dict[str, object]:
    return {
        "crashes": [{"crash": crash} for crash in range(1, recovery.requeues + 1)],
        "pending_minutes": recovery.pending_minutes,
        "pending_seconds": recovery.pending_minutes * 60,
        "restart_minutes": recovery.restart_minutes,
        "restart_seconds": recovery.restart_minutes * 60,
        "alive_seconds": recovery.restart_minutes * 60 - 30,
        "zombie_minutes": recovery.zombie_minutes,
        "zombie_seconds": recovery.zombie_minutes * 60,
    }


def _of_notifications(notifications: Notifications) -> dict[str, object]:
    """Return the recipients for each occasion, as rows: `about_failed`, `about_models`, ..."""
    recipients = {
        f"about_{occasion}": [
            {"who": block, "who_id": Reference("block", block)}
            for block in dict.fromkeys(
                each.block for each in notifications.to if occasion in each.about
            )
        ]
        for occasion in get_args(Occasion)
    }
    days = notifications.silent_days
    return {
        **recipients,
        "silent_days": "day" if days == 1 else f"{days} days",
        "silent_seconds": days * 24 * 3600,
    }


def _read(
    path: Path, values: Mapping[str, object], look_up: LookUp
) -> Iterator[DeclaredAutomation]:
    try:
        file = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for row in _ROWS.validate_python(_filled(file.for_each, values, look_up)):
            for document in file.automations:
                yield _declared(document, {**values, **row}, look_up)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PollenError(f"{path} can't be read: {error}") from error
    except ValueError as error:  # including pydantic's errors
        raise PollenError(f"{path}: {_fault(error)}") from error


def _declared(
    document: dict[str, Any], values: Mapping[str, object], look_up: LookUp
) -> DeclaredAutomation:
    try:
        automation = _automation(_filled(document, values, look_up))
    except NotThereError as missing:
        return DeclaredAutomation(
            str(_filled(document.get("name"), values, look_up)), None, str(missing)
        )
    return DeclaredAutomation(automation.name, automation)


def _filled(node: object, values: Mapping[str, object], look_up: LookUp) -> object:
    """Replace every placeholder; a text that is just a placeholder takes the value's type.

    Raises:
        NotThereError: If an object that is referred to is not on the server.
        ValueError: If a placeholder is not known.
    """

    def value(match: re.Match[str]) -> object:
        kind, referred, name = match.groups()
        if kind:
            return look_up(Reference(cast("Kind", kind), referred))
        if name not in values:
            raise ValueError(
                f"{{{name}}} is not known; expected one of {', '.join(sorted(values))}"
            )
        found = values[name]
        return look_up(found) if isinstance(found, Reference) else found

    if isinstance(node, dict):
        return {key: _filled(each, values, look_up) for key, each in node.items()}
    if isinstance(node, list):
        return [_filled(each, values, look_up) for each in node]
    if not isinstance(node, str):
        return node
    if whole := _PLACEHOLDER.fullmatch(node):
        return value(whole)
    return _PLACEHOLDER.sub(lambda match: str(value(match)), node)


def _automation(document: object) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore

    automation = AutomationCore.model_validate(document)
    if not automation.name.startswith(PREFIX):
        raise ValueError(
            f"the name {automation.name!r} must begin with {PREFIX!r}, which marks our automations"
        )
    if lost := _lost(document, automation.model_dump(mode="json")):
        raise ValueError(
            f"{automation.name!r} has {lost!r}, which Prefect would ignore; check its spelling"
        )
    return automation


def _lost(given: object, understood: object, name: str = "") -> str | None:
    """Return the name of the first value in a document that Prefect's model dropped silently."""
    if understood is ...:
        return name
    if isinstance(given, dict) and isinstance(understood, dict):
        parts = [(value, understood.get(key, ...), str(key)) for key, value in given.items()]
    elif isinstance(given, list) and isinstance(understood, list):
        parts = [(*pair, name) for pair in zip(given, understood, strict=False)]
    else:
        parts = []
    return next((lost for part in parts if (lost := _lost(*part))), None)


def _fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    faults = error.errors(include_url=False)
    # An action is validated as every type of action: errors of other types don't matter.
    other = {each["loc"][:-1] for each in faults if each["loc"][-1:] == ("type",)}
    faults = [each for each in faults if each["loc"][:-1] not in other] or faults
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults)
