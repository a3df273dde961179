"""The recovery automations as files, and how setup compares them with those on a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import DoNothing
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger

from services.embedded import EmbeddedPrefect
from services.setup.automations import PREFIX, declared_automations, plan_automations
from services.setup.plan import Step
from services.site import Recovery, Site, deployments_folder
from tasks.faults import PollenError

FILE = """
automations:
  - name: "pollen: x"
    trigger: {type: event, posture: Proactive, after: [a], expect: [b], within: "{zombie_seconds}"}
    actions: [{type: change-flow-run-state, state: CRASHED, message: "silent for {zombie_minutes} min"}]
"""


@pytest.fixture
def client(prefect_server: EmbeddedPrefect) -> Iterator[SyncPrefectClient]:
    """A client of the shared server, on which no automation of ours is left behind."""
    with get_client(sync_client=True) as client:
        yield client
        for automation in client.read_automations():
            client.delete_automation(automation.id)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder with one file of automations."""

    def make(text: str) -> Path:
        (tmp_path / "one.yaml").write_text(text)
        return tmp_path

    return make


def do(steps: list[Step]) -> list[Step]:
    for step in steps:
        if step.do:
            step.do()
    return steps


def actions(steps: list[Step]) -> dict[str, str]:
    return {step.change.name: step.change.action for step in steps}


def on_server(client: SyncPrefectClient) -> dict[str, Automation]:
    return {automation.name: automation for automation in client.read_automations()}


def foreign(name: str) -> AutomationCore:
    return AutomationCore(name=name, trigger=EventTrigger(expect={"x"}), actions=[DoNothing()])


def test_the_second_time_nothing_is_changed_and_no_count_is_lost(
    client: SyncPrefectClient,
) -> None:
    made = do(plan_automations(client, Site()))
    assert set(actions(made).values()) == {"create"}
    before = client.request("POST", "/automations/filter", json={}).json()

    again = do(plan_automations(client, Site()))

    assert set(actions(again).values()) == {"keep"}
    assert actions(again).keys() == actions(made).keys()
    assert not any(step.do for step in again)
    # The ids of the triggers, by which the server counts, are in there as well.
    assert client.request("POST", "/automations/filter", json={}).json() == before


def test_only_what_a_changed_figure_touches_is_updated(client: SyncPrefectClient) -> None:
    do(plan_automations(client, Site()))
    before = on_server(client)

    steps = do(plan_automations(client, Site(recovery=Recovery(requeues=2, zombie_minutes=20))))

    changed = {name: action for name, action in actions(steps).items() if action != "keep"}
    assert changed == {"pollen: no sign of life": "update", "pollen: crash 3": "delete"}
    after = on_server(client)
    silent = after["pollen: no sign of life"]
    assert silent.id == before["pollen: no sign of life"].id
    assert isinstance(silent.trigger, EventTrigger)
    assert silent.trigger.within.total_seconds() == 20 * 60
    (step,) = (step for step in steps if step.change.action == "update")
    assert step.change.detail == "actions, description, trigger; its counts begin anew"


def test_ours_that_are_declared_no_more_go_and_those_of_others_stay(
    client: SyncPrefectClient,
) -> None:
    do(plan_automations(client, Site()))
    client.create_automation(foreign("pollen: from an older version"))
    client.create_automation(foreign("pollen count of a colleague"))
    client.create_automation(foreign("pollen: no sign of life"))  # a second setup at that moment

    steps = do(plan_automations(client, Site()))

    gone = [step.change for step in steps if step.change.action == "delete"]
    assert sorted((change.name, change.detail) for change in gone) == [
        ("pollen: from an older version", "no longer declared"),
        ("pollen: no sign of life", "there is another of that name"),
    ]
    assert "pollen count of a colleague" in on_server(client)
    assert set(actions(plan_automations(client, Site())).values()) == {"keep"}


