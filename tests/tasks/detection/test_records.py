"""Records: commits in order, merging that loses and doubles nothing, damage that is reported."""

from pathlib import Path

import polars as pl
import pytest

import tasks.stage
from pollen.columns import GRAIN_RECORD, IMAGE_RECORD
from pollen.layout import RECORDS
from pollen.results.records import INPUTS, current_records
from pollen.results.tables import count_rows, csv_bytes
from tasks.detection import records
from tasks.detection.records import (
    GRAINS,
    IMAGES,
    compact,
    read_earlier_records,
    read_image_records,
    write_grain_table,
    write_records,
)
from tasks.faults import StorageError
from tasks.storage.folders import FolderStore
from tests.support.pictures import put
from tests.support.runs import COUNTS, count, tables

FOLDER = "records/"
NUMBER = 6


def image(key: str, batch: str, **values: object) -> pl.DataFrame:
    row = {
        "key": key,
        "version": "1",
        "filename": key,
        "status": "ok",
        "transient": False,
        "viable": 1,
        "non_viable": 1,
        "total_detected": 2,
        "batch": batch,
        "committed_ms": 1,
    }
    return pl.DataFrame([row | values], schema=IMAGE_RECORD)


def grains(key: str, batch: str) -> pl.DataFrame:
    rows = [
        {"key": key, "version": "1", "batch": batch, "filename": key, "particle_id": number}
        for number in (1, 2)
    ]
    return pl.DataFrame(rows, schema=GRAIN_RECORD)


def commit(store: FolderStore, key: str, batch: str, **values: object) -> None:
    write_records(store, FOLDER, batch, image(key, batch, **values), grains(key, batch))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    """A store with some record files, enough to be merged."""
    monkeypatch.setattr(records, "MERGE_FROM_FILES", NUMBER)
    store = FolderStore(tmp_path / "store")
    for number in range(NUMBER):
        commit(store, f"{number}.png", f"batch{number}")
    return store


def test_records_of_an_earlier_version_are_read_and_merged(store: FolderStore) -> None:
    old = image("old.png", "b").drop("size_to_model", "excluded_edge_viable")
    old.write_parquet(store.root / FOLDER / IMAGES / "b.parquet")
    before = read_image_records(store, FOLDER)
    assert before.schema == IMAGE_RECORD
    assert before.filter(key="old.png")["size_to_model"].to_list() == [None]
    assert compact(store, FOLDER)
    assert read_image_records(store, FOLDER).equals(before)


def made_tables(store: FolderStore, scratch: Path) -> tuple[bytes, bytes]:
    """Counts and grains as the tables would say them."""
    inputs = pl.DataFrame(
        [(f"{number}.png", "1", 9) for number in range(NUMBER)], schema=INPUTS, orient="row"
    )
    chosen = current_records(inputs, read_image_records(store, FOLDER))
    write_grain_table(store, [FOLDER], chosen, scratch / "grains.csv")
    return csv_bytes(count_rows(inputs, chosen)), (scratch / "grains.csv").read_bytes()


def names(store: FolderStore, kind: str) -> list[str]:
    return sorted(entry.key.removeprefix(FOLDER + kind) for entry in store.list(FOLDER + kind))


def test_grains_are_written_before_the_image_record_that_counts_them(tmp_path: Path) -> None:
    written: list[str] = []

    class Noting(FolderStore):
        def write(self, key: str, data: bytes, content_type: str = "") -> None:
            written.append(key)
            super().write(key, data, content_type)

    commit(Noting(tmp_path), "a.png", "b1")
    assert written == ["records/grains/b1.parquet", "records/images/b1.parquet"]


def test_merging_changes_no_table(store: FolderStore, tmp_path: Path) -> None:
    before = made_tables(store, tmp_path)
    assert compact(store, FOLDER) == 2 * (NUMBER - 1)
    assert len(names(store, IMAGES)) == len(names(store, GRAINS)) == 1
    assert made_tables(store, tmp_path) == before
    assert compact(store, FOLDER) == 0


def test_merging_again_with_files_without_grains_keeps_the_grains(
    store: FolderStore, tmp_path: Path
) -> None:
    """The merged rows are the same as before, and so is the name of the file that holds them."""
    compact(store, FOLDER)
    _, before = made_tables(store, tmp_path)
    for number in range(NUMBER):
        empty = pl.DataFrame(schema=GRAIN_RECORD)
        write_records(store, FOLDER, f"none{number}", image(f"e{number}.png", f"n{number}"), empty)
    compact(store, FOLDER)
    assert len(names(store, GRAINS)) == 1
    assert made_tables(store, tmp_path)[1] == before


