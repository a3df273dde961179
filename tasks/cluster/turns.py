"""One run per root at a time: the names of a root's limit and tags, and the slot that its runs share."""

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound

from pollen.errors import PollenError
from tasks.cluster.prefect_calls import ask_server
from tasks.progress import best_effort
from tasks.stage import logger
from tasks.storage.store import Location

#: How often a run that waits for its turn asks again, in seconds.
ASK_EVERY_S: Final = 5.0
#: How long a run waits for its turn, in seconds. A long sweep of a new root takes hours.
LONGEST_WAIT_S: Final = 12 * 3600.0
#: States in which a run that took the slot still has it. Whatever is in another one was killed.
_ALIVE: Final = {StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED}
_LONGEST_NAME: Final = 60


def limit_name(root: Location) -> str:
    """Return the name of a root's global concurrency limit: readable, and different for every root.

    `pollen setup` makes the limit. Prefect forbids slashes and other characters in names, so a short
    hash tells roots apart. The block's name ends at the first dot, which no block's name contains:
    by it `pollen setup` knows which block a limit belongs to.
    """
    address = root.address.strip("/")
    block, _, folder = address.partition("/")
    readable = _tidy(folder)[-_LONGEST_NAME:].strip("-.")
    parts = (readable, hashlib.sha256(address.encode()).hexdigest()[:8])
    return f"{limit_prefix(block)}{'-'.join(filter(None, parts))}"


def root_tag(root: Location) -> str:
    """Return the tag of runs that work below a root, by which people find them in the Prefect UI."""
    return f"root:{root.address}"


def tag_with_root(root: Location) -> None:
    """Tag the present flow run with its root; runs that take turns do it while they take the slot."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run, tag = context.flow_run, root_tag(root)
    if tag not in run.tags:
        with best_effort("the root of this run"), get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=[*run.tags, tag])


class AnotherWaitsError(Exception):
    """Another run waits for its turn, and will do what this one would."""


def leave_to_another(root: Location) -> None:
    """End the present run if another one with the same parameters waits for its turn below a root.

    That run lists the bucket when it gets its turn, so it finds whatever is there now. Without this
    check, uploads during a run of some hours would start many runs that wait, each in a pod.

    Raises:
        AnotherWaitsError: If there is such a run.
        PollenError: If the server does not answer.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    this = context.flow_run.id
    if name := ask_server(lambda: _waits_before(root, this), "looking for other runs"):
        raise AnotherWaitsError(f"'{name}' waits for its turn, and will count what is new")


def _waits_before(root: Location, run_id: UUID) -> str | None:
    """Return the name of an equal run that waits and began earlier: of two that see each other, one stays."""
    waiting = FlowRunFilter.model_validate(
        {"tags": {"all_": [_waits(root)]}, "state": {"type": {"any_": [StateType.RUNNING]}}}
    )
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(run_id)
        found = client.read_flow_runs(flow_run_filter=waiting)
    earlier = (run for run in found if _began(run) < _began(this))
    return next((run.name for run in earlier if run.parameters == this.parameters), None)


def _waits(root: Location) -> str:
    """Return the tag of a run that waits: one without it may have listed the bucket already."""
    return f"waits:{limit_name(root)}"


def _began(run: FlowRun) -> tuple[str, str]:
    return str(run.start_time), str(run.id)


def limit_prefix(block: str) -> str:
    """Return the beginning of the names of all limits of a block's roots, which no others share."""
    return f"pollen-root-{_tidy(block).replace('.', '-')}."


