"""A run by its name or id."""

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from pollen.errors import PollenError


def find(client: SyncPrefectClient, name: str) -> FlowRun:
    """The flow run with an id or a name; of several the newest.

    Raises:
        PollenError: There is none.
    """
    try:
        return client.read_flow_run(UUID(name))
    except (ValueError, ObjectNotFound):
        pass
    named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    newest = FlowRunSort.EXPECTED_START_TIME_DESC
    runs = client.read_flow_runs(flow_run_filter=named, sort=newest, limit=1)
    if not runs:
        raise PollenError(
            f"there is no flow run with the name or id '{name}': the Prefect UI lists all runs, and `pollen run` tells "
            "the id when it starts one"
        )
    return runs[0]
