"""Checkpoints in stores: always a whole one, whatever was killed when."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks.stage
from pollen.layout import checkpoints_folder
from pollen.training.ultralytics_run import Checkpoint
from services.embedded import EmbeddedS3
from tasks.faults import StorageError
from tasks.stage import RETRIES
from tasks.storage.folders import FolderStore
from tasks.storage.store import Store, open_store
from tasks.training.checkpoints import KEPT, Checkpoints, drop_checkpoints
from tests.support.runs import bucket_folder
from tests.support.wire import tapped

ID = "0123456789abcdef"
FOLDER = checkpoints_folder(ID)


class _KilledError(Exception):
    pass


class Failing(FolderStore):
    """A folder in which the process dies before change number ``at``."""

    def __init__(self, root: Path, at: int) -> None:
        super().__init__(root)
        self.left = at

    def _one_more(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _KilledError

    def write(self, key: str, data: bytes, content_type: str = "") -> None:
        self._one_more()
        super().write(key, data, content_type)

    def write_file(self, key: str, path: Path, content_type: str = "") -> None:
        self._one_more()
        super().write_file(key, path, content_type)

    def delete(self, keys: object) -> None:
        for key in list(keys):  # type: ignore[call-overload]
            self._one_more()
            super().delete([key])


def state(folder: Path, epoch: int, *, ended: bool = False, best: int | None = None) -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("last", epoch), ("best", best or epoch), ("results", epoch)):
        (folder / name).write_text(f"{name} {text}")
    return Checkpoint(epoch, ended, folder / "last", folder / "best", folder / "results")


def written(store: Store, scratch: Path, *epochs: int, best: int | None = None) -> None:
    keeper = Checkpoints(store, ID, scratch / "w", 0)
    for epoch in epochs:
        keeper.keep(state(scratch / "run", epoch, best=best))
    keeper.wait()
    keeper.close()


def newest(store: Store, scratch: Path) -> Checkpoint | None:
    return Checkpoints(store, ID, scratch, 0).newest()


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    server: EmbeddedS3 = request.getfixturevalue("s3_server")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        return open_store(bucket_folder(f"checkpoints/{tmp_path.name}"))


def test_the_newest_checkpoint_comes_back_whole(store: Store, tmp_path: Path) -> None:
    assert newest(store, tmp_path / "none") is None

    written(store, tmp_path, 1, 2, 3, best=2)

    found = newest(store, tmp_path / "back")
    assert found is not None
    assert (found.epoch, found.ended) == (3, False)
    assert found.last.read_text() == "last 3"
    assert found.best.read_text() == "best 2"
    assert found.results.read_text() == "results 3"


def test_only_the_last_checkpoints_stay(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path, *range(1, 7), best=1)

    keys = [entry.key for entry in store.list(FOLDER)]
    assert sum(key.endswith(".json") for key in keys) == KEPT
    assert sum("/files/" in key for key in keys) == 2 * KEPT + 1  # they share the best weights


@pytest.mark.parametrize("at", range(17))
def test_killed_between_any_two_changes_a_whole_checkpoint_is_found(
    tmp_path: Path, at: int
) -> None:
    written(FolderStore(tmp_path / "store"), tmp_path, 1, 2)
    keeper = Checkpoints(Failing(tmp_path / "store", at), ID, tmp_path / "w", 0)
    try:
        for epoch in (3, 4):
            keeper.keep(state(tmp_path / "run", epoch))
        keeper.wait()
    except _KilledError:
        pass
    finally:
        keeper.close()

    found = newest(FolderStore(tmp_path / "store"), tmp_path / "back")

    assert found is not None
    # Three files and a record make a checkpoint; a record and three files are deleted behind it.
    assert found.epoch == (2 if at < 4 else 3 if at < 12 else 4)
    assert found.last.read_text() == f"last {found.epoch}"


def test_a_damaged_checkpoint_is_passed_over(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(store, tmp_path, 1, 2)
    record = json.loads(store.read(f"{FOLDER}epoch-000002.json"))
    store.write(f"{FOLDER}files/{record['last']}", b"something else that unpickles to harm")

    found = newest(store, tmp_path / "back")

    assert found is not None
    assert found.epoch == 1
    assert "epoch-000002" in caplog.text


def test_behind_damaged_checkpoints_new_ones_are_kept(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path, 49, 50, best=49)
    for entry in list(store.list(f"{FOLDER}files/")):
        store.write(entry.key, b"damaged")
    keeper = Checkpoints(store, ID, tmp_path / "w", 0)
    assert keeper.newest() is None

    for epoch in (1, 2, 3):
        keeper.keep(state(tmp_path / "run", epoch, best=49))  # the best file is one of the damaged
        keeper.wait()
        found = newest(store, tmp_path / f"back{epoch}")
        assert found is not None
        assert found.epoch == epoch
        assert found.best.read_text() == "best 49"

    keeper.close()
    keys = [entry.key for entry in store.list(FOLDER)]
    assert sorted(key for key in keys if key.endswith(".json")) == [
        f"{FOLDER}epoch-00000{epoch}.json" for epoch in (2, 3)
    ]
    assert sum("/files/" in key for key in keys) == 2 * KEPT + 1


def test_an_epoch_whose_checkpoint_was_damaged_is_kept_when_it_comes_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "store")
    written(store, tmp_path, 1, 2)
    store.write(f"{FOLDER}epoch-000002.json", b"{")
    keeper = Checkpoints(store, ID, tmp_path / "w", 0)
    assert keeper.newest() is not None

    keeper.keep(state(tmp_path / "run", 2))
    keeper.wait()
    keeper.close()

    found = newest(store, tmp_path / "back")
    assert found is not None
    assert found.epoch == 2
    assert len([entry for entry in store.list(FOLDER) if entry.key.endswith(".json")]) == KEPT


def test_a_record_of_which_nothing_can_be_read_is_passed_over(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path, 1)
    store.write(f"{FOLDER}epoch-000002.json", b"{")
    store.write(f"{FOLDER}notes-000009.json", b"{}")

    found = newest(store, tmp_path / "back")

    assert found is not None
    assert found.epoch == 1


def test_nothing_stays_of_a_training_that_is_published(store: Store, tmp_path: Path) -> None:
    written(store, tmp_path, 1, 2)

    drop_checkpoints(store, ID)

    assert not list(store.list(FOLDER))


def test_epochs_in_quick_succession_are_not_all_kept_where_time_is_asked_for(
    tmp_path: Path,
) -> None:
    store = FolderStore(tmp_path / "store")
    keeper = Checkpoints(store, ID, tmp_path / "w", every_minutes=60)
    for epoch in (1, 2, 3):
        keeper.keep(state(tmp_path / "run", epoch))
    keeper.keep(state(tmp_path / "run", 4, ended=True))
    keeper.wait()
    keeper.close()

    found = [entry.key for entry in store.list(FOLDER) if "epoch-" in entry.key]
    assert found == [f"{FOLDER}epoch-000001.json", f"{FOLDER}epoch-000004.json"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.01)


@pytest.fixture
def refusing(
    s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> Callable[..., Checkpoints]:
    """Makes checkpoints in a bucket whose server refuses the first write."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    wire = tapped(monkeypatch)

    def make(status: int, times: int = 1) -> Checkpoints:
        wire.fail("PutObject", status, times=times)
        store = open_store(bucket_folder(f"checkpoints/{tmp_path.name}"))
        keeper = Checkpoints(store, ID, tmp_path / "w", 0)
        keeper.keep(state(tmp_path / "run", 1))
        return keeper

    return make


def test_a_busy_server_is_asked_again(refusing: Callable[..., Checkpoints]) -> None:
    keeper = refusing(503)

    keeper.wait()

    keeper.close()
    assert keeper.newest() is not None


def test_an_outage_costs_a_checkpoint_and_not_the_training(
    refusing: Callable[..., Checkpoints], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = refusing(503, times=RETRIES + 1)

    keeper.keep(state(tmp_path / "run", 2))
    keeper.wait()

    keeper.close()
    assert "could not be written" in caplog.text
    assert not list((tmp_path / "w").glob("epoch-*"))  # or an outage would fill the disk
    found = keeper.newest()
    assert found is not None
    assert found.epoch == 2


def test_a_refusal_ends_the_training_at_the_next_checkpoint(
    refusing: Callable[..., Checkpoints], tmp_path: Path
) -> None:
    keeper = refusing(403)

    with pytest.raises(StorageError, match="refused access"):
        keeper.keep(state(tmp_path / "run", 2))

    keeper.close()
    assert keeper.newest() is None
