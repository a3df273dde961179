"""Schedules on a real Prefect server: one for each root, at night and for sweeps; others are left alone."""

from datetime import timedelta
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from services.setup import schedules
from services.setup.plan import Step
from services.setup.schedules import plan_schedules, slug_of
from services.site import Events, Site, SiteStorage

CRON = CronSchedule(cron="15 1 * * *", timezone="Europe/Prague")


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Deployments of this test alone: the server is shared."""
    monkeypatch.setattr(schedules, "NIGHTLY", f"{name}/nightly")
    monkeypatch.setattr(schedules, "SWEEP", f"{name}/sweep")


def deploy(client: SyncPrefectClient, name: str, *declared: DeploymentScheduleCreate) -> None:
    """Make a deployment with these schedules, or change those of their slugs as `prefect deploy` does."""
    client.create_deployment(
        flow_id=client.create_flow_from_name(name.partition("/")[0]),
        name=name.partition("/")[2],
        schedules=list(declared),
    )


def declared(**parameters: object) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(schedule=CRON, slug="nightly", parameters=parameters)


def site(*prefixes: str, minutes: int | None = None, block: str = "pollen") -> Site:
    return Site(
        prefixes=prefixes, events=Events(sweep_minutes=minutes), storage=SiteStorage(block=block)
    )


def do(client: SyncPrefectClient, wanted: Site) -> dict[str, str]:
    """Carry out what is planned; returns what was changed, and sees that twice changes nothing."""
    steps = plan_schedules(client, wanted)
    for step in steps:
        if step.do:
            step.do()
    assert changes(plan_schedules(client, wanted)) == {}
    return changes(steps)


def changes(steps: list[Step]) -> dict[str, str]:
    return {
        step.change.name.partition("/")[2]: step.change.action
        for step in steps
        if step.change.action != "keep"
    }


def on_server(client: SyncPrefectClient, name: str) -> dict[str, DeploymentSchedule]:
    return {str(each.slug): each for each in client.read_deployment_by_name(name).schedules}


def counted(client: SyncPrefectClient, name: str) -> set[tuple[Any, Any]]:
    """Bucket and root that each schedule's runs count."""
    return {
        (each.parameters.get("bucket"), each.parameters.get("prefix"))
        for each in on_server(client, name).values()
    }


def test_every_further_root_is_counted_at_night_at_the_same_time(
    client: SyncPrefectClient, name: str
) -> None:
    deploy(client, f"{name}/nightly", declared())
    assert do(client, site("")) == {}
    assert do(client, site("", "one", "Two/Ü")) == {
        "nightly of one": "create",
        "nightly of Two/Ü": "create",
    }
    assert counted(client, f"{name}/nightly") == {
        (None, None),
        ("pollen", "one"),
        ("pollen", "Two/Ü"),
    }
    assert all(each.schedule == CRON for each in on_server(client, f"{name}/nightly").values())

    assert do(client, site("", "one")) == {"nightly of Two/Ü": "delete"}
    before = on_server(client, f"{name}/nightly")
    later = CronSchedule(cron="30 3 * * *", timezone="Europe/Prague")
    client.update_deployment_schedule(
        client.read_deployment_by_name(f"{name}/nightly").id, before["nightly"].id, schedule=later
    )
    assert do(client, site("", "one")) == {"nightly of one": "update"}
    after = on_server(client, f"{name}/nightly")
    assert [each.schedule for each in after.values()] == [later, later]
    assert {slug: each.id for slug, each in after.items()} == {
        slug: each.id for slug, each in before.items()
    }


def test_a_declared_schedule_counts_a_root_there_is_and_its_own_one_if_it_names_it(
    client: SyncPrefectClient, name: str
) -> None:
    deploy(client, f"{name}/nightly", declared())
    assert do(client, site("one", "two")) == {
        "nightly of one": "update",
        "nightly of two": "create",
    }
    assert counted(client, f"{name}/nightly") == {(None, "one"), ("pollen", "two")}
    assert do(client, site("two", "one")) == {}

    steps = plan_schedules(client, site("two", "three"))

    (told,) = (step.change for step in steps if step.change.attention)
    assert "'one' is not among the prefixes in the site file" in told.detail
    assert changes(steps) == {"nightly of three": "create"}


