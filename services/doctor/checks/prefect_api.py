"""The Prefect server: reached, of which version, who may use it; what setup made there and what it lacks."""

from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import httpx
import prefect
from packaging.version import Version
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import get_current_settings

from services.doctor.checking import CONNECT_SECONDS, READ_SECONDS, About
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import connected, without_password
from services.setup.automations import plan_automations
from services.setup.blocks import plan_blocks
from services.setup.limits import plan_limits
from services.setup.plan import Change, Step
from services.setup.pools import plan_pools
from services.site import Site

_ABOUT = About(Category.PREFECT)
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def check_server() -> Iterator[Finding]:
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


def check_setup(category: Category, site: Site) -> Iterator[Finding]:
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
