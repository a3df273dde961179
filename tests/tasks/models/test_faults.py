"""Every stage of the registry waits and completes after 503, and is tried once after 403."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prefect import flow

import tasks.stage
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.faults import StorageError
from tasks.models.catalogue import list_models, show_model
from tasks.models.promotions import Order, promote, register_bundled, rollback
from tasks.models.publishing import publish
from tasks.models.registry import read_history
from tasks.stage import Stage
from tasks.storage.store import Location, open_store
from tests.support.models import put_model, stand_in
from tests.support.runs import bucket_folder
from tests.support.wire import Wire, tapped


@dataclass(frozen=True)
class Case:
    """A stage, its arguments, the request that is refused, and how many promotions there are behind it."""

    stage: Stage[..., Any]
    arguments: Callable[[Location, Path], tuple[Any, ...]]
    operation: str
    part: str
    promotions: int


def published(root: Location, scratch: Path) -> tuple[Any, ...]:
    put_model(root, scratch, "v1")
    return root, "v1", Order.now()


def promoted_twice(root: Location, scratch: Path) -> tuple[Any, ...]:
    for version in ("v1", "v2"):
        put_model(root, scratch, version)
        promote(root, version, Order.now())
    return root, Order.now()


def unpublished(root: Location, scratch: Path) -> tuple[Any, ...]:
    return root, *stand_in(scratch, "v1"), {"model_card.md": b"# A model"}


def nothing(root: Location, _: Path) -> tuple[Any, ...]:
    return root, Order.now()


def to_be_shown(root: Location, scratch: Path) -> tuple[Any, ...]:
    return published(root, scratch)[:2]


def to_be_listed(root: Location, scratch: Path) -> tuple[Any, ...]:
    return published(root, scratch)[:1]


CASES = {
    "promote": Case(promote, published, "PutObject", "/promotions/", 1),
    "promote: history": Case(promote, published, "ListObjectsV2", "promotions", 1),
    "promote: card": Case(promote, published, "GetObject", "model.json", 1),
    "promote: weights": Case(promote, published, "GetObject", "best.pt", 1),
    "rollback": Case(rollback, promoted_twice, "PutObject", "/promotions/", 3),
    "rollback: history": Case(rollback, promoted_twice, "GetObject", "/promotions/", 3),
    "register": Case(register_bundled, nothing, "PutObject", "/promotions/", 1),
    "register: weights": Case(register_bundled, nothing, "PutObject", "best.pt", 1),
    "publish: weights": Case(publish, unpublished, "PutObject", "best.pt", 0),
    "publish: beside": Case(publish, unpublished, "PutObject", "model_card.md", 0),
    "publish": Case(publish, unpublished, "PutObject", "model.json", 0),
    "list": Case(list_models, to_be_listed, "GetObject", "model.json", 0),
    "show": Case(show_model, to_be_shown, "GetObject", "model.json", 0),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture
def root(s3_server: EmbeddedS3, request: pytest.FixtureRequest) -> Iterator[Location]:
    with s3_server.active():
        yield bucket_folder(f"registry faults/{abs(hash(request.node.name)):x}")


@pytest.fixture
def arguments(case: Case, root: Location, tmp_path: Path) -> tuple[Any, ...]:
    return case.arguments(root, tmp_path)


@pytest.fixture
def wire(case: Case, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.0)
    monkeypatch.setattr(case.stage, "retry_delay_seconds", [0.05, 0.05, 0.05])
    return tapped(monkeypatch)


@each_case
def test_it_waits_and_completes_after_503(
    case: Case, root: Location, arguments: tuple[Any, ...], wire: Wire
) -> None:
    wire.fail(case.operation, 503, times=2, part=case.part)
    case.stage(*arguments)
    assert wire.refused[case.operation] == 2
    assert len(read_history(open_store(root)).promotions) == case.promotions


@each_case
def test_it_is_tried_once_after_403(case: Case, arguments: tuple[Any, ...], wire: Wire) -> None:
    wire.fail(case.operation, 403, part=case.part)
    with pytest.raises(StorageError, match=r"refused access to .*check the access key"):
        case.stage(*arguments)
    assert wire.refused[case.operation] == 1


@pytest.mark.parametrize(
    "case",
    [CASES["promote"], CASES["rollback"], CASES["publish"]],
    ids=["promote", "rollback", "publish"],
)
def test_as_a_task_it_completes_after_503(
    case: Case,
    root: Location,
    arguments: tuple[Any, ...],
    wire: Wire,
    prefect_server: EmbeddedPrefect,
) -> None:
    wire.fail(case.operation, 503, times=1, part=case.part)

    @flow(name="one stage", persist_result=False)
    def one_stage() -> None:
        case.stage(*arguments)

    one_stage()
    assert wire.refused[case.operation] == 1
    assert len(read_history(open_store(root)).promotions) == case.promotions
