"""Messages about runs, from a real Prefect server to a real HTTP endpoint, through Prefect's own block.

The automations are a site's, but what waits for hours or days waits for seconds.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import Completed, Crashed, Failed, Pending, Running

from services.embedded import EmbeddedPrefect
from services.setup.references import on_server
from services.site import Notification, Notifications, Occasion, Site
from tests.support.automations import declared_automations
from tests.support.inbox import Inbox, inbox

#: Prefect allows 10 s and more.
CRASH_WAIT = timedelta(seconds=10)
SILENCE = timedelta(seconds=10)
FLOWS = ("detect", "train", "promote", "dataset-check", "detect-shard")


@pytest.fixture(scope="module")
def told() -> Iterator[Inbox]:
    with inbox() as found:
        yield found


@dataclass
class Lab:
    """Deployments on the shared server, whose runs are put into states by hand, and who is told of them."""

    client: SyncPrefectClient
    inbox: Inbox
    deployments: dict[str, UUID]

    def run(self, flow: str, *states: State[Any]) -> str:
        """Make a run that goes through these states; returns its name."""
        name = f"{flow} lab {uuid4().hex[:6]}"
        made: FlowRun = self.client.create_flow_run_from_deployment(
            self.deployments[flow], name=name
        )
        for state in (Pending(), Running(), *states):
            self.client.set_flow_run_state(made.id, state, force=True)
        return name

    def told(self, path: str, *names: str) -> dict[str, dict[str, str]]:
        """Messages by the run they are about, once all of these were told of."""

        def of(messages: list[dict[str, str]]) -> dict[str, dict[str, str]]:
            return {each["subject"].rpartition(": ")[0]: each for each in messages}

        return of(self.inbox.until(path, lambda messages: set(names) <= of(messages).keys()))


@pytest.fixture(scope="module")
def lab(prefect_process: EmbeddedPrefect, told: Inbox) -> Iterator[Lab]:
    mark = uuid4().hex[:8]
    occasions: tuple[Occasion, ...] = ("failed", "failed_images", "models", "silence")
    with prefect_process.active(), get_client(sync_client=True) as client:
        deployments = {
            flow: client.create_deployment(
                flow_id=client.create_flow_from_name(flow), name=f"told-{mark}", tags=["pollen"]
            )
            for flow in FLOWS
        }
        deployments["of others"] = client.create_deployment(
            flow_id=client.create_flow_from_name("detect"), name=f"others-{mark}"
        )
        for occasion in occasions:
            CustomWebhookNotificationBlock(
                name=occasion,
                url=f"{told.address}/{occasion}",
                json_data={"subject": "{{subject}}", "body": "{{body}}"},
            ).save(f"{occasion.replace('_', '-')}-{mark}")
        to = tuple(
            Notification(
                block=f"custom-webhook/{occasion.replace('_', '-')}-{mark}", about=(occasion,)
            )
            for occasion in occasions
        )
        site = Site(notifications=Notifications(to=to, silent_days=2))
        made = [
            client.create_automation(hurried(each))
            for each in declared_automations(site, on_server(client))
            if each.name.startswith("pollen: tell ")
        ]
        yield Lab(client, told, deployments)
        for automation in made:
            client.delete_automation(automation)
        for deployment in deployments.values():
            client.delete_deployment(deployment)


@pytest.fixture(scope="module", autouse=True)
def pulse(lab: Lab, prefect_process: EmbeddedPrefect) -> Iterator[Callable[[], float]]:
    """Let detections end well, one after another; stop when called, with the longest pause in seconds."""
    enough = threading.Event()
    pauses = [0.0]

    def beat() -> None:
        last = time.monotonic()
        with get_client(sync_client=True) as client:
            while not enough.is_set():
                Lab(client, lab.inbox, lab.deployments).run("detect", Completed(name="NothingNew"))
                pauses.append(time.monotonic() - last)
                last = time.monotonic()
                enough.wait(2)

    def stop() -> float:
        enough.set()
        thread.join()
        return max(pauses)

    with prefect_process.active():
        thread = threading.Thread(target=contextvars.copy_context().run, args=(beat,))
        thread.start()
        yield stop
        stop()


@pytest.fixture(scope="module", autouse=True)
def crashed(lab: Lab) -> dict[str, str]:
    """Runs that crashed before all else, for it takes a while until that is told."""
    return {
        "again": lab.run("detect", Crashed(), Failed(name="Restarting")),
        "shard": lab.run("detect-shard", Crashed()),
        "stays": lab.run("train", Crashed(message="evicted")),
        "lost": lab.run("detect", Failed(name="LostBeforeStart", message="no pod came of it")),
    }


def hurried(automation: AutomationCore) -> AutomationCore:
    trigger = automation.trigger
    assert isinstance(trigger, EventTrigger)
    if trigger.posture is Posture.Proactive:
        silence = trigger.within > timedelta(days=1)
        trigger.within = SILENCE if silence else CRASH_WAIT
    return automation


def test_runs_that_failed_for_good_are_told_with_reason_and_link(lab: Lab) -> None:
    untold = [
        lab.run("detect-shard", Failed(message="a shard")),
        lab.run("of others", Failed(message="somebody else's")),
        lab.run("detect", Failed(name="Restarting", message="Crash 1")),
        lab.run("detect", Completed(message="3 pictures")),
    ]
    failed = lab.run(
        "detect", Failed(message='no pictures can be read: "quoted" <b>, check {{ x }}')
    )
    others = {
        lab.run("train", Failed(name="TimedOut", message="too slow")): "TimedOut",
        lab.run("promote", Failed(message="no such model")): "Failed",
        lab.run(
            "dataset-check", Failed(name="PendingTooLong", message="no node")
        ): "PendingTooLong",
    }
    # Once in an hour is enough for a deployment.
    untold.append(lab.run("detect", Failed(message="no pictures can be read, still")))

    told = lab.told("failed", failed, *others)

    assert told[failed]["subject"] == f"{failed}: Failed"
    reason, _, link = told[failed]["body"].splitlines()
    assert reason == 'no pictures can be read: "quoted" <b>, check {{ x }}'
    assert link.startswith("http")
    assert "/runs/flow-run/" in link
    assert {name: told[name]["subject"].rpartition(": ")[2] for name in others} == others
    assert not set(untold) & told.keys()


def test_failed_pictures_and_labels_to_correct_are_told(lab: Lab) -> None:
    untold = {
        lab.run("detect", Completed(message="3 images, 120 grains")),
        lab.run("detect", Completed(name="CompletedWithFailures", message="3 images; 2 failed")),
    }
    news = "3 images, 7 grains, 71.4% viable; 2 failed, 1 of them new; 1 counted earlier"
    pictures = lab.run("detect", Completed(name="CompletedWithFailures", message=news))
    labels = lab.run("dataset-check", Completed(name="ChangesNeeded", message="to correct: a.zip"))

    told = lab.told("failed_images", pictures, labels)

    assert told[pictures]["subject"] == f"{pictures}: CompletedWithFailures"
    assert told[pictures]["body"].startswith(f"{news}\n\nhttp")
    assert told[labels]["body"].startswith("to correct: a.zip\n")
    assert not untold & told.keys()


def test_models_are_told_promoted_or_not(lab: Lab) -> None:
    untold = [
        lab.run("train", Completed(name="NothingNew")),
        lab.run("promote", Completed(name="NothingNew")),
        lab.run("detect", Completed()),
    ]
    promoted = lab.run("train", Completed(message="model v2 is now in production"))
    refused = lab.run("train", Completed(name="NotPromoted", message="not promoted; mAP50 fell"))
    chosen = lab.run("promote", Completed(message="model v1 is now in production (promotion 3)"))

    told = lab.told("models", promoted, refused, chosen)

    assert told[promoted]["subject"] == f"{promoted}: promoted"
    assert told[refused]["subject"] == f"{refused}: not promoted"
    assert told[refused]["body"].startswith("not promoted; mAP50 fell\n\nhttp")
    assert told[chosen]["body"].startswith("model v1 is now in production (promotion 3)\n")
    assert not set(untold) & told.keys()


def test_an_upload_that_starts_no_run_is_told_once(lab: Lab) -> None:
    gone = lab.client.create_deployment(
        flow_id=lab.client.create_flow_from_name("detect"), name=f"gone-{uuid4().hex[:8]}"
    )
    (upload,) = (
        each
        for each in declared_automations(Site(), lambda _: gone)
        if each.name == "pollen: on upload of pictures"
    )
    made = lab.client.create_automation(upload)
    lab.client.delete_deployment(gone)
    for root in ("one", "two"):
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "pollen.pictures.uploaded",
            "resource": {"prefect.resource.id": f"pollen.root.{root}"},
            "payload": {"bucket": "pollen", "prefix": root},
        }
        lab.client.request("POST", "/events", json=[event]).raise_for_status()

    def found(messages: list[dict[str, str]]) -> list[dict[str, str]]:
        return [each for each in messages if each["subject"] == "Pollen: an upload starts no run"]

    (message,) = found(lab.inbox.until("failed", lambda messages: bool(found(messages))))
    later = lab.run("dataset-check", Completed(name="ChangesNeeded", message="later"))
    lab.told("failed_images", later)
    lab.client.delete_automation(made)

    assert message["body"].startswith("'pollen: on upload of pictures' could not start a run: ")
    assert "404" in message["body"]
    assert found(lab.inbox.of("failed")) == [message]


def test_a_crash_is_told_only_where_the_run_is_not_started_again(
    lab: Lab, crashed: dict[str, str]
) -> None:
    stays, lost = crashed["stays"], crashed["lost"]

    told = lab.told("failed", stays, lost)

    assert told[stays]["subject"] == f"{stays}: Crashed"
    assert told[stays]["body"].startswith("evicted\n\n")
    assert told[lost]["subject"] == f"{lost}: LostBeforeStart"
    assert not {crashed["again"], crashed["shard"]} & told.keys()
    assert [each["subject"] for each in lab.inbox.of("failed")].count(f"{stays}: Crashed") == 1


def test_silence_is_told_again_and_again_but_not_while_runs_end_well(
    lab: Lab, pulse: Callable[[], float]
) -> None:
    """It comes last: runs ended well all the while."""
    if pulse() < SILENCE.total_seconds() / 2:  # else this machine itself was silent
        assert lab.inbox.of("silence") == []

    (first, second, *_) = lab.inbox.until("silence", lambda messages: len(messages) > 1)

    assert first == second
    assert first["subject"] == "Pollen: no detection for 2 days"
    assert "`pollen doctor` says what is wrong" in first["body"]
