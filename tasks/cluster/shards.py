"""Counting on a cluster: other flow runs, the shards, count the batches, and the coordinator waits for them.

A shard may be killed at any moment, and so may the coordinator. Both resume from what is recorded:
the plan in the bucket says which shards there are, its id is part of the keys of their runs, and a
coordinator that is started again finds the shards that it started before.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast
from uuid import UUID, uuid4

import polars as pl
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Cancelled

from pollen.detection.batches import Batch, deal
from pollen.errors import PollenError
from pollen.layout import plan_key
from pollen.results.records import INPUTS
from tasks.cluster.deploy_hint import DEPLOY
from tasks.cluster.prefect_calls import ask_server
from tasks.cluster.shard_plans import (
    ShardPlan,
    last_number,
    pictures_in,
    unfinished_plan,
    write_plan,
)
from tasks.cluster.turns import limit_name, root_tag
from tasks.detection.planning import Plan, plan
from tasks.detection.records import IMAGES
from tasks.detection.work import Counted, Work
from tasks.models.resolve import PRODUCTION
from tasks.progress import Progress
from tasks.stage import healing, logger
from tasks.storage.store import Location, open_store

DEPLOYMENT: Final = "detect-shard/gpu"
#: Name of the final state of a shard that failed for a reason that passes: it is run again.
FAILED_FOR_NOW: Final = "FailedForNow"
#: Name of the final state that an automation gives to runs that never got a pod (automations/pending.yaml).
LOST: Final = "LostBeforeStart"
#: How many rounds one after the other may record nothing until the rest is given up. A round that
#: records some does not count: its shards may have lost the server, and not their work.
ROUNDS: Final = 3
#: How many rounds a run may begin from each of its starts, whatever they record.
MOST_ROUNDS: Final = 10
MOST_SHARDS: Final = 100
#: How often the Prefect server is asked for the shards' states, and the bucket for what is recorded.
ASK_EVERY_S: Final = 3.0
LIST_EVERY_S: Final = 15.0
#: An automation gives a run that it cancelled its last state, with the reason, a little later.
SETTLE_S: Final = 60.0


@dataclass(frozen=True)
class DetectRequest:
    """A person's request to count on a cluster.

    Attributes:
        bucket: The name of the S3Bucket block.
        prefix: The folder below it.
        model: The model's name.
        shards: How many runs are to share the work.
    """

    bucket: str
    prefix: str | None
    model: str
    shards: int

    @property
    def root(self) -> Location:
        """The root of the results."""
        return Location(block=self.bucket, prefix=self.prefix or "")

    @property
    def tag(self) -> str:
        """The tag of all shards that work for the root."""
        return f"counts:{limit_name(self.root)}"

    def check(self) -> None:
        """Check the request.

        Raises:
            PollenError: If no bucket is named, or the number of shards is out of range.
        """
        if not self.bucket:
            raise PollenError("no bucket is named: expected the name of a saved S3Bucket block")
        if not 1 <= self.shards <= MOST_SHARDS:
            raise PollenError(f"shards is {self.shards}: expected 1 to {MOST_SHARDS}")


class Rounds:
    """The rounds of a coordinator: their plans, until nothing is left or the rest is given up.

    Attributes:
        counted: How many pictures are counted in all rounds, and why some are left.
    """

    def __init__(self, request: DetectRequest, work: Work) -> None:
        self.counted = Counted()
        self._request = request
        self._work = work
        self._run = str(flow_run.id)
        self._rounds = self._idle = 0

    def first(self, todo: Plan) -> ShardPlan | None:
        """Return the plan of the first round, which is written; None if nothing waits.

        A run that was killed while its shards counted resumes its own plan instead.

        Raises:
            PollenError: If the store fails.
        """
        planned = healing(unfinished_plan)(self._work, self._run)
        if planned is None and todo.batches:
            number = healing(last_number)(self._work.output, self._run) + 1
            planned = self._write(todo, number, todo.waiting)
        if planned is not None:
            self.counted = Counted(planned.pictures)
        return planned

    def next(self, planned: ShardPlan, ended: Sequence[FlowRun]) -> ShardPlan | None:
        """Return the plan of what crashed shards left, which is written; None if this was the last round.

        Args:
            planned: The plan of this round.
            ended: Its shards, as they ended.

        Raises:
            PollenError: If the store fails.
        """
        problem, again = _judge(planned, ended)
        left = self._left(again) if again and not problem else None
        if left is not None and left.batches:
            self._rounds += 1
            recorded = pictures_in(left.batches) < planned.waiting
            self._idle = 0 if recorded else self._idle + 1
            if self._idle < ROUNDS and self._rounds < MOST_ROUNDS:
                return self._write(left, planned.number + 1, planned.pictures)
            problem = _too_often(ended, self._rounds)
        self.counted = Counted(planned.pictures, problem)
        return None

    def _left(self, batches: Sequence[Batch]) -> Plan:
        """Return what of these batches is not recorded."""
        items = [(item.key, item.version, item.size) for batch in batches for item in batch.items]
        among = pl.DataFrame(items, schema=INPUTS, orient="row")
        work = self._work
        return plan(
            work.source, work.output, work.records, work.settings, self._request.shards, among
        )

    def _write(self, todo: Plan, number: int, pictures: int) -> ShardPlan:
        """Make and store the plan of a round."""
        work, model = self._work, self._request.model
        planned = ShardPlan(
            id=uuid4().hex,
            number=number,
            # What `production` means now; it may be another model when the last shard starts.
            model=work.model.card.version if model == PRODUCTION else model,
            profile=work.profile,
            settings=work.settings,
            pictures=pictures,
            shards=deal(todo.batches, self._request.shards),
        )
        # As bytes: Prefect looks for other tasks' results in everything that a task is given.
        write_plan(work.output, self._run, number, planned.model_dump_json().encode())
        return planned


def wait_for_earlier_shards(request: DetectRequest) -> None:
    """Wait for shards of a coordinator that has ended: what they record need not be counted again.

    Those that have not started are cancelled; their pictures are planned anew. Shards of this very
    run are not waited for here: it resumes with them.

    Raises:
        PollenError: If the server fails.
    """
    active = [kind for kind in StateType if not State(type=kind).is_final()]
    condition = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[request.tag]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=active)),
    )
    announced = False
    while True:
        found = _ask(condition)
        others = [run for run in found if not str(run.idempotency_key).startswith(str(flow_run.id))]
        if not others:
            return
        for run in others:
            if run.state_type is StateType.SCHEDULED:
                _cancel(run)
        if not announced:
            names = ", ".join(f"'{run.name}'" for run in others)
            logger().info(
                "waiting for shards of an earlier run: %s. Cancel them to skip this", names
            )
            announced = True
        time.sleep(ASK_EVERY_S)


def _cancel(run: FlowRun) -> None:
    """Cancel a shard that has not started; one that starts at this moment is waited for."""
    state: State = Cancelled(message="the run that planned this part has ended")

    def cancel() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.id, state)

    ask_server(cancel, "cancelling a shard")


def start_shards(request: DetectRequest, planned: ShardPlan) -> list[FlowRun]:
    """Start the runs of a plan, in the order of its shards; those that were started before are found.

    Raises:
        PollenError: If shards are not deployed, or the server fails.
    """
    run = str(flow_run.id)
    runs: list[FlowRun] = []
    total = len(planned.shards)
    again = f", round {planned.number}" if planned.number > 1 else ""
    try:
        for shard in range(1, total + 1):
            start = partial(
                run_deployment,
                DEPLOYMENT,
                parameters={
                    "bucket": request.bucket,
                    "prefix": request.prefix,
                    "plan": plan_key(run, planned.number),
                    "shard": shard,
                },
                timeout=0,
                as_subflow=True,  # cancelling this run cancels them
                idempotency_key=f"{run}-{planned.id}-{shard}",
                flow_run_name=f"count part {shard} of {total} in {request.root.address}{again}",
                tags=[request.tag, root_tag(request.root)],
            )
            started = ask_server(start, "starting shards")
            runs.append(cast("FlowRun", started))  # outside of async code it is no coroutine
    except ObjectNotFound as error:
        raise PollenError(
            f"there is no deployment '{DEPLOYMENT}' on the Prefect server, which counts for this run: {DEPLOY}"
        ) from error
    return runs


def _ask(condition: FlowRunFilter) -> list[FlowRun]:
    """Return flow runs as the server knows them.

    Raises:
        PollenError: If the server stays away.
    """

    def ask() -> list[FlowRun]:
        with get_client(sync_client=True) as client:
            return client.read_flow_runs(flow_run_filter=condition)

    return ask_server(ask, "asking for shards")


def wait_for_shards(
    runs: Sequence[FlowRun], recorded: "Recorded", progress: Progress
) -> list[FlowRun]:
    """Wait until all runs have ended; return them as they ended, in the same order."""
    condition = FlowRunFilter(id=FlowRunFilterId(any_=[run.id for run in runs]))
    ended: dict[UUID, FlowRun] = {}
    cancelled: dict[UUID, float] = {}
    shown = ""
    while True:
        found = {run.id: run for run in _ask(condition)}
        for shard, run in enumerate(runs, 1):
            now = found.get(run.id) or _deleted(run)
            if run.id not in ended and _has_ended(now, cancelled):
                ended[run.id] = now
                recorded.ended(shard, now)
                logger().info("'%s' ended: %s", now.name, _as_text(now.state))
        done = recorded.pictures()
        text = f"{done} of {recorded.total} pictures counted; shards: {_states([*found.values()])}"
        if text != shown:
            progress.reached(done, recorded.total, text)
            shown = text
        if len(ended) == len(runs):
            return [ended[run.id] for run in runs]
        time.sleep(ASK_EVERY_S)


def _has_ended(run: FlowRun, cancelled: dict[UUID, float]) -> bool:
    """Return whether a run is in its last state.

    Args:
        run: The run.
        cancelled: Notes since when runs are cancelled, which may get another state.
    """
    if run.state is None or not run.state.is_final():
        return False
    if not run.state.is_cancelled():
        return True
    since = cancelled.setdefault(run.id, time.monotonic())
    return time.monotonic() - since >= SETTLE_S


def _deleted(run: FlowRun) -> FlowRun:
    """Return the last state of a run that the server does not know any more."""
    gone = State(type=StateType.CRASHED, message="the run was deleted")
    return run.model_copy(update={"state": gone, "state_type": gone.type})


def _states(runs: Sequence[FlowRun]) -> str:
    """Return how many runs are in which state, in words."""
    names = sorted(run.state.name or "" for run in runs if run.state is not None)
    return ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(names))


def _as_text(state: State | None) -> str:
    """Return a state and what it says."""
    if state is None:
        return "no state"
    return f"{state.name} ({state.message})" if state.message else str(state.name)


def _judge(planned: ShardPlan, ended: Sequence[FlowRun]) -> tuple[PollenError | None, list[Batch]]:
    """Return the problem that ends the run, if there is one, and the batches that are to be run again."""
    problem: PollenError | None = None
    again: list[Batch] = []
    for batches, run in zip(planned.shards, ended, strict=True):
        state = run.state
        if state is None or state.is_completed():
            continue
        if state.is_crashed() or state.name in (FAILED_FOR_NOW, LOST):
            again += batches
        elif problem is None:
            verb = "was cancelled" if state.is_cancelled() else "failed"
            problem = PollenError(f"{state.message or 'no reason was given'} ('{run.name}' {verb})")
    return problem, again


def _too_often(ended: Sequence[FlowRun], rounds: int) -> PollenError:
    """Return the error after the last round."""
    bad = next(run for run in ended if run.state is not None and not run.state.is_completed())
    return PollenError(
        f"some pictures could not be counted in {rounds} rounds: '{bad.name}' ended as {_as_text(bad.state)}. What was "
        "counted is in the tables, and the next run counts the rest"
    )


class Recorded:
    """The number of pictures of a plan that are recorded, by the names of record files."""

    def __init__(self, planned: ShardPlan, work: Work) -> None:
        self._shards = planned.shards
        self._store = open_store(work.output)
        self._folder = work.records + IMAGES
        # An earlier run may have recorded the same batch, for instance with pictures it could not fetch.
        self._before = healing(self._files)()
        self._listed_at = time.monotonic()
        self._completed: set[int] = set()
        self._done: set[str] = set()
        self.total = planned.waiting

    def ended(self, shard: int, run: FlowRun) -> None:
        """Note that a shard, counted from 1, has ended."""
        self._listed_at = 0.0
        if run.state is not None and run.state.is_completed():
            self._completed.add(shard)

    def pictures(self) -> int:
        """Return how many are done, as of the last listing."""
        if time.monotonic() - self._listed_at >= LIST_EVERY_S:
            self._listed_at = time.monotonic()
            try:
                self._done = {name.partition("-")[0] for name in self._files() - self._before}
            except PollenError as error:
                logger().warning("progress can't be shown: %s", error)
        return sum(
            len(batch.items)
            for shard, batches in enumerate(self._shards, 1)
            for batch in batches
            if shard in self._completed or batch.id in self._done
        )

    def _files(self) -> set[str]:
        return {entry.key.removeprefix(self._folder) for entry in self._store.list(self._folder)}
