"""Plan the automations: declared in `deployments/automations`, made on the server.

An automation counts per run, and the server forgets these counts when the automation is changed or made again.
Therefore an automation that is as declared is left unchanged.
"""

from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from services.setup.automation_files import PREFIX, DeclaredAutomation, read_declared
from services.setup.plan import Change, Step, keep
from services.setup.references import on_server
from services.site import Site

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import Automation, AutomationCore

_KIND = "automation"

#: Fields that are compared. Whether an automation is paused is up to the people who run the server.
_DECLARED = frozenset({"name", "description", "tags", "trigger", "actions"})


def plan_automations(client: "SyncPrefectClient", site: Site) -> list[Step]:
    """Compare the automations on the server with the declared ones.

    Raises:
        PollenError: If a file of automations can't be used.
    """
    ours: defaultdict[str, list[Automation]] = defaultdict(list)
    for automation in _existing(client):
        ours[automation.name].append(automation)
    steps = []
    for declared in read_declared(site, on_server(client)):
        # Two setups at the same time may have made it twice: the first stays.
        found = ours.pop(declared.name, [])
        steps.append(_step(client, declared, found[0] if found else None))
        steps += [
            _deletion(client, each, "there is another one with this name") for each in found[1:]
        ]
    stale = (automation for left in ours.values() for automation in left)
    return steps + [_deletion(client, automation, "no longer declared") for automation in stale]


def _existing(client: "SyncPrefectClient") -> Iterator["Automation"]:
    """Yield our automations on the server."""
    from prefect.client.schemas.sorting import AutomationSort

    offset = 0
    while page := client.read_automations(sort=AutomationSort.NAME_ASC, offset=offset):
        yield from (each for each in page if each.name.startswith(PREFIX))
        offset += len(page)


def _step(
    client: "SyncPrefectClient", declared: DeclaredAutomation, existing: "Automation | None"
) -> Step:
    name, wanted = declared.name, declared.automation
    if wanted is None:
        return keep(_KIND, name, declared.waits, attention=True)
    if existing is None:
        return Step(Change(_KIND, name, "create"), partial(_create, client, wanted))
    new, old = (each.model_dump(include=set(_DECLARED)) for each in (wanted, existing))
    if differing := sorted(key for key in new if new[key] != old[key]):
        detail = f"{', '.join(differing)}; its counts start again"
        return Step(
            Change(_KIND, name, "update", detail), partial(_update, client, wanted, existing)
        )
    if not existing.enabled:
        return keep(_KIND, name, "paused: it does nothing", attention=True)
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