def test_one_that_somebody_declared_for_a_root_is_enough(
    client: SyncPrefectClient, name: str
) -> None:
    own = DeploymentScheduleCreate(schedule=CRON, slug="of-one", parameters={"prefix": "one/"})
    deploy(client, f"{name}/nightly", declared(), own)
    assert do(client, site("", "one")) == {}


def test_a_declared_schedule_counts_the_site_s_block(client: SyncPrefectClient, name: str) -> None:
    deploy(client, f"{name}/nightly", declared())
    assert do(client, site("", block="plants")) == {"nightly": "update"}
    assert counted(client, f"{name}/nightly") == {("plants", None)}

    deploy(client, f"{name}/nightly", declared())  # as `prefect deploy` does: its root is forgotten
    assert do(client, site("one", "two", block="plants")) == {
        "nightly of one": "update",
        "nightly of two": "create",
    }
    assert counted(client, f"{name}/nightly") == {("plants", "one"), ("plants", "two")}


def test_one_that_is_declared_for_another_block_counts_no_root_of_ours(
    client: SyncPrefectClient, name: str
) -> None:
    deploy(client, f"{name}/nightly", declared(bucket="theirs"))
    assert do(client, site("")) == {"nightly": "create"}
    assert counted(client, f"{name}/nightly") == {("theirs", None), ("pollen", None)}


def test_sweeps_are_switched_on_changed_and_off(client: SyncPrefectClient, name: str) -> None:
    steps = plan_schedules(client, site("", minutes=15))
    assert [step.change.detail.partition(":")[0] for step in steps] == [
        f"waits for the deployment {name}/sweep"
    ]
    assert plan_schedules(client, site("")) == []
    deploy(client, f"{name}/sweep")
    assert do(client, site("", "one")) == {}

    assert do(client, site("", "one", minutes=15)) == {"sweep": "create", "sweep of one": "create"}
    assert counted(client, f"{name}/sweep") == {("pollen", None), ("pollen", "one")}
    first = on_server(client, f"{name}/sweep")
    assert first.keys() == {slug_of(""), slug_of("one")}

    assert do(client, site("", "one", minutes=30)) == {"sweep": "update", "sweep of one": "update"}
    for slug, each in on_server(client, f"{name}/sweep").items():
        assert isinstance(each.schedule, IntervalSchedule)
        assert (each.schedule.interval, each.active) == (timedelta(minutes=30), True)
        assert each.id == first[slug].id

    assert do(client, site("", "one")) == {"sweep": "delete", "sweep of one": "delete"}


def test_one_that_somebody_paused_stays_paused_and_gets_its_root_back(
    client: SyncPrefectClient, name: str
) -> None:
    """Prefect forgets the parameters of a schedule that is paused or resumed without saying them again."""
    deploy(client, f"{name}/sweep")
    do(client, site("one", minutes=15))
    deployment = client.read_deployment_by_name(f"{name}/sweep")
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)

    do(client, site("one", minutes=15))

    assert counted(client, f"{name}/sweep") == {("pollen", "one")}
    (step,) = plan_schedules(client, site("one", minutes=15))
    assert (step.change.action, step.change.attention) == ("keep", True)
    assert do(client, site("one", minutes=30)) == {"sweep of one": "update"}
    assert [each.active for each in on_server(client, f"{name}/sweep").values()] == [False]


def test_slugs_tell_roots_apart() -> None:
    roots = ["", "a", "A", "a/b", "a-b", "ü", "x" * 100, "y" + "x" * 99]
    slugs = {slug_of(root) for root in roots}
    assert len(slugs) == len(roots)
    assert all(slug.startswith("root-") and len(slug) < 60 for slug in slugs)
