"""What `pollen run` does: starts a deployment, tells where its run is seen, and watches it if asked to."""

from collections.abc import Callable, Iterable

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound
from prefect.utilities.urls import url_for

from pollen.errors import PollenError
from services.commands.running import guarded
from services.console import ERR, OUT, set_up_logging
from services.doctor.checks.workers import check_workers
from services.doctor.finding import Level
from services.exit_codes import DONE
from services.prefect_server.connection import connected
from services.prefect_server.finding_runs import find
from services.runs.orders import RunOrder
from services.runs.watching import watch
from tasks.cluster.deploy_hint import DEPLOY


def run_deployed(
    order: Callable[[], RunOrder], *, watch: bool = False, verbose: bool = False
) -> int:
    """Start a run, and watch it until its end if asked to.

    Args:
        order: Makes the order; raises where a setting can't be used.
        watch: Whether to watch.
        verbose: Tell every step.

    Returns:
        The exit code: of the run where it was watched, else 0 where it was started.
    """
    set_up_logging(verbose=verbose)
    return _guarded(lambda: _run(order(), watched=watch), verbose=verbose)


def watch_again(run: str, *, verbose: bool = False) -> int:
    """Watch a run that was started before; returns the exit code of the run."""
    set_up_logging(verbose=verbose)
    return _guarded(lambda: _watch(run), verbose=verbose)


def _guarded(work: Callable[[], int], *, verbose: bool) -> int:
    return guarded(
        work,
        stopped="stopped; a run that was started goes on",
        kept="a run that was started goes on, and the Prefect UI shows it",
        verbose=verbose,
    )


def _run(order: RunOrder, *, watched: bool) -> int:
    with connected() as client:
        deployment = _deployment(client, order.deployment)
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters=order.parameters(deployment.parameters or {})
        )
        _say(f"started '{run.name}' ({order.deployment})")
        _say(f"id {run.id}")
        if link := url_for("flow-run", run.id):
            _say(link)
        _hint(_pools(client, deployment, order.also))
        if watched:
            return watch(client, run)
    ERR.print(f"to watch it: pollen run watch {run.id}", highlight=False, soft_wrap=True)
    return DONE


def _deployment(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    """The deployment of a name.

    Raises:
        PollenError: There is none.
    """
    if "/" not in name:
        raise PollenError(
            f"'{name}' is no name of a deployment: expected that of the flow too, such as detect/on-demand"
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
    """Work pools that the run needs, its own first."""
    names = [deployment.work_pool_name]
    for name in also:
        try:
            names.append(client.read_deployment_by_name(name).work_pool_name)
        except ObjectNotFound:
            _hint_line(f"there is no deployment '{name}', which the run needs: {DEPLOY}")
    return [name for name in dict.fromkeys(names) if name]


def _hint(pools: Iterable[str]) -> None:
    """Say at once what a person would else find out after minutes."""
    for finding in check_workers(pools):
        if finding.level is not Level.OK:
            _hint_line(f"{finding.summary}. {finding.resolution}")


def _hint_line(text: str) -> None:
    ERR.print("[yellow]Note:[/] ", end="")
    ERR.print(text, markup=False, highlight=False, soft_wrap=True)


def _watch(name: str) -> int:
    with connected() as client:
        run: FlowRun = find(client, name)
        _say(f"watching '{run.name}'")
        return watch(client, run)


def _say(text: str) -> None:
    OUT.print(text, markup=False, highlight=False, soft_wrap=True)
