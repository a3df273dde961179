"""`pollen run`: start a deployment, print the address of its run, and watch it on request."""

from collections.abc import Callable, Iterable

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from pollen.errors import PollenError
from services.commands.shared import guarded
from services.console import remark, say, set_up_logging
from services.doctor.checks.workers import check_workers
from services.doctor.finding import Level
from services.exit_codes import DONE
from services.prefect_server.connection import connected
from services.prefect_server.finding_runs import find_run
from services.runs.orders import RunOrder
from services.runs.watching import watch
from tasks.cluster.deploy_hint import DEPLOY


def run_deployed(
    order: Callable[[], RunOrder], *, watch: bool = False, verbose: bool = False
) -> int:
    """Start a run, and watch it until its end on request.

    Args:
        order: Makes the order; raises if a setting can't be used.
        watch: Whether to watch.
        verbose: Show every step.

    Returns:
        The exit code: of the run if it was watched, else 0 if it was started.
    """
    set_up_logging(verbose=verbose)
    return _guarded(lambda: _run(order(), watched=watch), verbose=verbose)


def watch_again(run: str, *, verbose: bool = False) -> int:
    """Watch a run that was started earlier; return the exit code of the run."""
    set_up_logging(verbose=verbose)
    return _guarded(lambda: _watch(run), verbose=verbose)


def _guarded(work: Callable[[], int], *, verbose: bool) -> int:
    return guarded(
        work,
        stopped="stopped. If a run was started, it continues",
        kept="if a run was started, it continues, and the Prefect UI shows it",
        verbose=verbose,
    )


def _run(order: RunOrder, *, watched: bool) -> int:
    with connected() as client:
        deployment = _deployment(client, order.deployment)
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters=order.parameters(deployment.parameters or {})
        )
        say(f"started '{run.name}' ({order.deployment})")
        say(f"id {run.id}")
        if link := url_for("flow-run", run.id):
            say(link)
        _note_missing_workers(_pools(client, deployment, order.also))
        if watched:
            return watch(client, run)
    remark(f"to watch it: pollen run watch {run.id}")
    return DONE


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """Read a deployment by its name.

    Raises:
        PollenError: If there is none.
    """
    if "/" not in name:
        raise PollenError(
            f"'{name}' is not the name of a deployment: expected FLOW/NAME, such as detect/on-demand"
        )
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound as error:
        raise PollenError(
            f"there is no deployment '{name}' on the Prefect server: run `pollen setup`, then {DEPLOY}"
        ) from error


def _pools(
    client: SyncPrefectClient, deployment: DeploymentResponse, also: Iterable[str]
) -> list[str]:
    """Return the names of the work pools that the run needs, its own first."""
    names = [deployment.work_pool_name]
    for name in also:
        try:
            names.append(client.read_deployment_by_name(name).work_pool_name)
        except ObjectNotFound:
            _note(f"there is no deployment '{name}', which the run needs: {DEPLOY}")
    return [name for name in dict.fromkeys(names) if name]


def _note_missing_workers(pools: Iterable[str]) -> None:
    """Report missing workers at once: otherwise a person would notice only after minutes."""
    for finding in check_workers(pools):
        if finding.level is not Level.OK:
            _note(f"{finding.summary}. {finding.resolution}")


def _note(text: str) -> None:
    remark(text, "[yellow]Note:[/] ")


def _watch(name: str) -> int:
    with connected() as client:
        found = find_run(client, name)
        if found.run is None:
            raise PollenError(f"{found.not_found}: {found.remedy}")
        say(f"watching '{found.run.name}'")
        return watch(client, found.run)
