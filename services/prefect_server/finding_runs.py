"""Find a flow run by its name or id."""

import difflib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

#: Recent runs whose names are compared with a mistyped one.
RECENT_RUNS: Final = 200
#: Runs of one name that are counted.
NAMESAKES: Final = 20


@dataclass(frozen=True)
class Found:
    """The run that a name or id stands for.

    Attributes:
        name: The name or id.
        run: The flow run; None if there is none.
        namesakes: Number of other runs of this name.
        similar: Names of runs that look like it; only if there is none.
    """

    name: str
    run: FlowRun | None
    namesakes: int = 0
    similar: tuple[str, ...] = ()

    @property
    def not_found(self) -> str:
        """The error if there is no run."""
        return f"there is no flow run with the name or id '{self.name}'"

    @property
    def remedy(self) -> str:
        """The way out if there is no run."""
        if self.similar:
            return "did you mean " + " or ".join(f"'{name}'" for name in self.similar) + "?"
        return "the Prefect UI lists all runs, and `pollen run` prints the id when it starts one"


def find_run(client: SyncPrefectClient, name: str) -> Found:
    """Find a flow run by its id or its name; of several runs of one name the newest."""
    try:
        return Found(name, client.read_flow_run(UUID(name)))
    except ObjectNotFound:
        return Found(name, None)
    except ValueError:  # not an id
        pass
    newest = FlowRunSort.EXPECTED_START_TIME_DESC
    named = FlowRunFilter(name=FlowRunFilterName(any_=[name]))
    runs = client.read_flow_runs(flow_run_filter=named, sort=newest, limit=NAMESAKES + 1)
    if runs:
        return Found(name, runs[0], len(runs) - 1)
    recent = {run.name for run in client.read_flow_runs(sort=newest, limit=RECENT_RUNS)}
    like = FlowRunFilter(name=FlowRunFilterName(like_=name))
    similar = [run.name for run in client.read_flow_runs(flow_run_filter=like, limit=5)]
    similar += difflib.get_close_matches(name, recent, n=5, cutoff=0.5)
    return Found(name, None, similar=tuple(dict.fromkeys(similar)))
