"""Schedules: every root is counted at night, and swept as often as the site file says.

`prefect deploy` changes the schedules that ``prefect.yaml`` names, by their slug, and leaves all others
as they are. Those that setup makes have slugs of their own kind, and only those are changed or deleted.
Whether a schedule is paused is up to the people who run the server. Pausing or resuming one makes Prefect
forget its parameters, and so its root (a server of version 3.9 takes those that are not said for none):
setup gives them back.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectNotFound

from services.setup.deployments import DEPLOY
from services.setup.plan import Change, Step, keep
from services.site import Site
from tasks.entries import joined

KIND = "schedule"
NIGHTLY: Final = "detect/nightly"
SWEEP: Final = "detect/sweep"

#: What the slugs of the schedules begin with that setup makes.
_OURS: Final = "root-"
#: Any moment will do, but always the same one: intervals are counted from it.
_ANCHOR: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LONGEST_NAME: Final = 40


def plan_schedules(client: SyncPrefectClient, site: Site) -> list[Step]:
    """What is to be done so that every root is looked at in time."""
    return [*_nights(client, site), *_sweeps(client, site)]


def slug_of(prefix: str) -> str:
    """The slug of a root's schedule: readable, and another for every other root."""
    readable = re.sub(r"[^a-z0-9]+", "-", prefix.lower())[-_LONGEST_NAME:].strip("-")
    parts = (readable, hashlib.sha256(prefix.encode()).hexdigest()[:8])
    return _OURS + "-".join(filter(None, parts))


def _nights(client: SyncPrefectClient, site: Site) -> Iterator[Step]:
    """What is declared in ``prefect.yaml`` counts one root; all others get a schedule for the same time."""
    deployment = _deployment(client, NIGHTLY)
    if deployment is None:
        return
    declared = [each for each in deployment.schedules if not _is_ours(each)]
    if not declared:  # no nights are wanted
        yield from _ours(client, NIGHTLY, deployment, {}, None)
        return
    missing = [prefix for prefix in site.prefixes if prefix not in map(_root, declared)]
    for each in declared:
        if _root(each) in site.prefixes:
            yield keep(KIND, _name(NIGHTLY, _root(each)))
        elif "prefix" in each.parameters or not missing:
            detail = f"'{_root(each)}' is not among the prefixes in the site file: its runs fail"
            yield keep(KIND, _name(NIGHTLY, _root(each)), detail, attention=True)
        else:  # it names no root, and means the storage's folder, which is none of the roots
            yield _moved(client, deployment.id, each, missing.pop(0))
    wanted = {prefix: _parameters(site, prefix) for prefix in missing}
    yield from _ours(client, NIGHTLY, deployment, wanted, declared[0])


def _sweeps(client: SyncPrefectClient, site: Site) -> Iterator[Step]:
    minutes = site.events.sweep_minutes
    deployment = _deployment(client, SWEEP)
    if deployment is not None:
        every = IntervalSchedule(interval=timedelta(minutes=minutes or 1), anchor_date=_ANCHOR)
        prefixes = site.prefixes if minutes else ()
        wanted = {prefix: _parameters(site, prefix) for prefix in prefixes}
        yield from _ours(client, SWEEP, deployment, wanted, DeploymentSchedule(schedule=every))
    elif minutes:
        waits = f"waits for the deployment {SWEEP}: {DEPLOY}, then `pollen setup` again"
        yield keep(KIND, SWEEP, waits, attention=True)


def _ours(
    client: SyncPrefectClient,
    path: str,
    deployment: DeploymentResponse,
    wanted: Mapping[str, dict[str, Any]],
    model: DeploymentSchedule | None,
) -> Iterator[Step]:
    """One schedule of ours for each of these roots, at the time of the model, and no other one of ours."""
    saved = {str(each.slug): each for each in deployment.schedules if _is_ours(each)}
    for prefix, parameters in wanted.items():
        assert model is not None
        new = DeploymentScheduleCreate(
            schedule=model.schedule,
            active=model.active,
            parameters=parameters,
            slug=slug_of(prefix),
        )
        yield _step(client, deployment.id, _name(path, prefix), new, saved.pop(str(new.slug), None))
    for left in saved.values():
        yield Step(
            Change(KIND, _name(path, _root(left)), "delete", "not wanted by the site file"),
            partial(client.delete_deployment_schedule, deployment.id, left.id),
        )


def _step(
    client: SyncPrefectClient,
    deployment: UUID,
    name: str,
    new: DeploymentScheduleCreate,
    saved: DeploymentSchedule | None,
) -> Step:
    if saved is None:
        return Step(
            Change(KIND, name, "create", _said(new.schedule)),
            partial(client.create_deployment_schedules, deployment, [new]),
        )
    differing = []
    if saved.schedule != new.schedule:
        differing.append(f"{_said(saved.schedule)} to {_said(new.schedule)}")
    if saved.parameters != new.parameters:
        differing.append("its root was forgotten" if not saved.parameters else "parameters")
    if differing:
        return Step(
            Change(KIND, name, "update", "; ".join(differing)),
            partial(
                client.update_deployment_schedule,
                deployment,
                saved.id,
                schedule=new.schedule,
                parameters=new.parameters,
            ),
        )
    if not saved.active:
        return keep(KIND, name, "paused: no run starts by it", attention=True)
    return keep(KIND, name, _said(saved.schedule))


def _moved(
    client: SyncPrefectClient, deployment: UUID, saved: DeploymentSchedule, prefix: str
) -> Step:
    """Let a declared schedule that names no root count this one."""
    return Step(
        Change(KIND, _name(NIGHTLY, prefix), "update", "'' is not among the prefixes"),
        partial(
            client.update_deployment_schedule,
            deployment,
            saved.id,
            parameters={**saved.parameters, "prefix": prefix},
        ),
    )


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse | None:
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        return None


def _parameters(site: Site, prefix: str) -> dict[str, Any]:
    return {"bucket": site.storage.block, "prefix": prefix or None}


def _is_ours(schedule: DeploymentSchedule) -> bool:
    return (schedule.slug or "").startswith(_OURS)


def _root(schedule: DeploymentSchedule) -> str:
    """The root that a schedule's runs count."""
    return joined(schedule.parameters.get("prefix") or "")


def _name(path: str, prefix: str) -> str:
    return f"{path} of {prefix}" if prefix else path


def _said(schedule: SCHEDULE_TYPES) -> str:
    """When it starts runs, in words."""
    if isinstance(schedule, IntervalSchedule):
        return f"every {schedule.interval.total_seconds() / 60:g} minutes"
    if isinstance(schedule, CronSchedule):
        return f"{schedule.cron} ({schedule.timezone})"
    return "by its rule"
