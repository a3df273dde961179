"""Publishing and what the catalogue says: whole or not at all, never changed, unfinished ones told."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pollen.layout import card_key
from services.embedded import EmbeddedS3
from tasks.buckets import BucketStore
from tasks.catalogue import list_models, show_model
from tasks.faults import PollenError
from tasks.folders import FolderStore
from tasks.promotions import Order, promote, register_bundled
from tasks.publishing import publish
from tasks.registry import resolve_model
from tasks.storage import Location, open_store
from tests.support.models import put_model, stand_in
from tests.support.runs import bucket_folder, files

FILES = {
    "metrics.json": b'{"split": "test", "new": {"map50": {"viable": 0.9}}}',
    "charts/a.png": b"",
}


@pytest.fixture
def root(tmp_path: Path) -> Location:
    (tmp_path / "root").mkdir()
    return Location(folder=tmp_path / "root")


def keys(root: Location) -> list[str]:
    return sorted(entry.key for entry in open_store(root).list())


def test_a_published_model_is_complete_and_found(root: Location, tmp_path: Path) -> None:
    card, weights = stand_in(tmp_path, "v1")
    publish(root, card, weights, FILES)
    assert keys(root) == [
        "trained_models/v1/charts/a.png",
        "trained_models/v1/metrics.json",
        "trained_models/v1/model.json",
        "trained_models/v1/weights/best.pt",
    ]
    record = json.loads(open_store(root).read(card_key("v1")))
    assert sorted(record["files"]) == ["charts/a.png", "metrics.json", "weights/best.pt"]
    assert record["files"]["weights/best.pt"] == card.sha256
    found = resolve_model("v1", root)
    assert found.card == card
    assert found.weights.read_bytes() == weights.read_bytes()


def test_publishing_the_same_again_writes_nothing(root: Location, tmp_path: Path) -> None:
    card, weights = stand_in(tmp_path, "v1")
    publish(root, card, weights, FILES)
    assert root.folder is not None
    before = files(root.folder)
    publish(root, card, weights, dict(reversed(FILES.items())))
    assert files(root.folder) == before


@pytest.mark.parametrize("what", ["weights", "card", "files"])
def test_other_content_under_a_published_version_is_refused(
    root: Location, tmp_path: Path, what: str
) -> None:
    card, weights = stand_in(tmp_path, "v1")
    publish(root, card, weights, FILES)
    assert root.folder is not None
    before, beside = files(root.folder), dict(FILES)
    if what == "weights":
        card, weights = stand_in(tmp_path, "v1", b"other weights")
    if what == "card":
        card = card.model_copy(update={"confidence": 0.9})
    if what == "files":
        beside["metrics.json"] = b"{}"
    with pytest.raises(PollenError, match=r"'v1' with other content is published .*under another"):
        publish(root, card, weights, beside)
    assert files(root.folder) == before


def test_weights_that_are_not_the_cards_are_not_published(root: Location, tmp_path: Path) -> None:
    card, weights = stand_in(tmp_path, "v1")
    weights.write_bytes(b"altered")
    with pytest.raises(PollenError, match="were altered or damaged: expected SHA-256"):
        publish(root, card, weights, FILES)
    assert keys(root) == []


@pytest.mark.parametrize("version", ["production", "bundled", "promotions", "checkpoints", "a.pt"])
def test_names_that_mean_something_else_are_refused(
    root: Location, tmp_path: Path, version: str
) -> None:
    card, weights = stand_in(tmp_path, version)
    with pytest.raises(PollenError, match=f"no model can be called '{version}'"):
        publish(root, card, weights, FILES)
    assert keys(root) == []


@pytest.mark.parametrize("moment", range(4))
def test_a_publishing_that_breaks_off_leaves_nothing_usable_and_can_be_repeated(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Killed before each of its writes: weights, two files, the card."""
    card, weights = stand_in(tmp_path, "v1")
    writes: list[str] = []

    class KilledError(BaseException):
        pass

    def dying(name: str) -> Callable[..., Any]:
        real = getattr(FolderStore, name)

        def write(store: FolderStore, key: str, *rest: object) -> object:
            if len(writes) == moment:
                raise KilledError
            writes.append(key)
            return real(store, key, *rest)

        return write

    with monkeypatch.context() as patch:
        for name in ("write", "write_file", "create"):
            patch.setattr(FolderStore, name, dying(name))
        with pytest.raises(KilledError):
            publish(root, card, weights, FILES)
    assert len(keys(root)) == moment
    with pytest.raises(PollenError, match="there is no model 'v1'"):
        resolve_model("v1", root)
    with pytest.raises(PollenError, match="there is no model 'v1'"):
        promote(root, "v1", Order.now())
    listed = list_models(root)
    assert [model.version for model in listed] == (["v1"] if moment else [])
    assert all("unfinished" in model.trouble and model.card is None for model in listed)
    publish(root, card, weights, FILES)
    assert resolve_model("v1", root).card == card


