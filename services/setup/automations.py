"""The automations that heal runs: declared in ``deployments/automations``, made on the server.

An automation counts per run, and the server forgets these counts when the automation is changed or
made anew. One that is as declared is therefore left alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from services.setup.plan import Change, Step, keep
from services.site import Recovery, Site, deployments_folder
from tasks.faults import PollenError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

#: What the names of our automations begin with: those that are no longer declared are deleted.
PREFIX = "pollen: "

_KIND = "automation"
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_ROWS = TypeAdapter(list[dict[str, Any]])

#: What makes an automation this one. Whether it is paused is up to the people who run the server.
_DECLARED = frozenset({"name", "description", "tags", "trigger", "actions"})


class _File(BaseModel):
    """A file of automations; each is made once for every row of ``for_each``."""

    model_config = ConfigDict(extra="forbid")

    for_each: str | list[dict[str, Any]] = [{}]
    automations: list[dict[str, Any]] = Field(min_length=1)


def declared_automations(recovery: Recovery, folder: Path | None = None) -> list["AutomationCore"]:
    """Read the automations that are to be on the server.

    Args:
        recovery: The figures that fill the placeholders.
        folder: Where the files are; None for those of the application.

    Raises:
        PollenError: A file can't be used; the message names it and what is wrong.
    """
    folder = folder or deployments_folder() / "automations"
    declared: dict[str, AutomationCore] = {}
    for path in sorted(folder.glob("*.yaml")):
        for automation in _read(path, _figures(recovery)):
            if automation.name in declared:
                raise PollenError(f"{path}: another automation has the name {automation.name!r}")
            declared[automation.name] = automation
    if not declared:
        raise PollenError(f"{folder} holds no automations (*.yaml): the application is not whole")
    return list(declared.values())


def plan_automations(client: "SyncPrefectClient", site: Site) -> list[Step]:
    """Compare the automations on the server with the declared ones.

    Raises:
        PollenError: A file of automations can't be used.
    """
    ours: defaultdict[str, list[Automation]] = defaultdict(list)
    for automation in _existing(client):
        ours[automation.name].append(automation)
    steps = []
    for declared in declared_automations(site.recovery):
        # Two setups at the same moment may have made it twice: the first stays.
        found = ours.pop(declared.name, [])
        steps.append(_step(client, declared, found[0] if found else None))
        steps += [_deletion(client, each, "there is another of that name") for each in found[1:]]
    stale = (automation for left in ours.values() for automation in left)
    return steps + [_deletion(client, automation, "no longer declared") for automation in stale]


def _existing(client: "SyncPrefectClient") -> Iterator["Automation"]:
    """Our automations on the server."""
    from prefect.client.schemas.sorting import AutomationSort

    offset = 0
    while page := client.read_automations(sort=AutomationSort.NAME_ASC, offset=offset):
        yield from (each for each in page if each.name.startswith(PREFIX))
        offset += len(page)


def _step(
    client: "SyncPrefectClient", declared: "AutomationCore", existing: "Automation | None"
) -> Step:
    name = declared.name
    if existing is None:
        return Step(Change(_KIND, name, "create"), partial(_create, client, declared))
    wanted, found = (each.model_dump(include=set(_DECLARED)) for each in (declared, existing))
    if differing := sorted(key for key in wanted if wanted[key] != found[key]):
        detail = f"{', '.join(differing)}; its counts begin anew"
        return Step(
            Change(_KIND, name, "update", detail), partial(_update, client, declared, existing)
        )
    if not existing.enabled:
        return keep(_KIND, name, "paused by somebody: it does nothing now", attention=True)
    return keep(_KIND, name)


def _deletion(client: "SyncPrefectClient", automation: "Automation", why: str) -> Step:
    return Step(
        Change(_KIND, automation.name, "delete", why),
        partial(client.delete_automation, automation.id),
    )


def _create(client: "SyncPrefectClient", declared: "AutomationCore") -> None:
    client.create_automation(declared)


def _update(
    client: "SyncPrefectClient", declared: "AutomationCore", existing: "Automation"
) -> None:
    client.update_automation(existing.id, declared.model_copy(update={"enabled": existing.enabled}))


def _figures(recovery: Recovery) -> dict[str, object]:
    """What the placeholders in the files stand for."""
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


def _read(path: Path, figures: Mapping[str, object]) -> Iterator["AutomationCore"]:
    try:
        file = _File.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        for row in _ROWS.validate_python(_filled(file.for_each, figures)):
            for document in file.automations:
                yield _automation(_filled(document, {**figures, **row}))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PollenError(f"{path} can't be read: {error}") from error
    except ValueError as error:  # pydantic's are of this kind, too
        raise PollenError(f"{path}: {_fault(error)}") from error


def _filled(node: object, values: Mapping[str, object]) -> object:
    """Replace every ``{name}``; a text that is nothing but a placeholder takes the value's type."""

    def value(match: re.Match[str]) -> object:
        name = match.group(1)
        if name not in values:
            raise ValueError(
                f"{{{name}}} stands for nothing; known are {', '.join(sorted(values))}"
            )
        return values[name]

    if isinstance(node, dict):
        return {key: _filled(each, values) for key, each in node.items()}
    if isinstance(node, list):
        return [_filled(each, values) for each in node]
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
            f"the name {automation.name!r} must begin with {PREFIX!r}: it shows whose it is"
        )
    if lost := _lost(document, automation.model_dump(mode="json")):
        raise ValueError(
            f"{automation.name!r} has {lost!r}, which Prefect would ignore; check its spelling"
        )
    return automation


def _lost(given: object, understood: object, name: str = "") -> str | None:
    """Name of the first thing in a document that Prefect's model dropped without a word."""
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
    # An action is compared with every kind of action: those of another type don't matter.
    other = {each["loc"][:-1] for each in faults if each["loc"][-1:] == ("type",)}
    faults = [each for each in faults if each["loc"][:-1] not in other] or faults
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults)
