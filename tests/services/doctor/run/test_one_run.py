"""`pollen doctor RUN` on a real server, with a cluster's API beside it (a small server; see its docstring)."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import task
from prefect.client.orchestration import PrefectClient, SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, InfrastructurePending, Late, Pending, Running

from pollen.errors import PollenError
from services.embedded import EmbeddedPrefect
from tests.services.doctor.conftest import Doctor
from tests.services.doctor.runs import Story, make, with_client
from tests.support.kubernetes import container, fake_cluster, pod_status


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def story(**given: object) -> tuple[UUID, str]:
    """A run of a new name; its id and name."""
    name = f"run-{uuid4().hex[:8]}"
    made = Story(name=name, **given)  # type: ignore[arg-type]
    return asyncio.run(with_client(lambda client: make(client, made))), name


def test_by_name_and_by_id(prefect_server: EmbeddedPrefect, doctor: Doctor) -> None:
    run, name = story(states=[Running(), Completed(message="3 images")])
    for asked in (name, str(run)):
        code, (header, main, *notes) = doctor(asked)
        assert code == 0
        assert header["summary"].startswith(f"run '{name}' (detect/on-")
        assert str(run) in header["detail"]
        assert main["summary"] == "done (Completed)"
        assert [note["summary"] for note in notes] == [
            "there is no kubeconfig here: its pods were not checked"
        ]


def test_an_account_that_may_not_read_work_pools_gets_the_explanation(
    prefect_server: EmbeddedPrefect, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = story(states=[Running(), Completed(message="3 images")])

    def refused(*_: object, **__: object) -> None:
        raise PollenError("HTTP 403")

    monkeypatch.setattr(SyncPrefectClient, "read_work_pools", refused)
    code, (_, main, *_) = doctor(str(run))
    assert (code, main["summary"]) == (0, "done (Completed)")


def test_of_several_the_newest(prefect_server: EmbeddedPrefect, doctor: Doctor) -> None:
    name = f"twice-{uuid4().hex[:8]}"

    async def both(client: PrefectClient) -> UUID:
        await make(client, Story(states=[Running(), Crashed()], name=name))
        await asyncio.sleep(0.05)
        return await make(client, Story(states=[Running(), Completed()], name=name))

    newest = asyncio.run(with_client(both))
    code, (first, header, *_) = doctor(name)
    assert code == 0
    assert first["summary"] == "2 runs have this name; this is the newest"
    assert str(newest) in header["detail"]


def test_a_name_that_is_not_there(prefect_server: EmbeddedPrefect, doctor: Doctor) -> None:
    _, name = story(states=[Running()])
    code, (only,) = doctor(name[:-2])
    assert code == 2
    assert name in only["resolution"]
    assert doctor(str(uuid4()))[0] == 2


def test_no_server_is_named(doctor: Doctor) -> None:
    code, (only,) = doctor("anything")
    assert code == 2
    assert "PREFECT_API_URL is not set" in only["summary"]


def test_the_pods_of_a_run_are_looked_at(
    prefect_server: EmbeddedPrefect,
    doctor: Doctor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server knows only that it is pending; the cluster knows why."""
    run, name = story(states=[Pending(), InfrastructurePending()])
    missing = {"reason": "CreateContainerConfigError", "message": 'secret "pollen-s3" not found'}
    pod = {
        "metadata": {"name": "x", "labels": {"prefect.io/flow-run-id": str(run)}},
        "status": pod_status("Pending", container(waiting=missing)),
    }
    with fake_cluster() as cluster:
        cluster.objects["/api/v1/namespaces/default/pods"] = [pod]
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
        code, (_, main, *_) = doctor(name)
        assert code == 2
        assert "a Secret or ConfigMap that does not exist" in main["summary"]
        assert "pollen-s3" in main["detail"]

        cluster.token = "another"
        code, (_, main, note) = doctor(name)
        assert code == 0
        assert main["summary"] == "it is starting"
        assert "its pods were not checked: " in note["summary"]


def test_a_run_whose_pod_is_gone_while_prefect_takes_it_for_running(
    prefect_server: EmbeddedPrefect,
    doctor: Doctor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, name = story(states=[Running()])
    with fake_cluster() as cluster:
        cluster.objects["/api/v1/namespaces/default/pods"] = []
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(tmp_path)))
        code, (_, main, *_) = doctor(name)
    assert code == 2
    assert "has no pod any more" in main["summary"]
    assert "OBSERVER_NAMESPACES" in main["resolution"]


@task
def start_shards() -> None:
    """Stands for the task run by which a run starts others."""


SHARDS: tuple[tuple[State, ...], ...] = (
    (Running(),),
    (Late(scheduled_time=datetime(2026, 1, 1, tzinfo=UTC)),),
    (Running(), Crashed(message="Kubernetes job was deleted")),
)


@pytest.mark.parametrize("done", [False, True])
def test_a_coordinator_tells_of_its_shards(
    prefect_server: EmbeddedPrefect, doctor: Doctor, done: bool
) -> None:
    ended: tuple[State, ...] = (Running(), Completed()) if done else (Running(),)

    async def with_shards(client: PrefectClient) -> UUID:
        parent = await make(client, Story(states=ended, kind="process"))
        starter = await client.create_task_run(
            start_shards, flow_run_id=parent, dynamic_key="0", state=Running()
        )
        for number, states in enumerate(SHARDS):
            name = f"part {number}"
            await make(
                client,
                Story(states, kind="process", flow="detect-shard", name=name, parent=starter.id),
            )
        return parent

    code, (_, main, runs, *others) = doctor(str(asyncio.run(with_client(with_shards))))
    assert main["level"] == "ok"
    if done:
        # What crashed shards left undone, others did.
        assert (code, others) == (0, [])
        assert (
            runs["summary"]
            == "it started 3 runs; 2 of them did not end well, and others did their work"
        )
        return
    assert code == 2
    assert runs["summary"] == "1 of the 3 runs that it started are running or done"
    said = [each["summary"] for each in others]
    assert any(text.startswith("'part 1', started by it: no worker is online") for text in said)
    assert any(
        "'part 2', started by it: the run's Job in Kubernetes was deleted" in text for text in said
    )
