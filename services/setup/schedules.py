"""Plan the schedules: every root is counted at night, and swept as often as the site file says.

`prefect deploy` changes the schedules that `prefect.yaml` names, by their slug, and leaves all others unchanged.
The schedules that setup makes have slugs with a prefix, and only those are changed or deleted. Whether a schedule is
paused is up to the people who run the server. When one is paused or resumed, Prefect forgets its parameters and so
its root (a server of version 3.9 clears parameters that a request leaves out): setup restores them.
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

from services.setup.plan import Change, Step, keep
from services.site import Site
from tasks.cluster.deploy_hint import DEPLOY
from tasks.storage.objects import join_key

KIND = "schedule"
NIGHTLY: Final = "detect/nightly"
SWEEP: Final = "detect/sweep"

#: Beginning of the slugs of schedules that setup makes.
_OURS: Final = "root-"
#: A fixed moment from which intervals are counted.
_ANCHOR: Final = datetime(2026, 1, 1, tzinfo=UTC)
_LONGEST_NAME: Final = 40
#: Block whose bucket the flows count by default.
_FLOWS_OWN: Final = "pollen"


def plan_schedules(client: SyncPrefectClient, site: Site) -> list[Step]:
    """Plan the schedules of every root."""
    return [*_nights(client, site), *_sweeps(client, site)]


def slug_of(prefix: str) -> str:
    """Return the slug of a root's schedule: readable, and different for every root."""
    readable = re.sub(r"[^a-z0-9]+", "-", prefix.lower())[-_LONGEST_NAME:].strip("-")
    parts = (readable, hashlib.sha256(prefix.encode()).hexdigest()[:8])
    return _OURS + "-".join(filter(None, parts))


def _nights(client: SyncPrefectClient, site: Site) -> Iterator[Step]:
    """Plan the nights: the schedule in `prefect.yaml` counts one root, the others get one for the same time."""
    deployment = _deployment(client, NIGHTLY)
    if deployment is None:
        return
    declared = [each for each in deployment.schedules if not _is_ours(each)]
    if not declared:  # no nights are wanted
        yield from _ours(client, NIGHTLY, deployment, {}, None)
        return
    covered = {_root(each) for each in declared if _bucket(each) in (None, site.storage.block)}
    missing = [prefix for prefix in site.prefixes if prefix not in covered]
    for each in declared:
        yield _declared(client, deployment, each, site, missing)
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
        waits = f"waits for the deployment {SWEEP}: {DEPLOY}; then `pollen setup` again"
        yield keep(KIND, SWEEP, waits, attention=True)


def _ours(
    client: SyncPrefectClient,
    path: str,
    deployment: DeploymentResponse,
    wanted: Mapping[str, dict[str, Any]],
    model: DeploymentSchedule | None,
) -> Iterator[Step]:
    """Plan one schedule of ours for each wanted root, at the time of the model; delete all others of ours."""
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
            Change(KIND, _name(path, _root(left)), "delete", "not in the site file"),
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
            Change(KIND, name, "create", _described(new.schedule)),
            partial(client.create_deployment_schedules, deployment, [new]),
        )
    differing = []
    if saved.schedule != new.schedule:
        differing.append(f"{_described(saved.schedule)} to {_described(new.schedule)}")
    if saved.parameters != new.parameters:
        differing.append("its root is lost" if not saved.parameters else "parameters")
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
        return keep(KIND, name, "paused: it starts no runs", attention=True)
    return keep(KIND, name, _described(saved.schedule))


def _declared(
    client: SyncPrefectClient,
    deployment: DeploymentResponse,
    saved: DeploymentSchedule,
    site: Site,
    missing: list[str],
) -> Step:
    """Let a declared schedule count this site's storage, and one of its roots.

    Its own parameters stay. A schedule without a root means the storage's folder; if that is not one of the roots,
    it gets the first of those that are `missing`.
    """
    block, root = site.storage.block, _root(saved)
    if _bucket(saved) not in (None, block):
        detail = f"counts block '{_bucket(saved)}', not '{block}' of the site file"
        return keep(KIND, _name(NIGHTLY, root), detail)
    given: dict[str, Any] = {}
    why = []
    if root not in site.prefixes:
        if "prefix" in saved.parameters or not missing:
            detail = f"'{root}' is not among the prefixes in the site file: its runs fail"
            return keep(KIND, _name(NIGHTLY, root), detail, attention=True)
        root = given["prefix"] = missing.pop(0)
        why.append("'' is not among the prefixes")
    if _bucket(saved) is None and deployment.parameters.get("bucket", _FLOWS_OWN) != block:
        given["bucket"] = block
        why.append(f"its block is '{block}'")
    if not given:
        return keep(KIND, _name(NIGHTLY, root))
    return Step(
        Change(KIND, _name(NIGHTLY, root), "update", "; ".join(why)),
        partial(
            client.update_deployment_schedule,
            deployment.id,
            saved.id,
            parameters={**saved.parameters, **given},
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


def _bucket(schedule: DeploymentSchedule) -> str | None:
    """Return the block that a schedule names for its runs."""
    named: str | None = schedule.parameters.get("bucket")
    return named


def _root(schedule: DeploymentSchedule) -> str:
    """Return the root that a schedule's runs count."""
    return join_key(schedule.parameters.get("prefix") or "")


def _name(path: str, prefix: str) -> str:
    return f"{path} of {prefix}" if prefix else path


def _described(schedule: SCHEDULE_TYPES) -> str:
    """Describe when it starts runs."""
    if isinstance(schedule, IntervalSchedule):
        return f"every {schedule.interval.total_seconds() / 60:g} minutes"
    if isinstance(schedule, CronSchedule):
        return f"{schedule.cron} ({schedule.timezone})"
    return "by its own rule"
