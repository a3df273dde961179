"""What trainings leave behind goes, once it is old; what lives, or is not ours, stays."""

import os
import time
from pathlib import Path

import pytest

from pollen.layout import CHECKPOINTS, checkpoints_folder
from services.embedded import EmbeddedS3
from tasks.storage.folders import FolderStore
from tasks.storage.local_copies import local_files, objects_folder
from tasks.storage.store import open_store
from tasks.training.tidying import drop_abandoned, drop_unused
from tests.support.runs import bucket_folder
from tests.support.wire import tapped

DAYS = 24 * 3600
OLD, LIVE, OWN = "a" * 16, "b" * 16, "c" * 16


def aged(path: Path, days: float) -> None:
    then = time.time() - days * DAYS
    os.utime(path, (then, then))


def keys(store: FolderStore) -> set[str]:
    return {entry.key for entry in store.list(CHECKPOINTS)}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """Checkpoints of three trainings, all of whose files are old but one of the one that lives."""
    made = FolderStore(tmp_path)
    for training in (OLD, LIVE, OWN):
        for name in ("epoch-000001.json", "files/last"):
            made.write(f"{checkpoints_folder(training)}{name}", b"x")
            aged(tmp_path / checkpoints_folder(training) / name, 31)
    made.write(f"{CHECKPOINTS}notes/mine.txt", b"x")
    aged(tmp_path / CHECKPOINTS / "notes/mine.txt", 400)
    aged(tmp_path / checkpoints_folder(LIVE) / "files/last", 29)
    return made


def test_only_checkpoints_of_trainings_long_given_up_are_deleted(
    store: FolderStore, caplog: pytest.LogCaptureFixture
) -> None:
    before = keys(store)

    with caplog.at_level("INFO", "pollen"):
        drop_abandoned(store, 30, but=OWN)

    assert before - keys(store) == {key for key in before if OLD in key}
    assert f"training {OLD} was abandoned more than 30 days ago" in caplog.text


def test_a_bucket_tells_the_age_too_and_a_refusal_is_no_failure(
    s3_server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    root = bucket_folder(f"tidying/{tmp_path.name}")
    store = open_store(root)
    key = f"{checkpoints_folder(OLD)}epoch-000001.json"
    store.write(key, b"x")
    (entry,) = store.list(CHECKPOINTS)
    assert abs(entry.modified - time.time()) < 600

    drop_abandoned(store, 1, but=OWN)
    assert store.exists(key)

    tomorrow = -1  # as if two days had passed
    with monkeypatch.context() as patch:
        tapped(patch).fail("DeleteObject", 403)
        drop_abandoned(open_store(root), tomorrow, but=OWN)
    assert "can't be deleted" in caplog.text
    drop_abandoned(store, tomorrow, but=OWN)
    assert not store.exists(key)


def test_copies_of_objects_go_when_no_training_uses_them(
    s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path))
    store = open_store(bucket_folder(f"tidying/{tmp_path.name}"))
    for name in ("used.png", "unused.png"):
        store.write(name, name.encode())
    unused, used = sorted(store.list(), key=lambda entry: entry.key)
    kept = local_files(store, [used, unused])
    for path in kept:
        aged(path, 31)
    broken = objects_folder() / "ab" / "fetching-x"
    broken.mkdir(parents=True)
    (broken / "part").write_bytes(b"x")
    aged(broken, 31)
    local_files(store, [used])  # a training that runs now

    drop_unused(objects_folder(), 30)

    assert [path.exists() for path in kept] == [True, False]
    assert not broken.exists()
    drop_unused(tmp_path / "nowhere", 30)
