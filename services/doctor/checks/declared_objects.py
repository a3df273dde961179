"""Check the objects that setup makes on the Prefect server: blocks, pools, limits and automations."""

from collections.abc import Callable, Iterator
from typing import Final

from prefect.client.orchestration import SyncPrefectClient

from services.doctor.checking import CONNECT_SECONDS, READ_SECONDS, About
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import connected
from services.setup.automations import plan_automations
from services.setup.blocks import plan_blocks
from services.setup.limits import plan_limits
from services.setup.plan import Change, Step
from services.setup.pools import plan_pools
from services.site import Site

Planner = Callable[[SyncPrefectClient, Site], list[Step]]
#: Planners of setup, by the category of their findings.
PLANNERS: Final[dict[Category, Planner]] = {
    Category.BLOCKS: plan_blocks,
    Category.POOLS: plan_pools,
    Category.LIMITS: plan_limits,
    Category.AUTOMATIONS: plan_automations,
}


def check_declared(category: Category, site: Site) -> Iterator[Finding]:
    """Compare the server with what is declared, as `pollen setup` does; change nothing."""
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        for step in PLANNERS[category](client, site):
            yield _as_finding(About(category), step.change, site)


def _as_finding(about: About, change: Change, site: Site) -> Finding:
    """Turn a change that setup would make into a finding about the present."""
    name = f"{change.kind} '{change.name}'"
    remedy = "run `pollen setup` (with --dry-run first, to see the changes)"
    if change.action == "create":
        missing = about.warning if about.category is Category.AUTOMATIONS else about.error
        return missing(f"{name} is missing", change.detail, remedy)
    if change.action == "update":
        return about.warning(f"{name} differs from what is declared", change.detail, remedy)
    if change.action == "delete":
        return about.warning(f"{name} is no longer declared", change.detail, remedy)
    if not change.attention:
        return about.ok(f"{name} is as declared", change.detail)
    on_cluster = any(pool.type == "kubernetes" for pool in site.pools.values())
    if "holds keys" in change.detail and not on_cluster:
        return about.info(name, change.detail)
    return about.warning(f"{name} needs attention", change.detail)
