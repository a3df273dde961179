"""News of a run and of the runs that it started: states, log lines, progress."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
)
from prefect.client.schemas.objects import Artifact, FlowRun, Log
from prefect.client.schemas.sorting import LogSort

from services.prefect_server.automation_states import ENDING
from services.prefect_server.published import READ_BACK

#: Log lines arrive in packets, not always in order: lines this much older than the last are read again.
LATE_LINES: Final = timedelta(seconds=15)
#: Lines that the server returns at once.
PAGE: Final = 200
#: Largest number of started runs that are followed.
FOLLOWED: Final = 100


@dataclass(frozen=True)
class Changed:
    """A new state of a run.

    Attributes:
        run: Name of the run; empty for the run that is watched.
        state: Name of the state.
        message: Message of the state.
    """

    run: str
    state: str
    message: str


@dataclass(frozen=True)
class Line:
    """A line of a log."""

    run: str
    level: int
    text: str


class News:
    """The news of one run: iterate to ask the server for what is new since the last time."""

    def __init__(self, client: SyncPrefectClient, run_id: UUID) -> None:
        self._client = client
        self._id = run_id
        self._states: dict[UUID, UUID | None] = {}
        self._lines: set[UUID] = set()
        self._last: datetime | None = None
        self.run = client.read_flow_run(run_id)
        self.artifacts: list[Artifact] = []

    def __iter__(self) -> Iterator[Changed | Line]:
        """Yield what is new; `run` and `artifacts` are up to date afterwards."""
        # Lines first: those that were written before the last state are shown before it.
        children = self._children()
        yield from self._new_lines({self._id: "", **{child.id: child.name for child in children}})
        self.run = self._client.read_flow_run(self._id)
        for run in (self.run, *children):
            if self._states.get(run.id, run.id) != run.state_id:
                self._states[run.id] = run.state_id
                name = "" if run.id == self._id else run.name
                message = run.state.message if run.state else ""
                yield Changed(name, str(run.state_name), message or "")
        self.artifacts = self._client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[self._id]),
                key=ArtifactFilterKey(any_=READ_BACK),
            ),
            limit=100,
        )

    def was_given_up(self) -> bool:
        """Return whether the run waited too long to start and is being ended for that."""
        states = self._client.read_flow_run_states(self._id)
        return any((state.name or "").startswith(ENDING) for state in states)

    def _children(self) -> list[FlowRun]:
        started = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[self._id]))
        return self._client.read_flow_runs(flow_run_filter=started, limit=FOLLOWED)

    def _new_lines(self, names: dict[UUID, str]) -> Iterator[Line]:
        offset = 0
        since = None if self._last is None else self._last - LATE_LINES
        wanted = LogFilter(
            flow_run_id=LogFilterFlowRunId(any_=list(names)),
            timestamp=LogFilterTimestamp.model_validate({"after_": since}),
        )
        while True:
            page: list[Log] = self._client.read_logs(
                wanted, limit=PAGE, offset=offset, sort=LogSort.TIMESTAMP_ASC
            )
            for log in page:
                if log.id in self._lines:
                    continue
                self._lines.add(log.id)
                self._last = max(self._last or log.timestamp, log.timestamp)
                run = names.get(log.flow_run_id, "") if log.flow_run_id else ""
                yield Line(run, log.level, log.message)
            if len(page) < PAGE:
                return
            offset += PAGE
