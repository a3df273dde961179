"""`pollen doctor RUN`: one flow run found, its facts gathered from server and cluster, and explained."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import httpx
from kubernetes_asyncio.client.exceptions import ApiException
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings
from prefect.utilities.urls import url_for

from pollen.errors import PollenError
from services.doctor.checking import CHECK_SECONDS, CONNECT_SECONDS, READ_SECONDS, About, collect
from services.doctor.cluster_access import Access, cluster, find_access
from services.doctor.finding import Category, Finding, Level
from services.doctor.run.explain import explain
from services.doctor.run.facts import RunFacts
from services.doctor.run.from_cluster import of_run
from services.doctor.run.from_server import children_of, find_run, gather
from services.prefect_server.connection import explained_server, without_password

_ABOUT = About(Category.RUN)
KUBERNETES: Final = "kubernetes"


def explain_run(name: str) -> list[Finding]:
    """Find a flow run and say why it is where it is.

    Args:
        name: Its name or id.
    """
    if get_current_settings().api.url is None:
        return [
            _ABOUT.error(
                "PREFECT_API_URL is not set: there is no server to ask for the run",
                resolution="set it to the server's address, such as http://127.0.0.1:4200/api",
            )
        ]
    found: list[Finding] = []
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        asyncio.run(
            collect(_ABOUT, f"run '{name}'", _explained(name), found, seconds=2 * CHECK_SECONDS)
        )
    return found


async def _explained(name: str) -> AsyncIterator[Finding]:
    shown = without_password(str(get_current_settings().api.url))
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    with explained_server(shown):
        async with get_client(httpx_settings={"timeout": timeout}) as client:
            found = await find_run(client, name)
            if found.run is None:
                near = ", ".join(f"'{each}'" for each in found.near)
                yield _ABOUT.error(
                    f"there is no flow run with the name or id '{name}'",
                    resolution=f"perhaps you mean {near}"
                    if near
                    else "the Prefect UI lists all runs",
                )
                return
            if found.namesakes:
                yield _ABOUT.info(
                    f"{found.namesakes + 1} runs have this name; this is the newest",
                    resolution="the others are found by their ids, which the Prefect UI shows",
                )
            for finding in await _of(client, found.run):
                yield finding
            for finding in await _of_children(client, found.run):
                yield finding


async def _of(client: PrefectClient, run: FlowRun) -> list[Finding]:
    """All about one run."""
    facts = await gather(client, run)
    notes: list[Finding] = []
    if facts.pool is not None and facts.pool.kind == KUBERNETES:
        facts, notes = await _with_cluster(facts)
    return [_header(facts), *explain(facts), *notes]


def _header(facts: RunFacts) -> Finding:
    run = facts.run
    where = facts.deployment or "no deployment"
    pool = f", pool '{facts.pool.name}'" if facts.pool else ""
    since = f"{facts.state.timestamp:%Y-%m-%d %H:%M UTC}"
    link = url_for("flow-run", run.id) or ""
    return _ABOUT.info(
        f"run '{run.name}' ({where}{pool}) is {facts.state.name} since {since}",
        "\n".join(part for part in (f"id {run.id}", link) if part),
    )


async def _with_cluster(facts: RunFacts) -> tuple[RunFacts, list[Finding]]:
    """The facts, with what the cluster has of the run, or why it was not looked at."""
    job = (facts.run.infrastructure_pid or "").partition(":")[0]
    try:
        access = find_access(job or facts.variable("namespace"))
        if access is None:
            return facts, [_ABOUT.info("there is no kubeconfig here: its pods were not looked at")]
        return await _asked(facts, access), []
    except PollenError as error:
        return facts, [_ABOUT.info(f"its pods were not looked at: {error}")]
    except (
        Exception
    ) as error:  # what the server says of the run is worth more than the cluster's part
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        return facts, [_ABOUT.info(f"its pods were not looked at: unexpected error ({error!r})")]


async def _asked(facts: RunFacts, access: Access) -> RunFacts:
    async with cluster(access) as client:
        try:
            there = await of_run(client, access.namespace, facts.run.id)
        except ApiException as error:
            raise PollenError(
                f"Jobs and pods in '{access.namespace}' can't be read ({error.status} {error.reason})"
            ) from error
    # A pod that is there now speaks for itself: what was said of it before may be over.
    before = () if there.pods and facts.state.is_pending() else facts.problems
    return replace(facts, pods=there.pods, problems=(*before, *there.problems))


async def _of_children(client: PrefectClient, run: FlowRun) -> list[Finding]:
    """The runs that this one started: those that did well in one line, the others explained."""
    children = await children_of(client, run)
    if not children:
        return []
    all_facts = await asyncio.gather(*(gather(client, child) for child in children))
    explained = [(facts.run.name, explain(facts)) for facts in all_facts]
    bad = [(name, found) for name, found in explained if found[0].level is not Level.OK]
    number = len(children)
    if run.state is not None and run.state.is_completed():
        ended = f", {len(bad)} of which did not end well; others made up for them" if bad else ""
        return [_ABOUT.ok(f"it started {number} runs{ended}")]
    good = number - len(bad)
    return [
        _ABOUT.ok(f"{good} of the {number} runs that it started are at work or done"),
        *(
            replace(finding, summary=f"'{name}', started by it: {finding.summary}")
            for name, found in bad
            for finding in found
        ),
    ]