def test_of_two_publishers_of_one_version_one_wins(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see an empty place; the card is written once."""
    meet, create = threading.Barrier(2), BucketStore.create

    def together(self: BucketStore, key: str, data: bytes, content_type: str = "") -> bool:
        meet.wait(60)
        return create(self, key, data, content_type)

    monkeypatch.setattr(BucketStore, "create", together)
    with s3_server.active():
        place = bucket_folder("publishing/race")
        card, weights = stand_in(tmp_path, "v1")

        def attempt(text: bytes) -> str:
            try:
                publish(place, card, weights, {"model_card.md": text})
            except PollenError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(2) as pool:
            said = sorted(pool.map(attempt, (b"one", b"two")))
        assert said[0] == ""
        assert "with other content is published" in said[1]
        assert resolve_model("v1", place).card == card


def test_the_catalogue(root: Location, tmp_path: Path) -> None:
    assert list_models(root) == ()
    register_bundled(root, Order.now())
    put_model(root, tmp_path, "v1")
    store = open_store(root)
    store.write("trained_models/v2/model.json", b"half a fi")
    store.write("trained_models/v3/charts/a.png", b"")
    store.write("trained_models/checkpoints/x/last.pt", b"")
    store.write("trained_models/readme.md", b"")
    listed = {model.version: model for model in list_models(root)}
    assert list(listed) == ["bundled-1", "v1", "v2", "v3"]
    bundled = listed["bundled-1"]
    assert bundled.in_production
    assert bundled.figures is not None
    assert bundled.figures.split == "val"
    assert (bundled.figures.new.map50["viable"] or 0) > 0.9
    assert bundled.figures.new.overall.count_error_percent is not None
    assert (listed["v1"].trouble, listed["v1"].figures) == ("", None)
    assert "is damaged" in listed["v2"].trouble
    assert "unfinished" in listed["v3"].trouble


def test_one_model_in_full(root: Location, tmp_path: Path) -> None:
    with pytest.raises(PollenError, match="no model is in production"):
        show_model(root, "production")
    card = put_model(root, tmp_path, "v1")
    assert not show_model(root, "v1").in_production
    promote(root, "v1", Order.now("why not"))
    shown = show_model(root, "production")
    assert shown.card == card
    assert shown.in_production
    assert [made.note for made in shown.promotions.values()] == ["why not"]
    with pytest.raises(PollenError, match="there is no model 'bundled-1'"):
        show_model(root, "bundled")


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PollenError, match="there is no folder"):
        list_models(Location(folder=tmp_path / "nowhere"))
    with pytest.raises(PollenError, match="there is no folder"):
        show_model(Location(folder=tmp_path / "nowhere"), "production")


def test_texts_of_another_release_do_not_bar_the_bundled_model(
    root: Location,
) -> None:
    register_bundled(root, Order.now())
    store = open_store(root)
    record = json.loads(store.read(card_key("bundled-1")))
    record["files"]["model_card.md"], record["metrics"] = "0" * 64, {}
    store.write(card_key("bundled-1"), json.dumps(record).encode())
    assert not promote(root, "bundled", Order.now()).is_new
    record["confidence"] = 0.1
    store.write(card_key("bundled-1"), json.dumps(record).encode())
    with pytest.raises(PollenError, match="'bundled-1' with other content"):
        promote(root, "bundled", Order.now())
