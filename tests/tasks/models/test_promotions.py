"""Promotion, rollback and registration in real stores: races, lost replies, altered models."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import tasks.stage
from pollen.errors import PollenError
from pollen.layout import promotion_key, weights_key
from services.embedded import EmbeddedS3
from tasks.faults import StorageError
from tasks.models.promotions import Order, Promoted, promote, register_bundled, rollback
from tasks.models.registry import read_history
from tasks.models.resolve import PRODUCTION, resolve_model
from tasks.storage.buckets import BucketStore
from tasks.storage.store import Location, Store, open_store
from tests.support.models import put_model
from tests.support.runs import bucket_folder


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """A place for a registry: a folder, or a folder of a bucket."""
    if request.param == "folder":
        yield Location(folder=tmp_path / "root")
        return
    server: EmbeddedS3 = request.getfixturevalue("s3_server")
    with server.active():
        yield bucket_folder(f"promotions/{request.node.name}")


@pytest.fixture
def folder_root(tmp_path: Path) -> Location:
    return Location(folder=tmp_path / "root")


def put_models(root: Location, scratch: Path, *versions: str) -> None:
    for version in versions:
        put_model(root, scratch, version)


def told(root: Location) -> list[tuple[int, str, str]]:
    """Number, kind and version of every promotion."""
    history = read_history(open_store(root)).promotions
    return [(n, made.kind, made.version) for n, made in sorted(history.items()) if made]


def test_promotions_and_rollbacks_append(root: Location, tmp_path: Path) -> None:
    put_models(root, tmp_path, "v1", "v2", "v3")
    for version in ("v1", "v2", "v3"):
        done = promote(root, version, Order.now(f"for {version}"))
        assert done.is_new
        assert done.message == f"model {version} is now in production (promotion {version[1]})"
    assert rollback(root, Order.now()).promotion.version == "v2"
    assert rollback(root, Order.now()).promotion.version == "v1"
    with pytest.raises(PollenError, match=r"no model was in production .* before 'v1'"):
        rollback(root, Order.now())
    forth = rollback(root, Order.now("better after all"), "v3")
    assert (forth.promotion.of, forth.promotion.note) == (3, "better after all")
    assert told(root) == [
        (1, "promotion", "v1"),
        (2, "promotion", "v2"),
        (3, "promotion", "v3"),
        (4, "rollback", "v2"),
        (5, "rollback", "v1"),
        (6, "rollback", "v3"),
    ]
    assert resolve_model(PRODUCTION, root).card.version == "v3"


def test_what_is_in_production_is_not_promoted_again(root: Location, tmp_path: Path) -> None:
    put_models(root, tmp_path, "v1")
    promote(root, "v1", Order.now())
    again = promote(root, "v1", Order.now())
    assert not again.is_new
    assert again.message == "model v1 is in production already (promotion 1)"
    assert not rollback(root, Order.now(), "v1").is_new
    assert told(root) == [(1, "promotion", "v1")]


def test_what_a_promotion_says(folder_root: Location, tmp_path: Path) -> None:
    put_models(folder_root, tmp_path, "v1")
    order = Order.now("new microscope")
    promote(folder_root, "v1", order)
    said = json.loads(open_store(folder_root).read("trained_models/promotions/000001.json"))
    assert (said["version"], said["kind"], said["note"]) == ("v1", "promotion", "new microscope")
    assert said["by"] == order.by
    assert " on " in said["by"]
    assert said["at"].startswith(str(order.at.date()))


def meeting(monkeypatch: pytest.MonkeyPatch, root: Location, number: int) -> None:
    """Let promoters wait for one another right before they write."""
    meet = threading.Barrier(number)
    kind = type(open_store(root))
    create = kind.create

    def together(self: Any, *arguments: Any) -> bool:  # noqa: ANN401  (passes through)
        meet.wait(60)
        return create(self, *arguments)

    monkeypatch.setattr(kind, "create", together)


def attempt(call: Callable[[], Promoted]) -> Promoted | PollenError:
    try:
        return call()
    except PollenError as error:
        return error


def test_of_promoters_at_once_exactly_one_wins_and_the_others_are_told(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = [f"v{number}" for number in range(4)]
    put_models(root, tmp_path, "old", *versions)
    promote(root, "old", Order.now())
    meeting(monkeypatch, root, len(versions))

    def order(version: str) -> Promoted | PollenError:
        return attempt(lambda: promote(root, version, Order.now(f"wants {version}")))

    with ThreadPoolExecutor(len(versions)) as pool:
        results = list(pool.map(order, versions))
    (winner,) = (result for result in results if isinstance(result, Promoted))
    losers = [str(result) for result in results if isinstance(result, PollenError)]
    assert len(losers) == 3
    version = winner.promotion.version
    assert told(root) == [(1, "promotion", "old"), (2, "promotion", version)]
    assert all(f"('wants {version}') put model '{version}' into" in loser for loser in losers)
    assert all("nothing was changed by this order" in loser for loser in losers)


def test_promoters_of_the_same_model_at_once_agree(
    folder_root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_models(folder_root, tmp_path, "v1")
    meeting(monkeypatch, folder_root, 2)
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: promote(folder_root, "v1", Order.now()), range(2)))
    assert sorted(each.is_new for each in done) == [False, True]
    assert {each.number for each in done} == {1}


def write_and_lose_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next promotion is written, then the connection breaks off: the whole stage is tried again."""
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.02)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.0)
    create = BucketStore.create
    lost: list[str] = []

    def losing(self: BucketStore, key: str, data: bytes, content_type: str = "") -> bool:
        written = create(self, key, data, content_type)
        if "promotions" in key and not lost:
            lost.append(key)
            raise StorageError("the reply was lost", heals=True)
        return written

    monkeypatch.setattr(BucketStore, "create", losing)