@pytest.mark.parametrize("deleted", range(2 * NUMBER))
def test_a_crash_while_merging_changes_no_table(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    before = made_tables(store, tmp_path)
    left = iter(range(deleted))
    delete = FolderStore.delete

    def crashing(self: FolderStore, keys: list[str]) -> None:
        for key in keys:
            if next(left, None) is None:
                raise KeyboardInterrupt
            delete(self, [key])

    monkeypatch.setattr(FolderStore, "delete", crashing)
    with pytest.raises(KeyboardInterrupt):
        compact(store, FOLDER)
    monkeypatch.setattr(FolderStore, "delete", delete)
    assert made_tables(store, tmp_path) == before
    compact(store, FOLDER)
    assert made_tables(store, tmp_path) == before


@pytest.mark.parametrize("moment", ["fetched", "written"])
def test_two_that_merge_at_once_change_no_table(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    before = made_tables(store, tmp_path)
    name = "fetch" if moment == "fetched" else "write"
    call = getattr(FolderStore, name)
    other_runs = iter([True])

    def interrupted(self: FolderStore, *arguments: object) -> object:
        result = call(self, *arguments)
        if next(other_runs, False):
            compact(store, FOLDER)
        return result

    monkeypatch.setattr(FolderStore, name, interrupted)
    compact(store, FOLDER)
    monkeypatch.setattr(FolderStore, name, call)
    assert made_tables(store, tmp_path) == before


def test_a_batch_committed_while_others_are_merged_is_kept(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FolderStore.write
    late = iter([True])

    def and_one_more(self: FolderStore, key: str, data: bytes, content_type: str = "") -> None:
        write(self, key, data, content_type)
        if "merged-" in key and next(late, False):
            commit(store, "late.png", "late")

    monkeypatch.setattr(FolderStore, "write", and_one_more)
    compact(store, FOLDER)
    assert "late.png" in read_image_records(store, FOLDER)["key"].to_list()


def test_files_merged_away_between_listing_and_reading_are_listed_anew(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = FolderStore.fetch
    other_runs = iter([True])

    def too_late(self: FolderStore, key: str, scratch: Path) -> Path:
        if next(other_runs, False):
            compact(store, FOLDER)
        return fetch(self, key, scratch)

    monkeypatch.setattr(FolderStore, "fetch", too_late)
    assert read_image_records(store, FOLDER).height == NUMBER


@pytest.mark.parametrize("reader", ["_read", "write_measurements"])
def test_a_story_survives_files_merged_away_while_it_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    put(tmp_path / "pictures", *(f"{number}.png" for number in range(3)))
    output = tmp_path / "results"
    count(tmp_path / "pictures", output, batch_images=1)
    before = tables(output)
    (output / COUNTS).unlink()

    store = FolderStore(output)
    folder = f"{next(output.glob('pollen_counting_results/records/*')).relative_to(output)}/"
    call = getattr(records, reader)
    other_runs = iter([True])

    def too_late(*arguments: object) -> object:
        if next(other_runs, False):
            with monkeypatch.context() as patch:
                patch.setattr(records, reader, call)
                patch.setattr(records, "MERGE_FROM_FILES", 2)
                assert compact(store, folder)
        return call(*arguments)

    monkeypatch.setattr(records, reader, too_late)
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    count(tmp_path / "pictures", output, batch_images=1)
    assert tables(output) == before


def test_a_damaged_image_record_is_named_with_the_remedy(store: FolderStore) -> None:
    store.write(f"{FOLDER}{IMAGES}half.parquet", b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"images/half.parquet is damaged .*delete it"):
        read_image_records(store, FOLDER)


def test_the_error_of_a_damaged_grain_record_says_what_to_do(
    store: FolderStore, tmp_path: Path
) -> None:
    store.write(f"{FOLDER}{GRAINS}half.parquet", b"PAR1 and no more")
    with pytest.raises(StorageError, match=r"records/grains/ is damaged .*delete records/"):
        write_grain_table(store, [FOLDER], read_image_records(store, FOLDER), tmp_path / "t.csv")


def test_a_damaged_file_of_other_settings_is_passed_over(store: FolderStore) -> None:
    here, there = f"{RECORDS}a/", f"{RECORDS}b/"
    for folder, key in ((here, "here.png"), (there, "there.png"), (there, "present.png")):
        write_records(store, folder, key, image(key, key), grains(key, key))
    store.write(f"{there}{IMAGES}half.parquet", b"PAR1 and no more")
    earlier = read_earlier_records(store, here, pl.Series(["present.png"]))
    assert earlier.select("key", "folder").rows() == [("there.png", there)]
    with pytest.raises(StorageError, match=r"half.parquet is damaged"):
        read_image_records(store, there)


def test_a_folder_that_never_rests_is_an_error(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = FolderStore.list

    def always_stale(self: FolderStore, prefix: str = "") -> object:
        entries = list(listed(self, prefix))
        Path(self.root, entries[0].key).unlink()
        return iter(entries)

    monkeypatch.setattr(FolderStore, "list", always_stale)
    with pytest.raises(StorageError, match="wait until other runs end") as error:
        read_image_records(store, FOLDER)
    assert error.value.heals
