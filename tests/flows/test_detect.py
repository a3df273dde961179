"""The story's promises on local folders: nothing twice, nothing lost, nothing changed for nothing."""

import os
import re
import shutil
from itertools import count as iterations
from pathlib import Path

import numpy as np
import pytest

from flows.detect import count_pictures
from pollen.arrays import FloatArray
from pollen.detection.batches import Item
from pollen.detection.decoding import Decoder
from pollen.detection.grains import Grains
from pollen.errors import PollenError
from pollen.layout import annotated_key
from pollen.reports.annotate import UNDRAWN_FLAG
from tasks.detection.reading import OpenPicture, Reader
from tasks.detection.summary import Outcome
from tasks.faults import StorageError
from tests.support.pictures import grey_in_colour, pages, picture, put
from tests.support.runs import (
    COUNTS,
    GRAINS,
    REPORT,
    SAMPLES,
    count,
    files,
    grain_ids,
    located,
    rows,
    settings,
    tables,
    tiles_counted,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    put(folder, "a.png", "b.jpg", "deep/c.tif")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results"


def test_a_run_leaves_one_row_per_picture_and_one_per_grain(source: Path, output: Path) -> None:
    summary = count(source, output)
    found = rows(output)
    assert list(found) == ["a.png", "b.jpg", "deep/c.tif"]
    assert {row["status"] for row in found.values()} == {"ok"}
    for row in found.values():
        assert int(row["viable"]) + int(row["non_viable"]) == int(row["total_counted"])
    detected = [
        (name, str(number))
        for name, row in found.items()
        for number in range(1, int(row["total_detected"]) + 1)
    ]
    assert detected
    assert grain_ids((output / GRAINS).read_bytes()) == detected
    assert all((output / annotated_key(name)).is_file() for name in found)
    assert summary.outcome is Outcome.COMPLETED
    assert summary.sentence.startswith(f"3 images, {len(detected)} grains, ")


def test_a_second_run_does_no_model_work_and_changes_no_byte(source: Path, output: Path) -> None:
    count(source, output)
    before = files(output)
    with tiles_counted() as tiles:
        summary = count(source, output)
    assert tiles() == 0
    assert files(output) == before
    assert summary.outcome is Outcome.NOTHING_NEW


def test_one_new_picture_costs_one_picture(source: Path, output: Path) -> None:
    count(source, output)
    put(source, "new.png", first_seed=50)
    with tiles_counted() as tiles:
        summary = count(source, output)
    assert tiles() == 1
    assert summary.counted_now == 1
    assert list(rows(output)) == ["a.png", "b.jpg", "deep/c.tif", "new.png"]


def test_one_replaced_picture_costs_one_picture_and_has_one_row(source: Path, output: Path) -> None:
    count(source, output)
    before = rows(output)
    put(source, "a.png", first_seed=60)
    with tiles_counted() as tiles:
        count(source, output)
    after = rows(output)
    assert tiles() == 1
    assert after["a.png"]["image_sha256"] != before["a.png"]["image_sha256"]
    assert {name: row for name, row in after.items() if name != "a.png"} == {
        name: row for name, row in before.items() if name != "a.png"
    }
    numbers = [
        number for name, number in grain_ids((output / GRAINS).read_bytes()) if name == "a.png"
    ]
    assert len(numbers) == int(after["a.png"]["total_detected"]) == len(set(numbers))


@pytest.mark.parametrize(
    "setting",
    [
        {"confidence": 0.6},
        {"edge_rule": "exclude"},
        {"overlap_rule": "exclude"},
        {"merge_iou": 0.7},
    ],
    ids=str,
)
def test_a_setting_that_changes_results_recounts_all(
    source: Path, output: Path, setting: dict[str, object]
) -> None:
    count(source, output)
    with tiles_counted() as tiles:
        count(source, output, **setting)
    assert tiles() == 3
    assert len(rows(output)) == 3


@pytest.mark.parametrize(
    "setting",
    [{"io_threads": 1}, {"batch_images": 1}, {"memory_megapixels": 1}, {"annotate": False}],
    ids=str,
)
def test_a_setting_that_changes_no_result_recounts_nothing(
    source: Path, output: Path, setting: dict[str, object]
) -> None:
    count(source, output)
    before = files(output)
    with tiles_counted() as tiles:
        count(source, output, **setting)
    assert tiles() == 0
    assert files(output) == before


def test_pictures_that_were_not_drawn_are_drawn_when_asked(source: Path, output: Path) -> None:
    (source / "bad.png").write_bytes(b"")
    count(source, output, annotate=False)
    before = tables(output)
    assert not (output / "detected_images").exists()
    with tiles_counted() as tiles:
        count(source, output, annotate=False)
    assert tiles() == 0

    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 3
    assert all((output / annotated_key(name)).is_file() for name in ("a.png", "b.jpg"))
    assert tables(output) == before

    (output / annotated_key("a.png")).unlink()
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 1
    assert (output / annotated_key("a.png")).is_file()
    assert tables(output) == before


def test_threads_batches_and_memory_do_not_show_in_the_tables(source: Path, tmp_path: Path) -> None:
    put(source, *(f"more/{number}.png" for number in range(4)), first_seed=10)
    count(source, tmp_path / "one")
    count(source, tmp_path / "two", batch_images=2, io_threads=1, memory_megapixels=0.05)
    assert tables(tmp_path / "one") == tables(tmp_path / "two")


@pytest.mark.parametrize("lost", [COUNTS, GRAINS, SAMPLES, REPORT])
def test_a_lost_table_is_made_again_from_the_records(source: Path, output: Path, lost: str) -> None:
    count(source, output)
    before = (output / lost).read_bytes()
    (output / lost).unlink()
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0
    assert (output / lost).read_bytes() == before


def test_a_deleted_picture_keeps_its_row_and_comes_back(source: Path, output: Path) -> None:
    count(source, output)
    before, facts = rows(output), (source / "a.png").stat()
    (source / "a.png").rename(source.parent / "away")
    summary = count(source, output)
    assert rows(output)["a.png"] == before["a.png"] | {"input_present": "false"}
    assert summary.present.height == 2
    assert summary.sentence.startswith("2 images, ")

    (source.parent / "away").rename(source / "a.png")
    os.utime(source / "a.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0
    assert rows(output) == before


def test_an_older_version_that_comes_back_speaks_again(source: Path, output: Path) -> None:
    count(source, output)
    before = rows(output)
    shutil.copy2(source / "a.png", source.parent / "older")  # keeps the time of change
    put(source, "a.png", first_seed=60)
    count(source, output)
    assert rows(output)["a.png"]["image_sha256"] != before["a.png"]["image_sha256"]
    (source / "a.png").unlink()
    count(source, output)

    shutil.copy2(source.parent / "older", source / "a.png")
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0
    assert rows(output) == before
    numbers = [name for name, _ in grain_ids((output / GRAINS).read_bytes()) if name == "a.png"]
    assert len(numbers) == int(before["a.png"]["total_detected"])


def test_a_deleted_picture_that_is_uploaded_anew_is_counted_anew(
    source: Path, output: Path
) -> None:
    count(source, output)
    (source / "a.png").unlink()
    count(source, output)
    put(source, "a.png", first_seed=70)
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 1
    assert rows(output)["a.png"]["input_present"] == "true"


def test_all_pictures_deleted_is_no_images_and_keeps_their_rows(source: Path, output: Path) -> None:
    count(source, output)
    shutil.rmtree(source)
    source.mkdir()
    summary = count(source, output)
    assert summary.outcome is Outcome.NO_IMAGES
    assert {row["input_present"] for row in rows(output).values()} == {"false"}
    assert len(rows(output)) == 3


def test_no_pictures_leave_nothing_behind(tmp_path: Path, output: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    summary = count(tmp_path / "empty", output)
    assert summary.outcome is Outcome.NO_IMAGES
    assert "no pictures to count (.czi, .jpeg, .jpg, .png, .tif, .tiff)" in summary.message
    assert not output.exists()


def test_every_page_of_a_file_has_its_row(tmp_path: Path, output: Path) -> None:
    source = tmp_path / "pictures"
    source.mkdir()
    (source / "stack.tif").write_bytes(pages(3))
    count(source, output)
    assert list(rows(output)) == [f"stack.tif#page={number}" for number in (1, 2, 3)]
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0


BROKEN = {
    "empty.png": (b"", "the file is empty .*upload it again"),
    "half.png": (picture(1)[:-3000], ""),
    "half.jpg": (picture(1, ".jpg")[: len(picture(1, ".jpg")) // 2], ""),
    "half.tif": (picture(1, ".tif")[:-3000], ""),
    "named.jpg": (picture(2), "named .jpg but holds a PNG picture: rename it to end in .png"),
    "text.png": (b"Dear colleague,\n", "holds text"),
    "noise.tif": (bytes(range(1, 200)), "starts like no known picture"),
    "page.jpeg": (b"<!DOCTYPE html><html></html>", "a web page"),
    "grey.png": (grey_in_colour(), "the picture is grey although saved in colour .* export it"),
    "zip.czi": (b"PK\x03\x04" + bytes(50), "a ZIP archive"),
}


def test_what_can_not_be_read_is_a_failed_row_and_the_rest_completes(
    source: Path, output: Path
) -> None:
    for name, (data, _) in BROKEN.items():
        (source / name).write_bytes(data)
    summary = count(source, output)
    found = rows(output)
    for name, (_, reason) in BROKEN.items():
        row = found[name]
        assert row["status"] == "failed"
        assert row["viable"] == row["non_viable"] == row["total_counted"] == ""
        assert len(row["reason"]) > 20
        assert re.search(reason, row["reason"]), row["reason"]
        assert not (output / annotated_key(name)).exists()
    assert [name for name, row in found.items() if row["status"] == "ok"] == [
        "a.png",
        "b.jpg",
        "deep/c.tif",
    ]
    assert summary.outcome is Outcome.WITH_FAILURES
    assert summary.message.endswith(f"; {len(BROKEN)} failed, {len(BROKEN)} of them new")
    assert not [name for name, _ in grain_ids((output / GRAINS).read_bytes()) if name in BROKEN]


def test_permanent_failures_are_done_until_the_picture_changes(source: Path, output: Path) -> None:
    (source / "bad.png").write_bytes(b"")
    count(source, output)
    before = files(output)
    summary = count(source, output)
    assert summary.counted_now == 0
    assert files(output) == before
    assert summary.failed["filename"].to_list() == ["bad.png"]

    put(source, "bad.png", first_seed=80)
    with tiles_counted() as tiles:
        summary = count(source, output)
    assert tiles() == 1
    assert summary.failed.is_empty()


def test_which_failures_are_new_is_told_once(source: Path, output: Path) -> None:
    (source / "bad.png").write_bytes(b"")
    assert count(source, output).message.endswith("; 1 failed, 1 of them new")
    put(source, "good.png", first_seed=90)
    assert count(source, output).message.endswith("; 1 failed")
    (source / "worse.png").write_bytes(b"")
    (output / COUNTS).write_bytes((output / COUNTS).read_bytes() + b"damaged,by,hand\n")
    assert count(source, output).message.endswith("; 2 failed, 1 of them new")
    (source / "worst.png").write_bytes(b"")
    (output / COUNTS).write_bytes(b"\x00no table")
    assert count(source, output).message.endswith("; 3 failed, 3 of them new")


def test_a_picture_that_vanishes_meanwhile_has_no_row_until_it_is_back(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader.read

    def late(self: Reader, turn: int, item: Item) -> OpenPicture:
        (source / "a.png").unlink(missing_ok=True)
        return read(self, turn, item)

    monkeypatch.setattr(Reader, "read", late)
    summary = count(source, output)
    assert summary.failed.is_empty()
    assert "a.png" not in rows(output)

    monkeypatch.undo()
    put(source, "a.png")
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 1
    assert rows(output)["a.png"]["status"] == "ok"


NAMES = (
    "two words/my picture.png",
    "žluť/pyl ☼.png",
    "a+b.png",
    "100%.png",
    "%41.png",
    'it\'s "quoted".png',
    "hash#page=1.png",
    "comma, semicolon;.png",
    "=1+1.png",
    "deep/er/and/deep/er/still/a.png",
    "other/a.png",
    "a.png",
    "a.jpg",
    "a.JPG.jpg",
    "LOUD.PNG",
    "Mixed.JpEg",
    "line\nbreak.png",
)


def test_any_name_is_counted_under_its_own_name(tmp_path: Path, output: Path) -> None:
    source = tmp_path / "pictures"
    put(source, *NAMES)
    count(source, output)
    found = rows(output)
    assert sorted(found) == sorted(NAMES)
    assert {row["status"] for row in found.values()} == {"ok"}
    assert len({row["image_sha256"] for row in found.values()}) == len(NAMES)
    assert all((output / annotated_key(name)).is_file() for name in NAMES)
    assert list(found) == sorted(found)


def test_hidden_files_and_other_files_are_no_input(source: Path, output: Path) -> None:
    for name in (".hidden.png", "._a.png", ".cache/x.png", "notes.txt", "png", "a.png.bak"):
        path = source / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture(3))
    count(source, output)
    assert list(rows(output)) == ["a.png", "b.jpg", "deep/c.tif"]


def test_links_to_folders_are_followed_and_circles_end(source: Path, output: Path) -> None:
    elsewhere = source.parent / "elsewhere"
    put(elsewhere, "d.png", "deeper/e.png", first_seed=30)
    (source / "linked").symlink_to(elsewhere, target_is_directory=True)
    (source / "a link to deep").symlink_to(source / "deep", target_is_directory=True)
    (elsewhere / "back").symlink_to(source, target_is_directory=True)
    (elsewhere / "round").symlink_to(elsewhere, target_is_directory=True)
    count(source, output)
    names = ["a.png", "b.jpg", "deep/c.tif", "linked/d.png", "linked/deeper/e.png"]
    assert list(rows(output)) == names
    assert {row["status"] for row in rows(output).values()} == {"ok"}
    assert count(source, output).counted_now == 0


def test_a_link_to_what_holds_the_pictures_is_not_followed_and_told(
    source: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source / "all").symlink_to(source.parent, target_is_directory=True)
    count(source, output)
    assert list(rows(output)) == ["a.png", "b.jpg", "deep/c.tif"]
    assert "all is not read: it links to" in caplog.text


def test_a_link_to_a_picture_that_is_gone_is_a_failed_row(
    source: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source / "gone.png").symlink_to(source.parent / "nowhere.png")
    (source / "loop.png").symlink_to(source / "loop.png")
    (source / "share").symlink_to(source.parent / "not mounted", target_is_directory=True)
    count(source, output)
    found = rows(output)
    assert [name for name, row in found.items() if row["status"] == "failed"] == [
        "gone.png",
        "loop.png",
    ]
    assert "does not exist" in found["gone.png"]["reason"]
    assert "share is a link that leads nowhere" in caplog.text
    put(source.parent, "nowhere.png")
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 1
    assert rows(output)["gone.png"]["status"] == "ok"


def test_results_are_no_input_whichever_link_leads_to_them(source: Path, output: Path) -> None:
    output.mkdir()
    large = source.parent / "large disk"
    large.mkdir()
    (output / "detected_images").symlink_to(large, target_is_directory=True)
    (source / "results").symlink_to(output, target_is_directory=True)
    (source / "drawn").symlink_to(large, target_is_directory=True)
    count(source, output)
    assert count(source, output).counted_now == 0
    assert list(rows(output)) == ["a.png", "b.jpg", "deep/c.tif"]
    assert len(list(large.rglob("*.jpg"))) == 3


@pytest.mark.parametrize("place", [".", "results", "deep/../results", "../pictures/results"])
def test_results_inside_the_source_are_not_read_as_input(source: Path, place: str) -> None:
    output = source / place
    count(source, output)
    before = files(output)
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0
    assert list(rows(output)) == ["a.png", "b.jpg", "deep/c.tif"]
    assert files(output) == before


def test_a_name_too_long_for_its_annotated_picture_is_counted_without_it(
    source: Path, output: Path
) -> None:
    name = "ž" * 125 + ".png"  # 254 bytes; with .jpg behind it is more than a file name may have
    put(source, name, first_seed=9)
    assert count(source, output).failed.is_empty()
    found = rows(output)
    assert found[name]["status"] == "ok"
    assert found[name]["flags"] == UNDRAWN_FLAG
    assert found["a.png"]["flags"] == ""
    with tiles_counted() as tiles:
        count(source, output)
    assert tiles() == 0


def test_output_that_can_not_be_used_fails_one_picture_for_good(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, decode = iterations(), Decoder.decode

    def overflows_once(self: Decoder, raw: FloatArray, prototypes: FloatArray | None) -> Grains:
        return decode(self, raw * np.float32(np.nan if next(calls) == 0 else 1), prototypes)

    monkeypatch.setattr(Decoder, "decode", overflows_once)
    summary = count(source, output)
    assert "not finite" in "".join(summary.failed["reason"])
    assert sorted(row["status"] for row in rows(output).values()) == ["failed", "ok", "ok"]
    assert count(source, output).counted_now == 0


def test_a_grain_diameter_is_refused_where_the_model_does_not_say_its_own(
    source: Path, output: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"never loaded")
    stated = settings(grain_diameter_px=50)
    with pytest.raises(PollenError, match="leave the setting empty"):
        count_pictures(located(source), located(output), str(weights), stated)
    assert not output.exists()


def test_another_sample_pattern_changes_the_table_of_samples(source: Path, output: Path) -> None:
    put(source, "p1_2x_A.png", "p2_2x_A.png", first_seed=30)
    count(source, output)
    before = (output / SAMPLES).read_bytes()
    with tiles_counted() as tiles:
        count(
            source,
            output,
            sample_pattern=r"(?P<plant>p\d)_(?P<ploidy>2x)_(?P<replicate>A)",
        )
    assert tiles() == 0
    assert (output / SAMPLES).read_bytes() != before


def test_the_grain_table_is_refreshed_on_demand_beyond_its_limit(
    source: Path, output: Path
) -> None:
    count(source, output)
    put(source, "new.png", first_seed=50)
    count(source, output, grain_table_rows=1)
    assert "new.png" not in dict(grain_ids((output / GRAINS).read_bytes()))
    assert "not written by this run" in (output / REPORT).read_text()

    count(source, output, grain_table_rows=1, refresh_grain_table=True)
    assert "new.png" in dict(grain_ids((output / GRAINS).read_bytes()))
    assert "not written by this run" not in (output / REPORT).read_text()


def test_a_grain_table_that_was_postponed_is_written_when_the_limit_allows(
    source: Path, output: Path
) -> None:
    count(source, output, grain_table_rows=0)
    assert not (output / GRAINS).exists()
    put(source, "new.png", first_seed=50)
    count(source, output)
    put(source, "more.png", first_seed=51)
    count(source, output, grain_table_rows=0)
    count(source, output)
    assert "more.png" in dict(grain_ids((output / GRAINS).read_bytes()))


def test_an_output_that_can_not_be_written_ends_the_run_before_the_model(
    source: Path, output: Path
) -> None:
    output.mkdir(mode=0o555)
    if os.access(output, os.W_OK):
        pytest.skip("this user may write everywhere")
    with (
        tiles_counted() as tiles,
        pytest.raises(StorageError, match=r"can't be written \(Permission denied\): .* its rights"),
    ):
        count(source, output)
    assert tiles() == 0
    assert not list(output.iterdir())


def test_an_output_that_is_a_file_is_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PollenError, match="is a file: name a folder"):
        count(source, tmp_path / "file")
    with pytest.raises(StorageError, match=r"file"):
        count(source, tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"
