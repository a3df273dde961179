"""Plan the deployments: `prefect deploy` makes them, setup deletes those that are no longer in `prefect.yaml`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowFilter,
    FlowFilterId,
)
from prefect.client.schemas.responses import DeploymentResponse
from prefect.flows import load_flow_arguments_from_entrypoint

from pollen.errors import PollenError
from services.setup.plan import Change, Step, keep
from services.setup.pools import pools_without_gpus
from services.site import Site, deployments_folder

KIND = "deployment"
#: Tag of all our deployments, and of no others: those that are no longer in `prefect.yaml` are deleted.
TAG: Final = "pollen"
_PAGE = 200


@dataclass(frozen=True)
class DeclaredDeployment:
    """A deployment in `prefect.yaml`.

    Attributes:
        name: Name with that of the flow, such as `detect/nightly`.
        pool: Its work pool; None if it names none.
    """

    name: str
    pool: str | None


def declared_deployments(path: Path | None = None) -> tuple[DeclaredDeployment, ...]:
    """Read the deployments of `prefect.yaml`.

    Args:
        path: Path of a `prefect.yaml`; None for the application's.

    Raises:
        PollenError: If it is missing or can't be used.
    """
    path = path or deployments_folder().parent / "prefect.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = tuple(_declared(path.parent, each) for each in data["deployments"])
    except FileNotFoundError as error:
        raise PollenError(
            f"{error.filename} does not exist: run this in a complete checkout"
        ) from error
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise PollenError(
            f"{path} can't be used: expected 'deployments', each with 'name' and the 'entrypoint' of a flow "
            f"({type(error).__name__}: {error})"
        ) from error
    if not found:
        # Otherwise all deployments on the server would be deleted.
        raise PollenError(f"{path} declares no deployment")
    return found


def deploy_command(site: Site) -> str:
    """Return the command that deploys `prefect.yaml` for a site.

    Raises:
        PollenError: If the site file's pools can't be used.
    """
    in_pods = any(pool.type == "kubernetes" for pool in site.pools.values())
    given = [
        *(["POLLEN_IMAGE=<image with its tag>"] if in_pods else []),
        *(["POLLEN_DEVICE=cpu"] if pools_without_gpus(site) else []),
    ]
    return " ".join([*given, "prefect --no-prompt deploy --all"])


def plan_deployments(
    client: SyncPrefectClient, declared: tuple[DeclaredDeployment, ...]
) -> tuple[list[Step], list[str]]:
    """Plan the deployments on the server, and find the missing ones.

    Returns:
        Steps for those on the server, and the names of those that `prefect deploy` still has to make.
    """
    saved = _ours(client)
    names = {each.name for each in declared}
    steps = [
        keep(KIND, name) if name in names else _removal(client, name, deployment)
        for name, deployment in sorted(saved.items())
    ]
    return steps, sorted(names - saved.keys())


def _declared(folder: Path, entry: dict[str, Any]) -> DeclaredDeployment:
    file, _, function = entry["entrypoint"].rpartition(":")
    # Read from the source, not imported: a flow's module may import what is not installed here.
    flow = load_flow_arguments_from_entrypoint(f"{folder / file}:{function}", {"name"})["name"]
    return DeclaredDeployment(f"{flow}/{entry['name']}", (entry.get("work_pool") or {}).get("name"))


def _ours(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Return the deployments with our tag, by `flow/name`."""
    tagged = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found: list[DeploymentResponse] = []
    while True:
        page = client.read_deployments(deployment_filter=tagged, limit=_PAGE, offset=len(found))
        found += page
        if len(page) < _PAGE:
            break
    if not found:
        return {}
    ids = sorted({deployment.flow_id for deployment in found})
    flows = client.read_flows(flow_filter=FlowFilter(id=FlowFilterId(any_=ids)), limit=_PAGE)
    names = {flow.id: flow.name for flow in flows}
    return {f"{names[each.flow_id]}/{each.name}": each for each in found}


def _removal(client: SyncPrefectClient, name: str, deployment: DeploymentResponse) -> Step:
    detail = f"has the tag {TAG} and is no longer in prefect.yaml; its finished runs stay"
    return Step(
        Change(KIND, name, "delete", detail), partial(client.delete_deployment, deployment.id)
    )
