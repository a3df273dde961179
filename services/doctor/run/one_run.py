"""`pollen doctor RUN`: find one flow run, gather its facts from server and cluster, and explain it."""

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
from services.doctor.checking import (
    CHECK_SECONDS,
    CONNECT_SECONDS,
    READ_SECONDS,
    About,
    collect,
    in_thread,
)
from services.doctor.cluster_access import Access, cluster, find_access
from services.doctor.finding import Category, Finding, Level
from services.doctor.run.explain import explain
from services.doctor.run.facts import RunFacts
from services.doctor.run.from_cluster import of_run
from services.doctor.run.from_server import children_of, gather
from services.prefect_server.connection import connected, explained_server, without_password
from services.prefect_server.finding_runs import Found, find_run

_ABOUT = About(Category.RUN)
KUBERNETES: Final = "kubernetes"


def explain_run(name: str) -> list[Finding]:
    """Find a flow run and explain its state.

    Args:
        name: Name or id of the run.
    """
    if get_current_settings().api.url is None:
        return [
            _ABOUT.error(
                "PREFECT_API_URL is not set: no server can be asked for the run",
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
    found = await anext(in_thread(lambda: [_find(name)]))
    if found.run is None:
        yield _ABOUT.error(found.not_found, resolution=found.remedy)
        return
    if found.namesakes:
        yield _ABOUT.info(
            f"{found.namesakes + 1} runs have this name; this is the newest",
            resolution="name one of the others by its id, which the Prefect UI shows",
        )
    shown = without_password(str(get_current_settings().api.url))
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    with explained_server(shown):
        async with get_client(httpx_settings={"timeout": timeout}) as client:
            for finding in await _of(client, found.run):
                yield finding
            for finding in await _of_children(client, found.run):
                yield finding


def _find(name: str) -> Found:
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS, reads_pools=False) as client:
        return find_run(client, name)


async def _of(client: PrefectClient, run: FlowRun) -> list[Finding]:
    """Explain one run, without the runs that it started."""
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
    """Add what the cluster has of the run to the facts, or a note why it was not asked."""
    job = (facts.run.infrastructure_pid or "").partition(":")[0]
    try:
        access = find_access(job or facts.variable("namespace"))
        if access is None:
            return facts, [_ABOUT.info("there is no kubeconfig here: its pods were not checked")]
        return await _from_cluster(facts, access), []
    except PollenError as error:
        return facts, [_ABOUT.info(f"its pods were not checked: {error}")]
    except Exception as error:  # the server's facts are worth showing without the cluster's
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        return facts, [_ABOUT.info(f"its pods were not checked: unexpected error ({error!r})")]


async def _from_cluster(facts: RunFacts, access: Access) -> RunFacts:
    async with cluster(access) as client:
        try:
            there = await of_run(client, access.namespace, facts.run.id)
        except ApiException as error:
            raise PollenError(
                f"Jobs and pods in '{access.namespace}' can't be read ({error.status} {error.reason})"
            ) from error
    # The status of a present pod counts more than earlier reports, which may be outdated.
    before = () if there.pods and facts.state.is_pending() else facts.problems
    return replace(facts, pods=there.pods, problems=(*before, *there.problems))


async def _of_children(client: PrefectClient, run: FlowRun) -> list[Finding]:
    """Explain the runs that this one started: the good ones in one line, the others each."""
    children = await children_of(client, run)
    if not children:
        return []
    all_facts = await asyncio.gather(*(gather(client, child) for child in children))
    explained = [(facts.run.name, explain(facts)) for facts in all_facts]
    bad = [(name, found) for name, found in explained if found[0].level is not Level.OK]
    number = len(children)
    if run.state is not None and run.state.is_completed():
        ended = f"; {len(bad)} of them did not end well, and others did their work" if bad else ""
        return [_ABOUT.ok(f"it started {number} runs{ended}")]
    good = number - len(bad)
    return [
        _ABOUT.ok(f"{good} of the {number} runs that it started are running or done"),
        *(
            replace(finding, summary=f"'{name}', started by it: {finding.summary}")
            for name, found in bad
            for finding in found
        ),
    ]