def _tidy(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")


@contextmanager
def one_run_at_a_time(root: Location) -> Iterator[None]:
    """Hold the slot of a root inside the block; if another run has it, wait for its end.

    The slot has no lease: Prefect keeps leases in its server's memory, and a server that restarts
    during a run would leave the slot taken for ever. Instead, a run that takes the slot is tagged,
    and one that waits takes over the slot of a tagged run that is no longer alive. A slot that was
    taken by hand (`prefect gcl`, or any program) has no tag and is waited for.

    Raises:
        PollenError: If the limit does not exist, the wait took too long, or the server does not answer.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise PollenError(
            "this works only in a flow run of a deployment: start it with `pollen run detect`"
        )
    slot = _Slot(root, context.flow_run)
    slot.take()
    started = time.monotonic()
    try:
        yield
    finally:
        slot.give_back(time.monotonic() - started)


@dataclass(frozen=True)
class _Turn:
    """The result of asking for the slot.

    Attributes:
        taken: Whether this run has it now.
        freed: Whether it was taken from a dead run, and is to be asked for again at once.
        alive: The runs that have it, as far as known.
    """

    taken: bool = False
    freed: bool = False
    alive: tuple[FlowRun, ...] = ()


class _Slot:
    """The one slot of a limit, as a flow run uses it."""

    def __init__(self, root: Location, run: FlowRun) -> None:
        self.name = limit_name(root)
        self._place = root.address
        self._run = run.id
        # The tag of a run that has the slot, or is about to ask for it.
        self._tag = f"holds:{self.name}"
        own = {self._tag, _waits(root), root_tag(root)}
        self._tags = [*(tag for tag in run.tags if tag not in own), root_tag(root)]
        self._waiting_tags = [*self._tags, _waits(root)]
        # Whether this very run had the slot, was killed, and now runs again.
        self._had_it = self._tag in run.tags

    def take(self) -> None:
        """Take the slot, waiting for it if need be.

        Raises:
            PollenError: If there is no such limit, or the wait took too long.
        """
        announced = False
        deadline = time.monotonic() + LONGEST_WAIT_S
        while not (holders := ask_server(self._try, f"waiting for a turn in {self._place}")).taken:
            if not announced and not holders.freed:
                names = ", ".join(f"'{run.name}'" for run in holders.alive) or "somebody"
                logger().info(  # `pollen doctor RUN` looks for the end of this line
                    "%s is at work in %s: this run waits for the end of it", names, self._place
                )
                announced = True
            if time.monotonic() > deadline:
                raise PollenError(
                    f"another run has worked in {self._place} for {LONGEST_WAIT_S / 3600:.0f} h: let it end or "
                    "cancel it, then run again. If there is none, free the slot by hand: `prefect gcl update "
                    f"{self.name} --active-slots 0`"
                )
            if not holders.freed:
                time.sleep(ASK_EVERY_S)

    def _try(self) -> "_Turn":
        """Ask for the slot once; if the runs that had it are dead, free it."""
        with get_client(sync_client=True) as client:
            try:
                if self._ask(client):
                    return _Turn(taken=True)
            except httpx.TransportError:
                self._had_it = True  # or not: the answer got lost
                raise
            others = self._others(client)
            alive = [run for run in others if run.state_type in _ALIVE]
            if alive or not (others or self._had_it):
                return _Turn(alive=tuple(alive))
            self._free(client, others)
            return _Turn(freed=True)

    def _ask(self, client: SyncPrefectClient) -> bool:
        """Take the slot if it is free; the tag comes first, so that a run killed in between is known by it."""
        client.update_flow_run(self._run, tags=[*self._tags, self._tag])
        try:
            taken = client.increment_concurrency_slots([self.name], 1, "concurrency").json()
        except httpx.HTTPStatusError as error:
            is_taken = error.response.status_code == httpx.codes.LOCKED
            client.update_flow_run(self._run, tags=self._waiting_tags if is_taken else self._tags)
            if is_taken:
                return False
            raise
        if not taken:
            client.update_flow_run(self._run, tags=self._tags)
            raise PollenError(
                f"there is no global concurrency limit '{self.name}' on the Prefect server, which keeps two runs "
                f"from counting in {self._place} at once: name this place in deployments/site.yaml and run "
                "`pollen setup`"
            )
        return True

    def _others(self, client: SyncPrefectClient) -> list[FlowRun]:
        """Return other runs that carry the tag."""
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[self._tag]))
        found = client.read_flow_runs(flow_run_filter=tagged)
        return [run for run in found if run.id != self._run]

    def _free(self, client: SyncPrefectClient, dead: list[FlowRun]) -> None:
        """Take the slot away from runs that were killed while they had it."""
        names = ", ".join(f"'{run.name}'" for run in dead) or "this run's earlier attempt"
        logger().warning("%s was killed in %s: taking over", names, self._place)
        client.update_global_concurrency_limit(
            self.name, GlobalConcurrencyLimitUpdate(active_slots=0)
        )
        self._had_it = False
        for run in dead:
            with suppress(ObjectNotFound):
                client.update_flow_run(run.id, tags=[tag for tag in run.tags if tag != self._tag])

    def give_back(self, seconds: float) -> None:
        """Free the slot. If that fails, the next run finds this one ended and takes it.

        A run that was taken for dead while it worked has lost the slot, and its tag, to another.
        """
        try:
            with get_client(sync_client=True) as client:
                if self._tag not in client.read_flow_run(self._run).tags:
                    logger().warning("another run took over in %s meanwhile", self._place)
                    return
                client.release_concurrency_slots([self.name], 1, max(seconds, 0.001))
                client.update_flow_run(self._run, tags=self._tags)
        except httpx.HTTPError as error:
            logger().warning("the limit '%s' could not be given back: %s", self.name, error)
