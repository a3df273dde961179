"""Which record speaks for which picture: laws that hold whatever happened before."""

import csv
import io
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.columns import COUNT_COLUMNS, GRAIN_RECORD, IMAGE_RECORD, MEASUREMENT_COLUMNS
from pollen.results.tables import (
    INPUTS,
    NOT_COUNTED,
    count_rows,
    counts_csv,
    csv_text,
    speaking_records,
    undrawn_inputs,
    waiting_inputs,
    write_measurements,
)


def inputs(*pairs: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame([(*pair, 1) for pair in pairs], schema=INPUTS, orient="row")


def record(key: str, version: str = "1", batch: str = "b", **values: object) -> dict[str, object]:
    row = {
        "key": key,
        "version": version,
        "filename": key,
        "status": "ok",
        "reason": "",
        "transient": False,
        "viable": 3,
        "non_viable": 1,
        "total_detected": 5,
        "batch": batch,
        "committed_ms": 1,
    }
    return row | values


def failed(key: str, **values: object) -> dict[str, object]:
    empty = {"status": "failed", "reason": "broke off", "transient": True, "viable": None}
    return record(key) | empty | {"non_viable": None, "total_detected": None} | values


def records(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=IMAGE_RECORD)


def chosen(present: pl.DataFrame, *rows: dict[str, object]) -> list[dict[str, object]]:
    return speaking_records(present, records(*rows)).sort("filename").to_dicts()


histories = st.lists(
    st.builds(
        lambda key, version, batch, transient, time: (failed if transient else record)(
            key, version=version, batch=f"{batch}-{key}-{version}", committed_ms=time
        ),
        st.sampled_from("abc"),
        st.sampled_from("12"),
        st.sampled_from("xyz"),
        st.booleans(),
        st.integers(1, 3),
    ),
    max_size=12,
    unique_by=lambda row: row["batch"],
)
listings = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"))


@given(listings, histories)
def test_one_record_per_key_and_of_the_right_version(
    listing: dict[str, str], history: list[dict[str, object]]
) -> None:
    present = inputs(*listing.items())
    rows = chosen(present, *history)
    keys = [row["key"] for row in rows]
    assert len(keys) == len(set(keys))
    for row in rows:
        if row["key"] in listing:
            assert row["version"] == listing[str(row["key"])]
            assert row["input_present"] is True
        else:
            assert row["input_present"] is False
            assert row["transient"] is False


@given(listings, histories)
def test_success_speaks_before_failure(
    listing: dict[str, str], history: list[dict[str, object]]
) -> None:
    for row in chosen(inputs(*listing.items()), *history):
        if row["transient"]:
            same = [r for r in history if (r["key"], r["version"]) == (row["key"], row["version"])]
            assert all(r["transient"] for r in same)


@given(listings, histories)
def test_what_waits_is_what_has_no_lasting_record(
    listing: dict[str, str], history: list[dict[str, object]]
) -> None:
    lasting = {(r["key"], r["version"]) for r in history if not r["transient"]}
    waiting = waiting_inputs(inputs(*listing.items()), records(*history))
    assert waiting["key"].to_list() == sorted(
        key for key, version in listing.items() if (key, version) not in lasting
    )


@given(listings, histories)
def test_every_input_has_rows_and_records_written_twice_change_nothing(
    listing: dict[str, str], history: list[dict[str, object]]
) -> None:
    present = inputs(*listing.items())
    once = count_rows(present, speaking_records(present, records(*history)))
    twice = count_rows(present, speaking_records(present, records(*history, *history)))
    assert counts_csv(once) == counts_csv(twice)
    assert set(listing) <= set(once["filename"])
    assert once["filename"].is_unique().all()


def test_a_file_with_one_page_to_try_again_waits_as_a_whole() -> None:
    present = inputs(("a.tif", "1"))
    good = record("a.tif", filename="a.tif#page=1")
    bad = failed("a.tif", filename="a.tif#page=2")
    assert waiting_inputs(present, records(good, bad)).height == 1
    assert [row["filename"] for row in chosen(present, good, bad)] == [
        "a.tif#page=1",
        "a.tif#page=2",
    ]
    whole = [
        record("a.tif", batch="c", filename="a.tif#page=1", viable=8),
        record("a.tif", batch="c", filename="a.tif#page=2", viable=9),
    ]
    assert [row["viable"] for row in chosen(present, good, bad, *whole)] == [8, 9]


def test_only_counted_present_pictures_want_a_drawing() -> None:
    present = inputs(("b", "1"), ("a", "2"), ("c", "1"), ("new", "1"), ("t.tif", "1"))
    history = records(
        record("a"),
        record("a", version="2", batch="y"),
        record("b"),
        failed("c", transient=False),
        record("gone"),
        record("t.tif", batch="t", filename="t.tif#page=1"),
        record("t.tif", batch="t", filename="t.tif#page=2"),
    )

    def undrawn(*drawn: str) -> list[str]:
        keys = (f"detected_images/{name}.jpg" for name in drawn)
        return undrawn_inputs(present, history, keys)["key"].to_list()

    assert undrawn() == ["a", "b", "t.tif"]
    assert undrawn("a", "b", "t.tif#page=1") == ["t.tif"]
    assert undrawn("a", "b", "t.tif#page=1", "t.tif#page=2") == []


@pytest.mark.parametrize("listed", ["ŽLUŤ.png", "z\u030clut\u030c.png"])
def test_names_that_a_file_system_spells_otherwise_are_no_reason_to_draw_again(listed: str) -> None:
    present, name = inputs(("žluť.png", "1")), f"detected_images/{listed}.jpg"
    assert undrawn_inputs(present, records(record("žluť.png")), [name]).is_empty()


def test_the_first_of_two_writers_counts() -> None:
    rows = chosen(inputs(("a", "1")), record("a", batch="x", viable=1), record("a", batch="y"))
    assert [row["viable"] for row in rows] == [1]


def test_a_deleted_input_keeps_its_last_version() -> None:
    old, new = record("a"), record("a", version="2", batch="y", viable=7, committed_ms=2)
    (row,) = chosen(inputs(), new, old)
    assert (row["viable"], row["input_present"]) == (7, False)
    assert chosen(inputs(), failed("a")) == []


def test_the_version_that_is_there_speaks_though_a_newer_one_was_recorded() -> None:
    old, new = record("a"), record("a", version="2", batch="y", viable=7, committed_ms=2)
    for history in ([old, new], [new, old]):
        (row,) = chosen(inputs(("a", "1")), *history)
        assert (row["viable"], row["input_present"]) == (3, True)
        assert waiting_inputs(inputs(("a", "1")), records(*history)).is_empty()


def test_failed_rows_are_empty_and_missing_ones_say_why() -> None:
    present = inputs(("a", "1"), ("b", "1"), ("c", "1"))
    rows = count_rows(present, speaking_records(present, records(record("a"), failed("b"))))
    assert rows.columns == list(COUNT_COLUMNS)
    a, b, c = rows.to_dicts()
    assert (a["total_counted"], a["viability"]) == (4, 0.75)
    assert a["viability_low"] < 0.75 < a["viability_high"]
    for row in (b, c):
        assert row["status"] == "failed"
        assert all(row[name] is None for name in ("viable", "non_viable", "total_counted"))
    assert (b["reason"], c["reason"]) == ("broke off", NOT_COUNTED)


def test_a_row_without_grains_has_no_viability() -> None:
    present = inputs(("a", "1"))
    empty = record("a", status="empty", viable=0, non_viable=0, total_detected=0)
    (row,) = count_rows(present, speaking_records(present, records(empty))).to_dicts()
    assert (row["total_counted"], row["viability"]) == (0, None)


def test_the_same_picture_under_two_names_is_flagged_in_both() -> None:
    present = inputs(*((name, "1") for name in ("a; b", "b", "c", "d", "page")))
    history = records(
        record("a; b", image_sha256="x"),
        record("b", image_sha256="x", flags="blurred"),
        record("c", image_sha256="x"),
        failed("d", image_sha256="x", transient=False),
        record("gone", image_sha256="x"),
        record("page", filename="page#page=1", image_sha256="y", flags=""),
        record("page", filename="page#page=2", image_sha256="y", flags=""),
    )
    rows = count_rows(present, speaking_records(present, history))
    assert dict(rows.select("filename", "flags").iter_rows()) == {
        "a; b": "same picture as b",
        "b": "blurred; same picture as a;b",
        "c": "same picture as a;b",
        "d": "",
        "gone": "",
        "page#page=1": "",
        "page#page=2": "",
    }
    assert rows["viable"].to_list() == [3, 3, 3, None, 3, 3, 3]


def test_one_grain_of_many_is_not_rounded_away() -> None:
    present = inputs(("a", "1"))
    many = record("a", viable=99_999, non_viable=1)
    (row,) = count_rows(present, speaking_records(present, records(many))).to_dicts()
    assert (row["viability"], row["viability_high"] < 1) == (0.99999, True)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_names_survive_the_table(name: str) -> None:
    present = inputs((name, "1"))
    data = counts_csv(count_rows(present, speaking_records(present, records(record(name)))))
    (row,) = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert row["filename"] == name


def test_lines_end_in_lf_and_nothing_is_nothing() -> None:
    text = csv_text(pl.DataFrame({"a": ["", "x"], "b": [None, 1.5]}))
    assert text == "a,b\n,\nx,1.5\n"


def test_grains_of_the_chosen_writers_only(tmp_path: Path) -> None:
    rows = [
        {"key": "a", "version": "1", "batch": batch, "filename": "a", "particle_id": number}
        for batch in ("x", "y")
        for number in (2, 1)
    ]
    frame = pl.DataFrame(rows, schema=GRAIN_RECORD)
    for name in ("first", "again"):  # as a crash between merging and deleting leaves them
        frame.write_parquet(tmp_path / f"{name}.parquet")
    speaking = speaking_records(
        inputs(("a", "1")), records(record("a", batch="x"), record("a", batch="y"))
    )
    target = tmp_path / "table.csv"
    assert write_measurements(sorted(tmp_path.glob("*.parquet")), speaking, target) == 2
    lines = target.read_text().splitlines()
    assert lines[0] == ",".join(MEASUREMENT_COLUMNS)
    assert [line.split(",")[:2] for line in lines[1:]] == [["a", "1"], ["a", "2"]]
    assert all(line.endswith(",true") for line in lines[1:])
    deleted = speaking_records(inputs(), records(record("a", batch="x")))
    write_measurements(sorted(tmp_path.glob("*.parquet")), deleted, target)
    assert [line.split(",")[-1] for line in target.read_text().splitlines()] == [
        "input_present",
        "false",
        "false",
    ]


def test_no_grain_records_give_a_table_of_its_head(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    assert write_measurements([], speaking_records(inputs(), records()), target) == 0
    assert target.read_text() == ",".join(MEASUREMENT_COLUMNS) + "\n"


@given(listings, histories, st.randoms(use_true_random=False))
def test_table_does_not_depend_on_how_records_lie_in_files(
    listing: dict[str, str], history: list[dict[str, object]], random: Random
) -> None:
    """Equal pictures give equal records, so that it does not matter whose are read first."""
    present = inputs(*listing.items())
    shuffled = random.sample(history, len(history))
    tables = [
        counts_csv(count_rows(present, speaking_records(present, records(*rows))))
        for rows in (history, shuffled)
    ]
    assert tables[0] == tables[1]


def test_grain_table_does_not_depend_on_how_records_lie_in_files(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        [
            {"key": key, "version": "1", "batch": "b", "filename": key, "particle_id": number}
            for key in ('ü, "x".png', "b/a.tif", "a.png")
            for number in range(1, 12)
        ],
        schema=GRAIN_RECORD,
    )
    names = rows["key"].unique().to_list()
    speaking = speaking_records(
        inputs(*((name, "1") for name in names)), records(*(record(name) for name in names))
    )
    tables = []
    for cut in (0, 5, 20):
        folder = tmp_path / str(cut)
        folder.mkdir()
        rows[cut:].write_parquet(folder / "1.parquet")
        rows[:cut].sample(fraction=1, shuffle=True, seed=cut).write_parquet(folder / "2.parquet")
        assert (
            write_measurements(sorted(folder.glob("*.parquet")), speaking, folder / "t.csv") == 33
        )
        tables.append((folder / "t.csv").read_bytes())
    assert tables[0] == tables[1] == tables[2]
    assert b"\r" not in tables[0]
    found = [row["filename"] for row in csv.DictReader(io.StringIO(tables[0].decode(), newline=""))]
    assert found == sorted(name for name in names for _ in range(11))
