"""One run per root at a time, on a real Prefect server."""

import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow, tags
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Crashed, Running

from pollen.errors import PollenError
from services.embedded import EmbeddedPrefect
from tasks.cluster import turns as roots
from tasks.cluster.turns import (
    AnotherWaitsError,
    leave_to_another,
    limit_name,
    one_run_at_a_time,
    root_tag,
    tag_with_root,
)
from tasks.stage import Pool
from tasks.storage.store import Location

ROOT = Location(block="pollen", prefix="turns")
NAME = limit_name(ROOT)


def run_alone(seconds: float = 0.0, root: Location = ROOT) -> State[Any]:
    """A flow run that wants the root for itself; its result is when it had it."""

    @flow(name="taking-turns")
    def work() -> tuple[float, float]:
        with one_run_at_a_time(root):
            began = time.monotonic()
            time.sleep(seconds)
            return began, time.monotonic()

    return cast("State[Any]", work(return_state=True))


def slots_taken() -> int | None:
    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(NAME).active_slots


def take_by_hand() -> None:
    with get_client(sync_client=True) as client:
        assert client.increment_concurrency_slots([NAME], 1, "concurrency").json()


@pytest.fixture
def limit(prefect_server: EmbeddedPrefect, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The limit of the root, as `pollen setup` makes it."""
    monkeypatch.setattr(roots, "ASK_EVERY_S", 0.1)
    monkeypatch.setattr(roots, "LONGEST_WAIT_S", 30.0)
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=NAME, limit=1))
        yield
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"holds:{NAME}"]))
        for run in client.read_flow_runs(flow_run_filter=tagged):
            client.update_flow_run(run.id, tags=[])
        client.delete_global_concurrency_limit_by_name(NAME)


places = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80)


@given(st.lists(places, min_size=2, max_size=2, unique_by=lambda place: place.strip("/")))
def test_every_root_has_a_name_of_its_own_that_prefect_takes(prefixes: list[str]) -> None:
    names = [limit_name(Location(block="b", prefix=prefix)) for prefix in prefixes]
    assert names[0] != names[1]
    for name in names:
        GlobalConcurrencyLimitCreate(name=name, limit=1)
        assert len(name) < 100


def test_a_root_is_named_readably_and_whatever_slashes_surround_it() -> None:
    name = limit_name(Location(block="pollen", prefix="Ostatni/Pollen_viability"))
    assert name.startswith("pollen-root-pollen.Ostatni-Pollen_viability-")
    assert name == limit_name(Location(block="pollen", prefix="/Ostatni/Pollen_viability/"))


def test_a_missing_limit_names_the_remedy(prefect_server: EmbeddedPrefect) -> None:
    elsewhere = Location(block="pollen", prefix="never set up")
    with pytest.raises(PollenError, match=r"(?s)no global concurrency limit.*run `pollen setup`"):
        run_alone(root=elsewhere).result()


def test_outside_of_a_flow_run_there_are_no_turns() -> None:
    with pytest.raises(PollenError, match="only in a flow run"), one_run_at_a_time(ROOT):
        pass


def tags_of(state: State[Any]) -> list[str]:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(cast("UUID", state.state_details.flow_run_id)).tags


@pytest.mark.usefixtures("limit")
def test_a_run_that_took_its_turn_is_found_by_its_root_beside_its_own_tags() -> None:
    with tags("detect", root_tag(ROOT)):
        again = run_alone()
    assert sorted(tags_of(again)) == ["detect", "root:pollen/turns"]
    assert tags_of(run_alone()) == ["root:pollen/turns"]


def test_a_run_says_where_it_works_whatever_the_place_is_called(
    prefect_server: EmbeddedPrefect,
) -> None:
    @flow(name="elsewhere")
    def work() -> None:
        tag_with_root(Location(block="pollen", prefix="Žluť 1/50 % & so on, " + "x" * 300))

    state = cast("State[Any]", work(return_state=True))
    assert state.is_completed()
    assert tags_of(state) == ["root:pollen/Žluť 1/50 % & so on, " + "x" * 300]


def test_a_server_that_does_not_answer_costs_the_tag_only(
    prefect_server: EmbeddedPrefect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise httpx.ConnectError("nobody there")

    @flow(name="elsewhere")
    def work() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(SyncPrefectClient, "update_flow_run", away)
            tag_with_root(ROOT)

    assert cast("State[Any]", work(return_state=True)).is_completed()
    assert "can't be shown in the Prefect UI: nobody there" in caplog.text
    tag_with_root(ROOT)  # outside of a run there is nothing to tag


@pytest.mark.usefixtures("limit")
def test_two_runs_take_turns() -> None:
    with Pool(2) as pool:
        first, second = sorted(
            run.result().result() for run in [pool.submit(run_alone, 0.5) for _ in range(2)]
        )
    assert first[1] <= second[0]
    assert slots_taken() == 0


@pytest.mark.usefixtures("limit")
def test_a_run_that_fails_gives_its_turn_back() -> None:
    @flow(name="taking-turns")
    def failing() -> None:
        with one_run_at_a_time(ROOT):
            raise ValueError("on purpose")

    state = cast("State[Any]", failing(return_state=True))
    assert state.is_failed()
    assert slots_taken() == 0
    assert run_alone().is_completed()


@pytest.mark.usefixtures("limit")
def test_a_slot_taken_by_hand_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    take_by_hand()

    def free_later() -> float:
        time.sleep(3)
        freed = time.monotonic()
        with get_client(sync_client=True) as client:
            client.release_concurrency_slots([NAME], 1, 1.0)
        return freed

    with Pool(1) as pool:
        freed = pool.submit(free_later)
        began, _ = run_alone().result()
        assert began >= freed.result()
    assert "somebody is at work in pollen/turns" in caplog.text


@pytest.mark.usefixtures("limit")
def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "LONGEST_WAIT_S", 0.2)
    take_by_hand()
    with pytest.raises(PollenError, match="let it end or cancel it"):
        run_alone().result()
    assert slots_taken() == 1


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("alive", [False, True])
def test_the_slot_of_a_killed_run_is_taken_over(
    alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    @flow(name="taking-turns")
    def killed() -> None:
        """Leaves the slot taken and its tag, as a run does that is killed."""

    with get_client(sync_client=True) as client:
        state: State[Any] = Running() if alive else Crashed()
        run = client.create_flow_run(killed, state=state, tags=[f"holds:{NAME}", "other"])
    take_by_hand()
    if alive:
        monkeypatch.setattr(roots, "LONGEST_WAIT_S", 0.5)
        with pytest.raises(PollenError, match="let it end or cancel it"):
            run_alone().result()
        return
    assert run_alone().is_completed()
    assert slots_taken() == 0
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run.id).tags == ["other"]


@pytest.mark.usefixtures("limit")
def test_a_run_that_was_killed_and_runs_again_has_its_turn_at_once() -> None:
    take_by_hand()
    with tags(f"holds:{NAME}"):
        state = run_alone()
    assert state.is_completed()
    assert slots_taken() == 0


def left_to_another() -> str | None:
    """The name of the run to which a run below the root is left, if it is."""

    @flow(name="counting")
    def work(bucket: str) -> str | None:
        try:
            leave_to_another(ROOT)
        except AnotherWaitsError as error:
            return str(error)
        return None

    return work("pollen")


@pytest.mark.parametrize(
    ("tag", "bucket", "state", "is_left"),
    [
        (f"waits:{NAME}", "pollen", Running(), True),
        (f"holds:{NAME}", "pollen", Running(), False),  # it looked at the bucket before
        ("of others", "pollen", Running(), False),  # it gave its turn back, and is about to end
        (f"waits:{NAME}", "another", Running(), False),
        (f"waits:{NAME}", "pollen", Crashed(), False),
    ],
)
def test_a_run_is_left_to_an_equal_one_that_waits(
    prefect_server: EmbeddedPrefect,
    tag: str,
    bucket: str,
    state: State[Any],
    is_left: bool,
) -> None:
    @flow(name="counting")
    def work(bucket: str) -> None: ...

    with get_client(sync_client=True) as client:
        other = client.create_flow_run(work, parameters={"bucket": bucket})
        try:
            client.set_flow_run_state(other.id, Running(), force=True)
            client.set_flow_run_state(other.id, state, force=True)
            client.update_flow_run(other.id, tags=[root_tag(ROOT), tag])
            told = left_to_another()
        finally:
            client.delete_flow_run(other.id)
    assert (told is not None) is is_left
    assert not is_left or f"'{other.name}' waits for its turn" in str(told)


def test_a_run_that_began_later_waits_for_none(prefect_server: EmbeddedPrefect) -> None:
    """Else two that see each other would both leave."""

    @flow(name="counting")
    def work(bucket: str) -> str | None:
        with get_client(sync_client=True) as client:
            later = client.create_flow_run(work, parameters={"bucket": bucket})
            client.set_flow_run_state(later.id, Running(), force=True)
            client.update_flow_run(later.id, tags=[root_tag(ROOT), f"waits:{NAME}"])
            try:
                leave_to_another(ROOT)
            finally:
                client.delete_flow_run(later.id)
        return "stayed"

    assert work("pollen") == "stayed"


def test_a_run_says_that_it_waits_only_while_it_does(limit: None) -> None:
    take_by_hand()
    found: list[list[str]] = []

    @flow(name="taking-turns")
    def work() -> list[str]:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        free = threading.Timer(1.0, contextvars.copy_context().run, (look, context.flow_run.id))
        free.start()
        with one_run_at_a_time(ROOT), get_client(sync_client=True) as client:
            free.join()
            return client.read_flow_run(context.flow_run.id).tags

    def look(run: UUID) -> None:
        with get_client(sync_client=True) as client:
            deadline = time.monotonic() + 20
            while f"waits:{NAME}" not in (tags := client.read_flow_run(run).tags):
                assert time.monotonic() < deadline, tags
            found.append(tags)
            client.release_concurrency_slots([NAME], 1, 1.0)

    tags = work()
    assert found
    assert root_tag(ROOT) in found[0]
    assert f"waits:{NAME}" not in tags
    assert f"holds:{NAME}" in tags
