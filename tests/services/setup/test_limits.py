"""Limits on a real Prefect server: one per root, those of other laboratories untouched."""

from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect_aws import AwsCredentials, S3Bucket

from services.setup.limits import plan_limits, roots
from services.setup.plan import Action, Step, to_do
from services.site import Site
from tasks.cluster.turns import limit_name
from tasks.storage.store import Location


def site(block: str, *prefixes: str) -> Site:
    return Site.model_validate({"storage": {"block": block}, "prefixes": prefixes or ("",)})


def carry_out(steps: list[Step]) -> None:
    for step in to_do(steps):
        assert step.do is not None
        step.do()


def planned(steps: list[Step]) -> dict[str, Action]:
    return {step.change.name: step.change.action for step in steps}


def read(client: SyncPrefectClient, name: str) -> Any:  # noqa: ANN401  (Prefect's own type)
    return client.read_global_concurrency_limit_by_name(name)


def test_every_root_gets_the_one_slot_that_its_runs_take_turns_with(
    client: SyncPrefectClient, name: str
) -> None:
    there = site(name, "", "potato", "other lab/2026")
    steps = plan_limits(client, there)
    assert [step.change.action for step in steps] == ["create"] * 3
    carry_out(steps)
    for root in roots(there):
        made = read(client, limit_name(root))
        assert (made.limit, made.active, made.slot_decay_per_second) == (1, True, 0)
    assert planned(plan_limits(client, there)) == dict.fromkeys(
        map(limit_name, roots(there)), "keep"
    )


def test_roots_are_named_as_runs_name_them(name: str) -> None:
    assert roots(site(name, "", "a")) == (
        Location(block=name, prefix=""),
        Location(block=name, prefix="a"),
    )


def test_one_that_was_changed_is_put_right_and_a_taken_slot_stays_taken(
    client: SyncPrefectClient, name: str
) -> None:
    there = site(name)
    limit = limit_name(roots(there)[0])
    client.create_global_concurrency_limit(
        GlobalConcurrencyLimitCreate(name=limit, limit=5, active=False, active_slots=1)
    )
    steps = plan_limits(client, there)
    assert planned(steps) == {limit: "update"}
    assert steps[0].change.detail == "slots: 5 to 1; switched on"
    carry_out(steps)
    after = read(client, limit)
    assert (after.limit, after.active, after.active_slots) == (1, True, 1)
    assert planned(plan_limits(client, there)) == {limit: "keep"}


def test_a_root_that_left_the_file_loses_its_limit_unless_a_run_has_it(
    client: SyncPrefectClient, name: str
) -> None:
    carry_out(plan_limits(client, site(name, "", "idle", "busy")))
    idle, busy = (limit_name(Location(block=name, prefix=each)) for each in ("idle", "busy"))
    client.increment_concurrency_slots([busy], 1, "concurrency")
    steps = plan_limits(client, site(name))
    rest = limit_name(Location(block=name))
    assert planned(steps) == {rest: "keep", idle: "delete", busy: "keep"}
    assert next(step for step in steps if step.change.name == busy).change.attention
    carry_out(steps)
    client.update_global_concurrency_limit(busy, GlobalConcurrencyLimitUpdate(active_slots=0))
    assert planned(plan_limits(client, site(name))) == {rest: "keep", busy: "delete"}


def test_limits_of_others_are_not_ours(client: SyncPrefectClient, name: str) -> None:
    """Those of a laboratory whose block begins with our name, and those made by hand."""
    S3Bucket(bucket_name="b", credentials=AwsCredentials()).save(f"{name}-2")
    carry_out(plan_limits(client, site(f"{name}-2", "", "x")))
    client.create_global_concurrency_limit(
        GlobalConcurrencyLimitCreate(name=f"gpu-{name}", limit=3)
    )
    assert planned(plan_limits(client, site(name))) == {limit_name(Location(block=name)): "create"}


def test_a_folder_that_reads_like_anothers_block_is_not_theirs(
    client: SyncPrefectClient, name: str
) -> None:
    carry_out(plan_limits(client, site(name, "lab")))
    theirs = limit_name(Location(block=f"{name}-lab"))
    assert planned(plan_limits(client, site(f"{name}-lab"))) == {theirs: "create"}
