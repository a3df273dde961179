"""Publishing and what the catalogue says: whole or not at all, never changed, unfinished ones told."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pollen.errors import PollenError
from pollen.layout import card_key
from pollen.models.card import ModelCard
from services.embedded import EmbeddedS3
from tasks.models.catalogue import list_models, show_model
from tasks.models.promotions import Order, promote, register_bundled
from tasks.models.publishing import publish
from tasks.models.resolve import resolve_model
from tasks.storage.buckets import BucketStore
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location, open_store
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


#: The claim, two files, weights, the card, the claim's deletion.
CHANGES = ("create", "write", "write", "write", "create", "delete")


class KilledError(BaseException):
    """Ends a publishing without any tidying up."""


def killed_before(change: int, monkeypatch: pytest.MonkeyPatch) -> AbstractContextManager[object]:
    """Whoever publishes inside dies before one of the changes."""
    made: list[str] = []

    def dying(name: str) -> Callable[..., Any]:
        real = getattr(FolderStore, name)

        def call(store: FolderStore, *arguments: object) -> object:
            if len(made) == change:
                raise KilledError
            assert name == CHANGES[len(made)]
            made.append(name)
            return real(store, *arguments)

        return call

    @contextmanager
    def patched() -> Iterator[None]:
        with monkeypatch.context() as patch:
            for name in {*CHANGES, "write_file"}:
                patch.setattr(FolderStore, name, dying(name))
            with pytest.raises(KilledError):
                yield

    return patched()


@pytest.mark.parametrize("moment", range(5))
def test_a_publishing_that_breaks_off_leaves_nothing_usable_and_can_be_repeated(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    card, weights = stand_in(tmp_path, "v1")
    with killed_before(moment, monkeypatch):
        publish(root, card, weights, FILES)
    assert len(keys(root)) == moment
    with pytest.raises(PollenError, match="there is no model 'v1'"):
        resolve_model("v1", root)
    with pytest.raises(PollenError, match="there is no model 'v1'"):
        promote(root, "v1", Order.now())
    listed = list_models(root)
    assert [model.version for model in listed] == (["v1"] if moment else [])
    assert all("unfinished" in model.problem and model.card is None for model in listed)
    publish(root, card, weights, FILES)
    assert resolve_model("v1", root).card == card
    assert "trained_models/v1/claim.zip" not in keys(root)


@pytest.mark.parametrize("moment", range(1, 5))
def test_what_broke_off_is_completed_by_a_run_with_other_weights(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """The first one's model is whole then, and the second one's run knows it when repeated."""
    card, weights = stand_in(tmp_path, "v1")
    with killed_before(moment, monkeypatch):
        publish(root, card, weights, FILES)
    other = stand_in(tmp_path / "other", "v1", b"slightly other weights")
    with pytest.raises(PollenError, match=r"'v1' .* or was stopped while doing so.*Run again"):
        publish(root, *other, FILES)
    assert resolve_model("v1", root).card == card
    assert whole(root) == card.sha256


def test_what_broke_off_is_completed_where_only_the_texts_differ(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, weights = stand_in(tmp_path, "v1")
    with killed_before(2, monkeypatch):
        publish(root, card, weights, FILES)
    publish(root, card, weights, FILES | {"metrics.json": b"{}"})
    assert open_store(root).read("trained_models/v1/metrics.json") == FILES["metrics.json"]
    assert whole(root) == card.sha256


def test_a_claim_left_beside_a_card_means_nothing(
    root: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between card and deletion; then one who had looked before the card was there."""
    card, weights = stand_in(tmp_path, "v1")
    with killed_before(5, monkeypatch):
        publish(root, card, weights, FILES)
    assert whole(root) == card.sha256
    publish(root, card, weights, FILES)
    with pytest.raises(PollenError, match="with other content is published"):
        publish(root, *stand_in(tmp_path, "v1", b"other weights"), FILES)
    assert whole(root) == card.sha256


def test_a_claim_that_is_not_whole_is_told(root: Location, tmp_path: Path) -> None:
    open_store(root).write("trained_models/v1/claim.zip", b"half a fi")
    with pytest.raises(PollenError, match=r"v1/claim.zip is incomplete .*delete this file"):
        publish(root, *stand_in(tmp_path, "v1"), FILES)
    assert keys(root) == ["trained_models/v1/claim.zip"]


