"""`pollen setup`: compare, show the changes, make them, and report the result."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pollen.errors import PollenError
from services.commands.shared import guarded
from services.console import OUT, say, say_error, set_up_logging
from services.exit_codes import COULD_NOT_RUN, DONE
from services.prefect_server.connection import connected, refusal, version_note, without_password
from services.setup.automations import plan_automations
from services.setup.blocks import plan_blocks
from services.setup.deployments import (
    DeclaredDeployment,
    declared_deployments,
    deploy_command,
    plan_deployments,
)
from services.setup.first_model import plan_models
from services.setup.limits import plan_limits
from services.setup.plan import Action, Change, Step, to_do
from services.setup.pools import plan_pools
from services.setup.schedules import plan_schedules
from services.site import Overrides, Site, deployments_folder, read_site

_COLOURS: dict[Action, str] = {
    "create": "green",
    "update": "yellow",
    "delete": "red",
    "keep": "dim",
}


@dataclass(frozen=True)
class SetupPlan:
    """All that setup would do, and what is left to a person.

    Attributes:
        steps: Steps, in the order in which they are done.
        missing: Declared deployments that are not on the server: `prefect deploy` makes them.
        notes: Facts that a person should know although setup does nothing about them.
    """

    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def run_setup(
    config: Path | None, overrides: Overrides, *, dry_run: bool = False, verbose: bool = False
) -> int:
    """Set up the configured Prefect server.

    Args:
        config: The site file; None for the application's.
        overrides: Values that replace those of the file.
        dry_run: Only show what would change.
        verbose: Show every step.

    Returns:
        The exit code: 0 if all is as the site file says, 2 if something could not be done.
    """
    set_up_logging(verbose=verbose)
    return guarded(
        lambda: _set_up(read_site(config, overrides), dry_run=dry_run, verbose=verbose),
        stopped="stopped. Changes that were made stay: run the command again to make the others",
        kept="changes that were made stay, and the next `pollen setup` makes the others",
        verbose=verbose,
    )


def make_plan(client: SyncPrefectClient, site: Site) -> SetupPlan:
    """Look at the server and the buckets, and plan the steps; change nothing.

    Raises:
        PollenError: If the site file, a job template, an automation or `prefect.yaml` can't be used.
    """
    declared = declared_deployments()
    blocks = plan_blocks(client, site)
    pools = plan_pools(client, site)
    deployments, missing = plan_deployments(client, declared)
    steps = [
        *blocks,
        *pools,
        *plan_limits(client, site),
        *plan_automations(client, site),
        *deployments,
        *plan_schedules(client, site),
        *plan_models(site, block_will_change=any(to_do(blocks))),
    ]
    notes = (version_note(client), _unknown_pools(client, site, declared))
    return SetupPlan(tuple(steps), tuple(missing), tuple(filter(None, notes)))


def _unknown_pools(
    client: SyncPrefectClient, site: Site, declared: Iterable[DeclaredDeployment]
) -> str | None:
    used = {each.pool for each in declared if each.pool}
    unknown = used - site.pools.keys() - {pool.name for pool in client.read_work_pools()}
    if not unknown:
        return None
    names = ", ".join(sorted(unknown))
    return (
        f"deployments in prefect.yaml use work pools that are neither in the site file nor on the server: {names}. "
        "Add them to 'pools' in the site file"
    )


def _set_up(site: Site, *, dry_run: bool, verbose: bool) -> int:
    with connected() as client:
        plan = make_plan(client, site)
        _show_plan(client, plan, verbose=verbose)
        changes = list(to_do(plan.steps))
        if dry_run and changes:
            say("Nothing was changed: this was a dry run.")
            return DONE
        failed = _do(changes)
    if not changes:
        say("Nothing to change.")
    _say_next(plan, site)
    if failed:
        say_error(
            f"{failed} of the changes could not be made: fix the cause, then run `pollen setup` again"
        )
        return COULD_NOT_RUN
    return DONE


def _do(steps: Iterable[Step]) -> int:
    """Do the steps and print the result of each; return how many failed."""
    table = _table("Changes", "done")
    failed = 0
    try:
        for step in steps:
            error = _done(step)
            failed += error is not None
            done = (
                Text(step.change.action + "d", "green") if error is None else Text("failed", "red")
            )
            _row(table, step.change, done, error or "")
    finally:
        # Also after Ctrl-C or a lost server: people want to know how far it came.
        if table.row_count:
            OUT.print(table)
    return failed


def _done(step: Step) -> str | None:
    """Do a step; return the reason if it failed, else None."""
    assert step.do is not None
    try:
        step.do()
    except ObjectAlreadyExists:
        return "it was made by someone else at the same time"
    except ObjectNotFound:
        return "it was deleted by someone else at the same time"
    except httpx.HTTPStatusError as error:
        return refusal(error.response)
    except PollenError as error:
        return str(error)
    return None


def _show_plan(client: SyncPrefectClient, plan: SetupPlan, *, verbose: bool) -> None:
    table = _table(f"Setup of {without_password(str(client.api_url))}", "plan")
    kept: Counter[str] = Counter()
    for step in plan.steps:
        change = step.change
        if change.action == "keep" and not (change.attention or verbose):
            kept[change.kind] += 1
        else:
            _row(table, change, Text(change.action, _COLOURS[change.action]), change.detail)
    if table.row_count:
        OUT.print(table)
    if kept:
        counted = ", ".join(f"{kind} ({number})" for kind, number in kept.items())
        say(f"Already as declared: {counted} (--verbose lists them).")
    for note in plan.notes:
        say(f"Note: {note}.")


def _say_next(plan: SetupPlan, site: Site) -> None:
    if not plan.missing:
        say("Next: `pollen doctor` checks whether runs will find all that they need.")
        return
    say(
        f"Deployments in prefect.yaml that are not on the server yet: {', '.join(plan.missing)}.\n"
        f"Next, in {deployments_folder().parent}: {deploy_command(site)}\n"
        "Then run this command again: it makes what refers to deployments, such as the automation that starts runs "
        "for uploads."
    )


def _table(title: str, action: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("what", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column(action, no_wrap=True)
    table.add_column("detail", overflow="fold")
    return table


def _row(table: Table, change: Change, action: Text, detail: str) -> None:
    style = "yellow" if change.attention else ""
    table.add_row(change.kind, Text(change.name), action, Text(detail, style))
