"""The Prefect server: reached, of which version, who may use it; what setup made there and what it lacks."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import httpx
import prefect
from packaging.version import Version
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import get_current_settings

from services.doctor.checking import CONNECT_SECONDS, About
from services.doctor.finding import Category, Finding
from services.doctor.troubles import start_worker
from services.setup.automations import plan_automations
from services.setup.blocks import plan_blocks
from services.setup.limits import plan_limits
from services.setup.plan import Change, Step
from services.setup.pools import plan_pools
from services.setup.server import connected, without_password
from services.site import Site

#: Seconds a request to the server may take.
READ_SECONDS: Final = 8.0

_ABOUT = About(Category.PREFECT)
_POOLS = About(Category.POOLS)
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def look_at_server() -> Iterator[Finding]:
    """Whether the server answers and lets us in, and whether it is one that fits.

    Raises:
        PollenError: It does not; the message holds the remedy.
    """
    settings = get_current_settings()
    url = str(settings.api.url)
    shown = without_password(url)
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        yield _ABOUT.ok(f"the Prefect server at {shown} answers and lets us in")
        yield _version(client.api_version())
    yield from _open_to_all(url)
    if settings.api.tls_insecure_skip_verify:
        yield _ABOUT.warning(
            "the Prefect server's certificate is not checked (PREFECT_API_TLS_INSECURE_SKIP_VERIFY)",
            resolution="unset it, and name the server's CA file as PREFECT_API_SSL_CERT_FILE",
        )


def _version(server: str) -> Finding:
    ours = prefect.__version__
    there, here = Version(server), Version(ours)
    if there == here:
        return _ABOUT.ok(f"server and client are of one version ({ours})")
    summary = f"the Prefect server is of version {server}, this program of {ours}"
    resolution = (
        "bring server, worker and image to one version (the image of this project holds all three)"
    )
    if there.major != here.major:
        return _ABOUT.error(summary, "they don't understand one another", resolution)
    newer = "an older server may refuse what this client sends" if there < here else ""
    return _ABOUT.warning(summary, newer, resolution)


def _open_to_all(url: str) -> Iterator[Finding]:
    """Ask without a password: blocks' secrets are given to everyone who is let in."""
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        answer = httpx.post(
            f"{bare.rstrip('/')}/work_pools/filter", json={"limit": 1}, timeout=CONNECT_SECONDS
        )
    except httpx.HTTPError:  # such as an authority that only Prefect's client was told of
        yield _ABOUT.info("whether the server asks for a password was not looked at")
        return
    if answer.status_code in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        yield _ABOUT.ok("the server lets nobody in without a password")
    elif answer.is_success and parts.hostname in _LOOPBACK:
        yield _ABOUT.info(
            "the server asks for no password: fine while only this machine reaches it"
        )
    elif answer.is_success:
        yield _ABOUT.warning(
            "the server asks for no password: whoever reaches it can start runs and read the keys in blocks",
            resolution="set PREFECT_SERVER_API_AUTH_STRING on the server and PREFECT_API_AUTH_STRING for worker, runs "
            "and people",
        )


Planner = Callable[[SyncPrefectClient, Site], list[Step]]
#: What setup looks after, by the kind of finding.
PLANNERS: Final[dict[Category, Planner]] = {
    Category.BLOCKS: plan_blocks,
    Category.POOLS: plan_pools,
    Category.LIMITS: plan_limits,
    Category.AUTOMATIONS: plan_automations,
}


def look_at_setup(category: Category, site: Site) -> Iterator[Finding]:
    """Compare what is declared with what is on the server, as `pollen setup` does; changes nothing."""
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        for step in PLANNERS[category](client, site):
            yield as_finding(About(category), step.change, site)


def as_finding(about: About, change: Change, site: Site) -> Finding:
    """What a change that setup would make says of the present."""
    name = f"{change.kind} '{change.name}'"
    remedy = "run `pollen setup` (first with --dry-run: it shows what it will change)"
    if change.action == "create":
        missing = about.warning if about.category is Category.AUTOMATIONS else about.error
        return missing(f"{name} is missing", change.detail, remedy)
    if change.action == "update":
        return about.warning(f"{name} is not as declared", change.detail, remedy)
    if change.action == "delete":
        return about.warning(f"{name} is not declared any more", change.detail, remedy)
    if not change.attention:
        return about.ok(f"{name} is as declared", change.detail)
    on_cluster = any(pool.type == "kubernetes" for pool in site.pools.values())
    if "holds keys" in change.detail and not on_cluster:
        return about.info(name, change.detail)
    return about.warning(f"{name} wants a look", change.detail)


def look_at_workers(names: Iterable[str]) -> Iterator[Finding]:
    """Whether somebody takes runs from the pools."""
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        for name in names:
            try:
                pool = client.read_work_pool(name)
            except ObjectNotFound:
                yield _POOLS.info(f"workers of pool '{name}' not looked at: the pool is missing")
                continue
            if pool.is_paused:
                yield _POOLS.error(
                    f"work pool '{name}' is paused: its runs wait",
                    resolution=f"prefect work-pool resume {name}",
                )
            yield _workers(client, name, pool.type)


def _workers(client: SyncPrefectClient, name: str, kind: str) -> Finding:
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    if online:
        return _POOLS.ok(
            f"work pool '{name}' has {len(online)} online worker(s)", ", ".join(online)
        )
    seen = max((w.last_heartbeat_time for w in workers if w.last_heartbeat_time), default=None)
    detail = "none ever was"
    if seen is not None:
        minutes = (datetime.now(UTC) - seen).total_seconds() / 60
        detail = f"the last sign of life is {minutes:.0f} minutes old"
    return _POOLS.error(
        f"no worker is online for work pool '{name}': its runs wait",
        detail,
        start_worker(name, kind),
    )