def whole(root: Location) -> str | None:
    """Hash of the weights that version v1's card promises, everything it names checked; None without a card."""
    assert root.folder is not None
    folder = root.folder / "trained_models/v1"
    try:
        record = json.loads((folder / "model.json").read_bytes())
    except FileNotFoundError:
        return None
    for name, promised in record["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == promised, name
    assert record["files"]["weights/best.pt"] == record["sha256"]
    return str(record["sha256"])


class Stepped:
    """A publishing in a thread of its own that makes one step in the store when told to."""

    _mine = threading.local()

    def __init__(self, act: Callable[[], None]) -> None:
        self._go, self._waits = threading.Semaphore(0), threading.Semaphore(0)
        self.over, self.said = False, ""
        threading.Thread(target=self._run, args=(act,), daemon=True).start()
        self._waits.acquire()

    def _run(self, act: Callable[[], None]) -> None:
        Stepped._mine.pause = self._pause
        try:
            act()
        except PollenError as error:
            self.said = str(error)
        finally:
            self.over = True
            self._waits.release()

    def _pause(self) -> None:
        self._waits.release()
        self._go.acquire()

    def step(self) -> None:
        """Go on until before the next request."""
        self._go.release()
        assert self._waits.acquire(timeout=60)

    @classmethod
    def patch(cls, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make all requests of stepped threads wait to be told."""

        def waiting(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: object) -> object:
                getattr(cls._mine, "pause", lambda: None)()
                return real(*arguments)

            return call

        for name in ("read", "write", "write_file", "create", "delete"):
            monkeypatch.setattr(FolderStore, name, waiting(getattr(FolderStore, name)))


def test_of_two_publishers_with_different_weights_one_wins_in_whatever_order_they_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One makes some steps, the other some, the first some more, the other all, the first the rest.

    After every single step a card's promises hold: wherever a run is killed, too.
    """
    Stepped.patch(monkeypatch)
    models = [stand_in(tmp_path / text, "v1", text.encode()) for text in ("one", "two")]
    for number, parts in enumerate(product(range(10), range(1, 11), range(0, 10, 3))):
        root = Location(folder=tmp_path / "roots" / f"{number}")
        published: str | None = None
        one, two = (
            Stepped(partial(publish, root, card, weights, {"model_card.md": card.sha256.encode()}))
            for card, weights in models
        )
        for runner, steps in zip((one, two, one, two, one), (*parts, 100, 100), strict=True):
            for _ in range(steps):
                if runner.over:
                    assert whole(root) is not None
                    break
                runner.step()
                assert published in (None, whole(root))
                published = whole(root)
            else:
                continue
        said = [runner.said for runner in (one, two)]
        winner = [card.sha256 for card, _ in models].index(str(published))
        assert said[winner] == "", parts
        assert "Run again" in said[1 - winner] or "other content" in said[1 - winner], parts
        assert "trained_models/v1/claim.zip" not in keys(root)


def test_of_two_publishers_of_one_version_in_a_bucket_one_wins(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both see an empty place and claim it at the same moment, with different weights."""
    meet, create = threading.Barrier(2), BucketStore.create

    def together(self: BucketStore, key: str, data: bytes, content_type: str = "") -> bool:
        if key.endswith("claim.zip"):
            meet.wait(60)
        return create(self, key, data, content_type)

    monkeypatch.setattr(BucketStore, "create", together)
    models = [stand_in(tmp_path / text, "v1", text.encode()) for text in ("one", "two")]
    with s3_server.active():
        place = bucket_folder("publishing/race")

        def attempt(model: tuple[ModelCard, Path]) -> str:
            try:
                publish(place, *model, {"model_card.md": model[0].sha256.encode()})
            except PollenError as error:
                return str(error)
            return ""

        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(attempt, models))
        (winner,) = (index for index, text in enumerate(said) if not text)
        assert "another run published model 'v1'" in said[1 - winner]
        assert resolve_model("v1", place).card == models[winner][0]
        stored = open_store(place)
        assert stored.read("trained_models/v1/weights/best.pt") == (b"one", b"two")[winner]
        assert not stored.exists("trained_models/v1/claim.zip")


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
    assert bundled.metrics is not None
    assert bundled.metrics.split == "val"
    assert (bundled.metrics.new.map50["viable"] or 0) > 0.9
    assert bundled.metrics.new.overall.count_error_percent is not None
    assert (listed["v1"].problem, listed["v1"].metrics) == ("", None)
    assert "is damaged" in listed["v2"].problem
    assert "unfinished" in listed["v3"].problem


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