def test_a_lost_reply_promotes_and_rolls_back_once_only(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with s3_server.active():
        root = bucket_folder("promotions/lost")
        put_models(root, tmp_path, "v1", "v2", "v3")
        promote(root, "v1", Order.now())
        promote(root, "v2", Order.now())
        with monkeypatch.context() as patch:
            write_and_lose_the_reply(patch)
            assert promote(root, "v3", Order.now()).is_new
        with monkeypatch.context() as patch:
            write_and_lose_the_reply(patch)
            back = rollback(root, Order.now())
        assert (back.number, back.promotion.version, back.is_new) == (4, "v2", True)
        assert len(told(root)) == 4


def test_a_decision_on_another_model_than_the_one_in_production_is_not_carried_out(
    folder_root: Location, tmp_path: Path
) -> None:
    put_models(folder_root, tmp_path, "v1", "v2", "v3")
    first = promote(folder_root, "v1", Order.now())
    compared = first.promotion.sha256
    promote(folder_root, "v2", Order.now("meanwhile"))
    with pytest.raises(PollenError, match=r"\('meanwhile'\) put model 'v2' .*since the comparison"):
        promote(folder_root, "v3", Order.now(compared_with=compared))
    assert not promote(folder_root, "v2", Order.now(compared_with=compared)).is_new
    assert len(told(folder_root)) == 2
    second = resolve_model(PRODUCTION, folder_root).card.sha256
    assert promote(folder_root, "v3", Order.now(compared_with=second)).is_new


def altered(store: Store, version: str) -> None:
    store.write(weights_key(version), b"other weights")


def test_altered_or_missing_weights_are_never_promoted(root: Location, tmp_path: Path) -> None:
    put_models(root, tmp_path, "v1", "v2", "v3")
    promote(root, "v1", Order.now())
    promote(root, "v2", Order.now())
    store = open_store(root)
    altered(store, "v1")
    with pytest.raises(PollenError, match="were altered or damaged: expected SHA-256"):
        promote(root, "v1", Order.now())
    with pytest.raises(PollenError, match="were altered or damaged: expected SHA-256"):
        rollback(root, Order.now())
    store.delete([weights_key("v3")])
    with pytest.raises(PollenError, match="weights of model 'v3' are missing"):
        promote(root, "v3", Order.now())
    assert len(told(root)) == 2


def test_a_rollback_goes_to_the_very_model_that_was_promoted(
    folder_root: Location, tmp_path: Path
) -> None:
    put_models(folder_root, tmp_path, "v1", "v2")
    promote(folder_root, "v1", Order.now())
    promote(folder_root, "v2", Order.now())
    store = open_store(folder_root)
    card = json.loads(store.read("trained_models/v1/model.json")) | {"sha256": "0" * 64}
    store.write("trained_models/v1/model.json", json.dumps(card).encode())
    with pytest.raises(PollenError, match="is not the one of promotion 1"):
        rollback(folder_root, Order.now())


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("v9", "there is no model 'v9'"),
        ("production", "name the version to put into production"),
        ("../v1", "leads out of"),
    ],
)
def test_what_is_not_published_is_not_promoted(
    folder_root: Location, tmp_path: Path, version: str, words: str
) -> None:
    put_models(folder_root, tmp_path, "v1")
    with pytest.raises(PollenError, match=words):
        promote(folder_root, version, Order.now())
    assert told(folder_root) == []


def test_nothing_to_go_back_to(folder_root: Location, tmp_path: Path) -> None:
    with pytest.raises(PollenError, match="no model was ever promoted"):
        rollback(folder_root, Order.now())
    put_models(folder_root, tmp_path, "v1")
    with pytest.raises(PollenError, match="model 'v1' was never promoted"):
        rollback(folder_root, Order.now(), "v1")


def test_behind_a_promotion_that_can_not_be_read(folder_root: Location, tmp_path: Path) -> None:
    put_models(folder_root, tmp_path, "v1", "v2")
    promote(folder_root, "v1", Order.now())
    store = open_store(folder_root)
    store.write(promotion_key(2), b"half a fi")
    with pytest.raises(PollenError, match="Promote a model again"):
        resolve_model(PRODUCTION, folder_root)
    with pytest.raises(PollenError, match="it is not known what was before it: name the version"):
        rollback(folder_root, Order.now())
    assert rollback(folder_root, Order.now(), "v1").number == 3
    assert promote(folder_root, "v2", Order.now()).number == 4
    assert store.read(promotion_key(2)) == b"half a fi"


def test_the_bundled_model_is_registered_where_none_is_in_production(root: Location) -> None:
    first = register_bundled(root, Order.now("set-up"))
    assert first is not None
    assert (first.number, first.promotion.kind) == (1, "first")
    assert register_bundled(root, Order.now("set-up")) is None
    found, shipped = resolve_model(PRODUCTION, root), resolve_model("bundled", root)
    assert found.card == shipped.card
    assert found.weights.read_bytes() == shipped.weights.read_bytes()
    assert len(told(root)) == 1


def test_bundled_can_be_promoted_by_name(folder_root: Location, tmp_path: Path) -> None:
    put_models(folder_root, tmp_path, "v1")
    promote(folder_root, "v1", Order.now())
    assert register_bundled(folder_root, Order.now()) is None
    done = promote(folder_root, "bundled", Order.now())
    assert (done.number, done.promotion.version) == (2, "bundled-1")
    assert resolve_model(PRODUCTION, folder_root).card.version == "bundled-1"