def test_one_that_somebody_paused_stays_paused_and_is_told(client: SyncPrefectClient) -> None:
    do(plan_automations(client, Site()))
    for name in ("pollen: crash 1", "pollen: no sign of life"):
        client.pause_automation(on_server(client)[name].id)

    steps = do(plan_automations(client, Site(recovery=Recovery(zombie_minutes=20))))

    assert {step.change.name for step in steps if step.change.attention} == {"pollen: crash 1"}
    paused = {name for name, automation in on_server(client).items() if not automation.enabled}
    assert paused == {"pollen: crash 1", "pollen: no sign of life"}


@pytest.mark.parametrize("requeues", [0, 1, 5])
def test_there_is_one_automation_per_crash_that_is_healed(requeues: int) -> None:
    declared = declared_automations(Recovery(requeues=requeues))

    crashes = [each for each in declared if each.name.startswith("pollen: crash ")]
    assert [each.trigger.threshold for each in crashes] == list(range(1, requeues + 1))  # type: ignore[union-attr]


def test_every_automation_says_whose_it_is_and_where_to_change_it() -> None:
    folder = deployments_folder() / "automations"

    for automation in declared_automations(Recovery()):
        assert automation.name.startswith(PREFIX)
        assert "{" not in automation.model_dump_json().replace('{"', "").replace(":{", "")
        (path,) = (path for path in folder.glob("*.yaml") if path.name in automation.description)
        assert path.is_file()


def test_pods_of_all_our_deployments_are_diagnosed() -> None:
    """Events about pods carry no tags: flows and deployments are named in the file."""
    deployments = yaml.safe_load((deployments_folder().parent / "prefect.yaml").read_text())
    ours = [each for each in deployments["deployments"] if "pollen" in each["tags"]]
    flows = {each["entrypoint"].partition(":")[2].replace("_", "-") for each in ours}

    named = [each for each in declared_automations(Recovery()) if "say" in each.name]

    assert named
    for automation in named:
        trigger = automation.trigger
        assert isinstance(trigger, EventTrigger)
        assert isinstance(trigger.match_related, list)
        names = {
            related["prefect.resource.role"][0]: set(related["prefect.resource.name"])
            for related in trigger.match_related
            if "prefect.resource.name" in related
        }
        assert names == {"flow": flows, "deployment": {each["name"] for each in ours}}


def test_placeholders_take_the_figures_with_their_type(folder: Callable[[str], Path]) -> None:
    (automation,) = declared_automations(Recovery(zombie_minutes=20), folder(FILE))

    assert isinstance(automation.trigger, EventTrigger)
    assert automation.trigger.within.total_seconds() == 1200
    assert "silent for 20 min" in automation.model_dump_json()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{zombie_seconds}",
            "{zombie_hours}",
            "{zombie_hours} stands for nothing; known are ",
        ),
        ("within:", "wihtin:", "'pollen: x' has 'wihtin', which Prefect would ignore"),
        (
            "state: CRASHED",
            "state: DEAD",
            "yaml: actions.0.ChangeFlowRunState.state: Input should be",
        ),
        ("pollen: x", "x", "the name 'x' must begin with 'pollen: '"),
        ("automations:", "automation:", "automations: Field required"),
        ("type: event", "type: [", "can't be read"),
        ("automations:", "for_each: '{crash}'\nautomations:", "{crash} stands for nothing"),
        ("automations:", "for_each: '{zombie_minutes}'\nautomations:", "should be a valid list"),
        ("actions:", "more: 1\n    actions:", "'pollen: x' has 'more'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(
    folder: Callable[[str], Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(PollenError, match=r"one\.yaml") as raised:
        declared_automations(Recovery(), folder(FILE.replace(old, new)))

    assert message in str(raised.value)


def test_a_name_that_is_there_twice_is_an_error(folder: Callable[[str], Path]) -> None:
    with pytest.raises(PollenError, match="another automation has the name 'pollen: x'"):
        declared_automations(Recovery(), folder("for_each: [{}, {}]" + FILE))


def test_without_files_nothing_is_taken_for_undeclared(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match="holds no automations"):
        declared_automations(Recovery(), tmp_path)
