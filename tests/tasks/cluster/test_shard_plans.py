"""Plans: what a shard makes sure of before it follows one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pollen.detection.batches import Batch, Item
from pollen.detection.profile import COUNTING_VERSION, Profile
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.layout import PLANS, plan_key
from pollen.models.card import ModelCard
from tasks.cluster import shard_plans
from tasks.cluster.shard_plans import (
    ShardPlan,
    forget_plans,
    last_number,
    read_plan,
    unfinished_plan,
    write_plan,
)
from tasks.detection.work import Work
from tasks.models.resolve import Model
from tasks.storage.store import Location, open_store

SETTINGS = DetectSettings(device="cpu", confidence=0.3)
CARD = ModelCard(version="v1", sha256="a" * 64)
PROFILE = Profile.resolve(CARD, SETTINGS)
BATCHES = (
    Batch((Item("a.png", "1", 5), Item("ä/b c.png", "2", 6))),
    Batch((Item("d.czi", "3", 7),)),
)


def planned(number: int = 1, **changes: Any) -> ShardPlan:  # noqa: ANN401
    given: dict[str, Any] = {
        "id": f"plan-{number}",
        "number": number,
        "model": "v1",
        "profile": PROFILE,
        "settings": SETTINGS,
        "pictures": 3,
        "shards": tuple((batch,) for batch in BATCHES),
    }
    return ShardPlan(**given | changes)


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return Location(folder=tmp_path)


@pytest.fixture
def work(root: Location) -> Work:
    return Work(root, root, Model(Path("best.pt"), CARD), PROFILE, SETTINGS, "records/")


def put(root: Location, plan: ShardPlan, **changes: object) -> str:
    data = json.loads(plan.model_dump_json()) | changes
    return write_plan(root, "run", plan.number, json.dumps(data).encode())


def test_a_plan_is_read_as_it_was_written(root: Location) -> None:
    key = put(root, planned())
    found = read_plan(open_store(root), key)
    assert found == planned()
    assert found.profile.fingerprint == PROFILE.fingerprint
    assert [found.part(1).batches, found.part(2).batches] == [(BATCHES[0],), (BATCHES[1],)]
    assert found.part(1).batches[0].id == BATCHES[0].id
    found.check(PROFILE)


@pytest.mark.parametrize("shard", [0, 3, -1])
def test_a_part_that_is_not_there(shard: int) -> None:
    with pytest.raises(PollenError, match=f"shards 1 to 2, not for {shard}"):
        planned().part(shard)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code_version": "0.0.1"}, r"made by version 0\.0\.1 .*same image"),
        ({"code_version": "99", "new field": 1}, "made by version 99 "),
        ({"unknown": 1}, r"this program can't read the plan .* \(1 faults\)"),
        ({"number": 0}, "this program can't read the plan"),
        ({"code_version": None}, "this program can't read the plan"),
    ],
)
def test_a_plan_of_another_program_is_refused(
    root: Location, changes: dict[str, object], message: str
) -> None:
    plan = planned()
    key = write_plan(
        root,
        "run",
        1,
        json.dumps(json.loads(plan.model_dump_json()) | changes).encode(),
    )
    with pytest.raises(PollenError, match=message):
        read_plan(open_store(root), key)


def test_a_plan_that_is_gone(root: Location) -> None:
    with pytest.raises(PollenError, match="run that made it has ended"):
        read_plan(open_store(root), plan_key("run", 1))


def test_a_shard_never_counts_with_another_model() -> None:
    with pytest.raises(PollenError, match=f"expected the SHA-256 {'a' * 64}, found {'b' * 64}"):
        planned().check(replace(PROFILE, model_sha256="b" * 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "cuda", "precision": "fp16"}, "device cuda for cpu, precision fp16 for fp32"),
        ({"counting_version": 99}, f"counting_version 99 for {COUNTING_VERSION}"),
        ({"confidence": 0.4}, r"confidence 0\.4 for 0\.3"),
    ],
)
def test_a_shard_never_counts_otherwise_than_planned(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PollenError, match=message):
        planned().check(replace(PROFILE, **change))


def test_a_run_that_was_killed_finds_its_last_plan(root: Location, work: Work) -> None:
    assert (last_number(root, "run"), unfinished_plan(work, "run")) == (0, None)
    put(root, planned())
    put(root, planned(2, pictures=1))
    assert last_number(root, "run") == 2
    assert unfinished_plan(work, "run") == planned(2, pictures=1)
    assert unfinished_plan(work, "another run") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"profile": replace(PROFILE, model_version="v2")},
        {"settings": SETTINGS.model_copy(update={"annotate": False})},
    ],
    ids=["model", "settings"],
)
def test_a_plan_for_something_else_is_left_alone(
    root: Location, work: Work, changes: dict[str, Any]
) -> None:
    put(root, planned(**changes))
    assert unfinished_plan(work, "run") is None


def test_a_plan_of_another_version_is_left_alone(
    root: Location, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(root, planned())
    monkeypatch.setattr(shard_plans, "__version__", "99")
    assert unfinished_plan(work, "run") is None


def test_plans_are_forgotten(root: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, planned())
    other = f"{PLANS}of another run/0001.json"
    open_store(root).write(other, b"{}")
    forget_plans(root, "run")
    assert [entry.key for entry in open_store(root).list(PLANS)] == [other]
    monkeypatch.setattr(shard_plans, "KEPT_S", -60.0)
    forget_plans(root, "run")
    assert not list(open_store(root).list(PLANS))
