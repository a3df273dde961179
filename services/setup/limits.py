"""Plan one global concurrency limit per root: without it, no detection starts there."""

from functools import partial

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse

from services.setup.plan import Change, Step, keep
from services.site import Site
from tasks.cluster.turns import limit_name, limit_prefix
from tasks.storage.store import Location

KIND = "limit"
_PAGE = 200


def roots(site: Site) -> tuple[Location, ...]:
    """Return the roots of a site, as flows name them."""
    return tuple(Location(block=site.storage.block, prefix=prefix) for prefix in site.prefixes)


def plan_limits(client: SyncPrefectClient, site: Site) -> list[Step]:
    """Plan the limits of this site's roots."""
    existing = {limit.name: limit for limit in _all_limits(client)}
    steps = []
    for root in roots(site):
        name = limit_name(root)
        steps.append(_step(client, name, root.address, existing.pop(name, None)))
    # Other laboratories may share the server, with limits of their own.
    ours = limit_prefix(site.storage.block)
    stale = [limit for name, limit in existing.items() if name.startswith(ours)]
    return steps + [_removal(client, limit) for limit in stale]


def _all_limits(client: SyncPrefectClient) -> list[GlobalConcurrencyLimitResponse]:
    found: list[GlobalConcurrencyLimitResponse] = []
    while True:
        page = client.read_global_concurrency_limits(limit=_PAGE, offset=len(found))
        found += page
        if len(page) < _PAGE:
            return found


def _step(
    client: SyncPrefectClient, name: str, place: str, saved: GlobalConcurrencyLimitResponse | None
) -> Step:
    if saved is None:
        wanted = GlobalConcurrencyLimitCreate(name=name, limit=1)
        return Step(
            Change(KIND, name, "create", f"one detection at a time in {place}"),
            partial(client.create_global_concurrency_limit, wanted),
        )
    differences = []
    if saved.limit != 1:
        differences.append(f"slots: {saved.limit} to 1")
    if not saved.active:
        differences.append("switched on")
    if saved.slot_decay_per_second:
        differences.append("runs release its slot, not time")
    if not differences:
        return keep(KIND, name, place)
    # Slots in use are not touched: a run may be active.
    update = GlobalConcurrencyLimitUpdate(limit=1, active=True, slot_decay_per_second=0)
    return Step(
        Change(KIND, name, "update", "; ".join(differences)),
        partial(client.update_global_concurrency_limit, name, update),
    )


def _removal(client: SyncPrefectClient, saved: GlobalConcurrencyLimitResponse) -> Step:
    """Plan the limit of a root that the site file no longer names; it stays as long as a run uses it."""
    if saved.active_slots:
        return keep(
            KIND,
            saved.name,
            "not in the site file, but a run uses it: run `pollen setup` again later",
            attention=True,
        )
    return Step(
        Change(KIND, saved.name, "delete", "its root is no longer in the site file"),
        partial(client.delete_global_concurrency_limit_by_name, saved.name),
    )
