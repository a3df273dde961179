"""The automations as files, and how setup compares them with those on a real server."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import DoNothing, RunDeployment, SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger
from prefect.exceptions import ObjectNotFound

from pollen.errors import PollenError
from services.embedded import EmbeddedPrefect
from services.setup.automation_files import PREFIX
from services.setup.automations import plan_automations
from services.setup.deployments import declared_deployments
from services.setup.plan import Step
from services.setup.references import Reference
from services.site import (
    Events,
    Notification,
    Notifications,
    Occasion,
    Recovery,
    Site,
    deployments_folder,
)
from tasks.cluster.deploy_hint import DEPLOY
from tests.support.automations import declared_automations

DETECT, CHECK = "detect/on-upload", "dataset-check/on-upload"
PICTURES, EXPORTS = "pollen: on upload of pictures", "pollen: on upload of exports"
FILE = """
automations:
  - name: "pollen: x"
    trigger: {type: event, posture: Proactive, after: [a], expect: [b], within: "{zombie_seconds}"}
    actions: [{type: change-flow-run-state, state: CRASHED, message: "silent for {zombie_minutes} min"}]
"""


@pytest.fixture
def client(prefect_server: EmbeddedPrefect) -> Iterator[SyncPrefectClient]:
    """A client of the shared server, on which nothing of ours is left behind; what uploads start is deployed."""
    with get_client(sync_client=True) as client:
        made = [deploy(client, path) for path in (DETECT, CHECK)]
        yield client
        for automation in client.read_automations():
            client.delete_automation(automation.id)
        for deployment in made:
            with suppress(ObjectNotFound):
                client.delete_deployment(deployment)


def deploy(client: SyncPrefectClient, path: str) -> UUID:
    flow, _, name = path.partition("/")
    return client.create_deployment(flow_id=client.create_flow_from_name(flow), name=name)


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


def changes(steps: list[Step]) -> dict[str, str]:
    return {name: action for name, action in actions(steps).items() if action != "keep"}


def starts(automation: Automation) -> UUID | None:
    (action,) = automation.actions
    assert isinstance(action, RunDeployment)
    return action.deployment_id


def told(*blocks: str, about: tuple[Occasion, ...]) -> Site:
    """A site that tells these blocks of something."""
    to = tuple(Notification(block=block, about=about) for block in blocks)
    return Site(notifications=Notifications(to=to))


def any_id(_: Reference) -> UUID:
    return UUID(int=1)


EVERYTHING = Site(
    events=Events(check_exports=True),
    notifications=Notifications(to=(Notification(block="slack-webhook/lab"),)),
)


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
    assert step.change.detail == "actions, description, trigger; its counts start again"


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
        ("pollen: no sign of life", "there is another one with this name"),
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


def test_what_starts_a_deployment_waits_for_it_and_follows_it(client: SyncPrefectClient) -> None:
    site = Site(events=Events(check_exports=True))
    client.delete_deployment(client.read_deployment_by_name(DETECT).id)

    steps = do(plan_automations(client, site))

    (waits,) = (step.change for step in steps if step.change.name == PICTURES)
    assert (waits.action, waits.attention) == ("keep", True)
    assert waits.detail.startswith(f"waits for the deployment {DETECT}: {DEPLOY}")
    assert PICTURES not in on_server(client)
    assert EXPORTS in on_server(client)

    made = deploy(client, DETECT)
    assert changes(do(plan_automations(client, site))) == {PICTURES: "create"}
    assert starts(on_server(client)[PICTURES]) == made
    assert changes(plan_automations(client, site)) == {}

    client.delete_deployment(made)
    assert changes(plan_automations(client, site)) == {}  # it waits once more
    anew = deploy(client, DETECT)
    assert changes(do(plan_automations(client, site))) == {PICTURES: "update"}
    assert starts(on_server(client)[PICTURES]) == anew
    client.delete_deployment(anew)


def test_exports_are_checked_only_where_that_is_wanted(client: SyncPrefectClient) -> None:
    do(plan_automations(client, Site(events=Events(check_exports=True))))
    assert starts(on_server(client)[EXPORTS]) == client.read_deployment_by_name(CHECK).id
    assert changes(do(plan_automations(client, Site()))) == {EXPORTS: "delete"}


def test_messages_go_to_the_blocks_that_are_named(client: SyncPrefectClient) -> None:
    lab, boss = f"lab-{uuid4().hex[:8]}", f"boss-{uuid4().hex[:8]}"
    saved = {
        name: CustomWebhookNotificationBlock(name=name, url="http://127.0.0.1:9/").save(name)
        for name in (lab, boss)
    }
    to = (
        Notification(block=f"custom-webhook/{lab}"),
        Notification(block=f"custom-webhook/{boss}", about=("models",)),
    )
    site = Site(notifications=Notifications(to=to))

    do(plan_automations(client, site))

    sent = {
        name: action.block_document_id
        for name, automation in on_server(client).items()
        for action in automation.actions
        if isinstance(action, SendNotification)
    }
    assert {name for name, block in sent.items() if block == saved[boss]} == {
        f"pollen: tell custom-webhook/{boss} of models"
    }
    assert {
        name.rpartition(f"{lab} of ")[2] for name, block in sent.items() if block == saved[lab]
    } == {
        "failed runs",
        "runs that stay crashed",
        "uploads that start no run",
        "failed pictures",
        "labels to correct",
        "models",
        "silence",
    }
    assert changes(plan_automations(client, site)) == {}
    assert set(changes(do(plan_automations(client, Site()))).values()) == {"delete"}


def test_a_block_that_can_send_nothing_is_a_line_in_the_plan(client: SyncPrefectClient) -> None:
    name = f"key-{uuid4().hex[:8]}"
    Secret(value="x").save(name)  # type: ignore[arg-type]
    blocks = {
        f"secret/{name}": "can't send messages",
        "slack-webhook/typo": "there is no block slack-webhook/typo",
        "no-such-type/lab": "there is no block no-such-type/lab",
    }

    steps = do(plan_automations(client, told(*blocks, about=("models",))))

    for block, words in blocks.items():
        (change,) = (step.change for step in steps if block in step.change.name)
        assert (change.action, change.attention) == ("keep", True)
        assert words in change.detail
        assert change.name not in on_server(client)


@pytest.mark.parametrize("requeues", [0, 1, 5])
def test_there_is_one_automation_per_crash_that_is_healed(requeues: int) -> None:
    declared = declared_automations(Site(recovery=Recovery(requeues=requeues)))

    crashes = [each for each in declared if each.name.startswith("pollen: crash ")]
    assert [each.trigger.threshold for each in crashes] == list(range(1, requeues + 1))  # type: ignore[union-attr]


def test_every_automation_says_whose_it_is_and_where_to_change_it() -> None:
    folder = deployments_folder() / "automations"

    declared = declared_automations(EVERYTHING, any_id)
    assert {PICTURES, EXPORTS} <= {each.name for each in declared}
    for automation in declared:
        assert automation.name.startswith(PREFIX)
        assert not re.search(r"(?<!\{)\{\w", automation.model_dump_json())
        (path,) = (path for path in folder.glob("*.yaml") if path.name in automation.description)
        assert path.is_file()


def test_pods_of_all_our_deployments_are_diagnosed() -> None:
    """Events about pods carry no tags: flows and deployments are named in the file."""
    ours = [each.name.partition("/") for each in declared_deployments()]

    named = [each for each in declared_automations(Site()) if "say" in each.name]

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
        assert names == {
            "flow": {flow for flow, _, _ in ours},
            "deployment": {name for _, _, name in ours},
        }


def test_what_the_server_fills_in_stays_as_it_is(folder: Callable[[str], Path]) -> None:
    text = FILE.replace("silent for {zombie_minutes} min", "{{zombie}} {{ a }} {zombie_minutes}")

    (automation,) = declared_automations(Site(), folder=folder(text))

    assert "{{zombie}} {{ a }} 15" in automation.model_dump_json()


def test_placeholders_take_the_figures_with_their_type(folder: Callable[[str], Path]) -> None:
    (automation,) = declared_automations(
        Site(recovery=Recovery(zombie_minutes=20)), folder=folder(FILE)
    )

    assert isinstance(automation.trigger, EventTrigger)
    assert automation.trigger.within.total_seconds() == 1200
    assert "silent for 20 min" in automation.model_dump_json()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{zombie_seconds}",
            "{zombie_hours}",
            "{zombie_hours} is not known; expected one of ",
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
        ("automations:", "for_each: '{crash}'\nautomations:", "{crash} is not known"),
        ("automations:", "for_each: '{zombie_minutes}'\nautomations:", "should be a valid list"),
        ("actions:", "more: 1\n    actions:", "'pollen: x' has 'more'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(
    folder: Callable[[str], Path], old: str, new: str, message: str
) -> None:
    with pytest.raises(PollenError, match=r"one\.yaml") as raised:
        declared_automations(Site(), folder=folder(FILE.replace(old, new)))

    assert message in str(raised.value)


def test_a_name_that_is_there_twice_is_an_error(folder: Callable[[str], Path]) -> None:
    with pytest.raises(PollenError, match="there are two automations with the name 'pollen: x'"):
        declared_automations(Site(), folder=folder("for_each: [{}, {}]" + FILE))


def test_without_files_nothing_is_taken_for_undeclared(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match="holds no automations"):
        declared_automations(Site(), folder=tmp_path)
