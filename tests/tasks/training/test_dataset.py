"""Staged zips to versions of the dataset, in folders and on real S3."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks.stage
from pollen.dataset.manifest import Manifest, Split
from pollen.dataset.report import find_leaks
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from services.embedded import EmbeddedS3
from tasks.faults import StorageError
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location, open_store
from tasks.training import dataset
from tasks.training.dataset import (
    DatasetVersion,
    Staging,
    archive_zips,
    latest_version,
    update_dataset,
    version_key,
)
from tasks.training.dataset_report import report_dataset
from tasks.training.pictures import fetch_pictures
from tests.support.labelled import NAMES, export, labelled
from tests.support.runs import bucket_folder
from tests.support.wire import Wire, tapped

SETTINGS = DatasetSettings()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.01)
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def bucket(s3_server: EmbeddedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Staging.below(bucket_folder(f"dataset/{tmp_path.name}"), "pollen")


@pytest.fixture
def folder(tmp_path: Path) -> Staging:
    return Staging.below(Location(folder=tmp_path / "root"), "pollen")


@pytest.fixture(params=["folder", "bucket"])
def staging(request: pytest.FixtureRequest) -> Staging:
    chosen: Staging = request.getfixturevalue(request.param)
    return chosen


def stage_zip(staging: Staging, name: str, data: bytes) -> None:
    assert staging.zips is not None
    open_store(staging.zips).write(name, data)


def merged(staging: Staging) -> DatasetVersion:
    version = update_dataset(staging, SETTINGS)
    archive_zips(staging.zips, version.merged)
    return version


def staged(staging: Staging) -> list[str]:
    assert staging.zips is not None
    return sorted(entry.key for entry in open_store(staging.zips).list())


def splits(manifest: Manifest) -> dict[str, Split]:
    return {image.sha256: image.split for image in manifest.images}


def labels(manifest: Manifest) -> dict[str, str]:
    return {image.sha256: image.label_sha256 for image in manifest.images}


def test_a_staged_zip_becomes_a_version_and_is_archived(staging: Staging) -> None:
    stage_zip(staging, "first.zip", export())

    version = merged(staging)

    assert version.number == 1
    assert len(version.manifest.images) == len(NAMES)
    assert {image.split for image in version.manifest.images} == set(Split)
    (archived,) = staged(staging)
    assert archived.startswith("archive/first-")
    files = fetch_pictures(version.manifest.images, staging.pictures)
    assert sum(len(file.grains) for file in files) == version.manifest.grains().total > 40


def test_what_is_merged_already_makes_no_version(staging: Staging) -> None:
    stage_zip(staging, "first.zip", export())
    first = merged(staging)

    again = merged(staging)
    stage_zip(staging, "copy of first.zip", export())
    twice = merged(staging)

    assert again.number == twice.number == 1
    assert again.manifest.to_bytes() == twice.manifest.to_bytes() == first.manifest.to_bytes()
    assert not again.changes.added
    assert len(staged(staging)) == 2  # both archived


def test_new_pictures_make_a_version_and_old_ones_stay_where_they_are(staging: Staging) -> None:
    stage_zip(staging, "first.zip", export())
    first = merged(staging)
    stage_zip(staging, "second.zip", export(["7-1-A_2x_A_001.png", *NAMES[:1]], first_seed=50))

    second = merged(staging)

    assert second.number == 2
    assert second.manifest.parent == 1
    assert len(second.changes.added) == 2
    old, new = splits(first.manifest), splits(second.manifest)
    assert {key: new[key] for key in old} == old
    number, latest = latest_version(open_store(staging.manifests))
    assert number == 2
    assert latest == second.manifest


def test_a_run_that_merges_nothing_leaves_the_report_of_the_version(folder: Staging) -> None:
    doubled = {"train/images/9-1-A_2x_A_001.png": labelled(90)[0]}  # has no label
    stage_zip(folder, "first.zip", export(extra=doubled))
    store = open_store(folder.manifests)

    def reports() -> dict[str, bytes]:
        return {entry.key: store.read(entry.key) for entry in store.list("reports/")}

    place = report_dataset(folder, merged(folder))
    first = reports()
    assert place.endswith("reports/000001/dataset_report.html")
    assert b"9-1-A_2x_A_001.png" in first["reports/000001/findings.csv"]

    assert report_dataset(folder, merged(folder)) == place  # nothing is staged, nothing is found
    assert reports() == first
    for _ in range(2):
        stage_zip(folder, "no zip.zip", b"PK but no zip")
        report_dataset(folder, merged(folder))
    (added,) = set(reports()) - set(first)
    assert added.startswith("reports/000001/findings-")
    assert b"no zip.zip" in reports().pop(added)
    assert {key: reports()[key] for key in first} == first


def test_a_report_that_is_missing_is_written_by_the_next_run(folder: Staging) -> None:
    stage_zip(folder, "first.zip", export(NAMES[:6]))
    merged(folder)
    stage_zip(folder, "second.zip", export(NAMES[6:], first_seed=6))
    merged(folder)

    place = report_dataset(folder, merged(folder))

    page = open_store(folder.manifests).read("reports/000002/dataset_report.html").decode()
    assert place.endswith("reports/000002/dataset_report.html")
    assert "Since version 1:" in page
    assert "6 added" in page


def test_a_faulty_zip_stays_and_the_others_are_merged(
    staging: Staging, caplog: pytest.LogCaptureFixture
) -> None:
    stage_zip(staging, "good.zip", export(NAMES[:6]))
    stage_zip(staging, "no zip.zip", b"PK but no zip")
    stage_zip(staging, "classes.zip", export(NAMES[6:], first_seed=20, classes=("viable", "dead")))
    stage_zip(staging, "traversal.zip", export(NAMES[6:], extra={"../../evil.txt": b"x"}))
    stage_zip(staging, "notes.txt", b"not a zip at all")

    version = merged(staging)

    assert len(version.manifest.images) == 6
    assert [name for name in staged(staging) if not name.startswith("archive/")] == [
        "classes.zip",
        "no zip.zip",
        "notes.txt",
        "traversal.zip",
    ]
    named = {found.file.partition("/")[0] for found in version.findings}
    assert named >= {"no zip.zip", "classes.zip", "traversal.zip"}
    assert "unknown class 'dead'" in caplog.text


def test_class_numbers_in_another_order_are_read_by_name(folder: Staging, tmp_path: Path) -> None:
    stage_zip(folder, "one.zip", export(NAMES[:6]))
    stage_zip(folder, "two.zip", export(NAMES[6:], first_seed=6, classes=("non_viable", "viable")))
    mixed = merged(folder).manifest.grains()

    other = Staging.below(Location(folder=tmp_path / "other"), "pollen")
    stage_zip(other, "one.zip", export())

    assert mixed == merged(other).manifest.grains()


def test_nothing_labelled_anywhere_is_one_clear_error(staging: Staging) -> None:
    with pytest.raises(PollenError, match=r"no labelled picture: put some into .*train/images"):
        merged(staging)


def test_an_export_is_not_taken_for_a_dataset(folder: Staging) -> None:
    open_store(folder.pictures).write("valid/images/a.png", b"a picture")

    with pytest.raises(PollenError, match="is an export of a labelling tool, not a dataset"):
        merged(folder)


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("at", [0, 3, 11, 12, 20, 24, 25])
def test_a_merge_killed_anywhere_and_done_again_is_whole(
    folder: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    undisturbed = Staging.below(Location(folder=tmp_path / "undisturbed"), "pollen")
    for where in (folder, undisturbed):
        stage_zip(where, "first.zip", export())
    expected = merged(undisturbed)
    left, lock = at, threading.Lock()

    def dying(change: Callable[..., object]) -> Callable[..., object]:
        def changed(*args: object, **values: object) -> object:
            nonlocal left
            with lock:
                left -= 1
                if left < 0:
                    raise _KilledError
            return change(*args, **values)

        return changed

    with monkeypatch.context() as patch:
        for name in ("write", "write_file", "create", "delete"):
            patch.setattr(FolderStore, name, dying(getattr(FolderStore, name)))
        with pytest.raises(_KilledError):
            merged(folder)

    again = merged(folder)

    assert again.number == 1
    # What was written already keeps its split, so the rest may fall into other ones.
    assert labels(again.manifest) == labels(expected.manifest)
    assert not find_leaks(again.manifest)
    assert {image.source.name for image in again.manifest.images} == {"first.zip"}
    assert staged(folder) == staged(undisturbed)
    assert merged(folder).manifest == again.manifest


def test_two_merges_at_once_lose_nothing(staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_zip(staging, "first.zip", export(NAMES[:6]))
    between = threading.Event()
    publish = dataset._publish

    def late(*args: object) -> object:
        if not between.is_set():  # the other run comes first
            between.set()
            stage_zip(staging, "second.zip", export(NAMES[6:], first_seed=6))
            update_dataset(staging, SETTINGS)
        return publish(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "_publish", late)
    version = merged(staging)

    assert len(version.manifest.images) == len(NAMES)
    keys = [entry.key for entry in open_store(staging.manifests).list("versions/")]
    assert sorted(keys) == [version_key(number) for number in range(1, version.number + 1)]


def test_two_merges_at_once_keep_pictures_of_one_name_apart(
    folder: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = export(NAMES[:4]), export(NAMES[:4], first_seed=20)
    alone = Staging.below(Location(folder=tmp_path / "alone"), "pollen")
    stage_zip(alone, "1.zip", one)
    stage_zip(alone, "2.zip", two)
    expected = labels(merged(alone).manifest)
    create, met = FolderStore.create, threading.Event()

    def late(self: FolderStore, key: str, data: bytes, content_type: str = "") -> bool:
        if "/images/" in key and not met.is_set():  # its labels are written, its pictures not
            met.set()
            stage_zip(folder, "1.zip", one)
            merged(folder)
        return create(self, key, data, content_type)

    stage_zip(folder, "2.zip", two)
    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "create", late)
        merged(folder)

    assert labels(merged(folder).manifest) == expected
    assert len(expected) == 8


def test_a_picture_changed_behind_the_manifest_is_not_trained_on(staging: Staging) -> None:
    stage_zip(staging, "first.zip", export())
    manifest = merged(staging).manifest
    store = open_store(staging.pictures)
    store.write(manifest.images[0].key, store.read(manifest.images[1].key))

    with pytest.raises(PollenError, match=r"is not the file of the dataset's manifest"):
        fetch_pictures(manifest.images, staging.pictures)


def test_a_picture_that_is_gone_is_named(staging: Staging) -> None:
    stage_zip(staging, "first.zip", export())
    manifest = merged(staging).manifest
    open_store(staging.pictures).delete([manifest.images[3].key])

    with pytest.raises(PollenError, match=manifest.images[3].name):
        fetch_pictures(manifest.images, staging.pictures)


def test_pictures_are_fetched_once(bucket: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_zip(bucket, "first.zip", export())
    manifest = merged(bucket).manifest
    fetch_pictures(manifest.images, bucket.pictures)
    wire = tapped(monkeypatch)

    fetch_pictures(manifest.images, bucket.pictures)

    assert wire.seen["GetObject"] == 0


OPERATIONS = ["ListObjectsV2", "GetObject", "PutObject", "DeleteObject"]


@pytest.fixture
def wire(bucket: Staging, monkeypatch: pytest.MonkeyPatch) -> Wire:
    stage_zip(bucket, "first.zip", export(NAMES[:4]))
    return tapped(monkeypatch)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_stage_heals_after_a_503(bucket: Staging, wire: Wire, operation: str) -> None:
    wire.fail(operation, 503, times=1)

    version = merged(bucket)
    fetch_pictures(version.manifest.images, bucket.pictures)

    assert len(version.manifest.images) == 4
    assert wire.refused[operation] == 1
    assert staged(bucket)[0].startswith("archive/")


@pytest.mark.parametrize("operation", OPERATIONS[:3])
def test_a_refusal_is_asked_once(bucket: Staging, wire: Wire, operation: str) -> None:
    wire.fail(operation, 403, part="staging_area" if operation == "GetObject" else "")

    with pytest.raises(StorageError, match="refused access"):
        merged(bucket)

    asked = wire.refused[operation]
    assert asked == 1 or (operation == "PutObject" and asked <= 16)  # those under way at once
    assert staged(bucket) == ["first.zip"] if operation != "ListObjectsV2" else True


def test_without_the_right_to_delete_the_merge_stands(bucket: Staging, wire: Wire) -> None:
    wire.fail("DeleteObject", 403)

    assert merged(bucket).number == 1
    assert "first.zip" in staged(bucket)
