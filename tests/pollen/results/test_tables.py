"""From the records that count to the bytes of the tables."""

import csv
import io
from pathlib import Path
from random import Random

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from pollen.columns import COUNT_COLUMNS, GRAIN_RECORD, MEASUREMENT_COLUMNS
from pollen.results.records import current_records
from pollen.results.tables import NOT_COUNTED, count_rows, csv_bytes, write_measurements
from tests.pollen.results.making_records import (
    failed,
    histories,
    inputs,
    listings,
    record,
    records,
)


@given(listings, histories)
def test_every_input_has_rows_and_records_written_twice_change_nothing(
    listing: dict[str, str], history: list[dict[str, object]]
) -> None:
    present = inputs(*listing.items())
    once = count_rows(present, current_records(present, records(*history)))
    twice = count_rows(present, current_records(present, records(*history, *history)))
    assert csv_bytes(once) == csv_bytes(twice)
    assert set(listing) <= set(once["filename"])
    assert once["filename"].is_unique().all()


def test_failed_rows_are_empty_and_missing_ones_say_why() -> None:
    present = inputs(("a", "1"), ("b", "1"), ("c", "1"))
    rows = count_rows(present, current_records(present, records(record("a"), failed("b"))))
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
    (row,) = count_rows(present, current_records(present, records(empty))).to_dicts()
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
    rows = count_rows(present, current_records(present, history))
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
    (row,) = count_rows(present, current_records(present, records(many))).to_dicts()
    assert (row["viability"], row["viability_high"] < 1) == (0.99999, True)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_names_survive_the_table(name: str) -> None:
    present = inputs((name, "1"))
    data = csv_bytes(count_rows(present, current_records(present, records(record(name)))))
    (row,) = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert row["filename"] == name


def test_lines_end_in_lf_and_nothing_is_nothing() -> None:
    table = csv_bytes(pl.DataFrame({"a": ["", "x"], "b": [None, 1.5]}))
    assert table == b"a,b\n,\nx,1.5\n"


def test_grains_of_the_chosen_writers_only(tmp_path: Path) -> None:
    rows = [
        {"key": "a", "version": "1", "batch": batch, "filename": "a", "particle_id": number}
        for batch in ("x", "y")
        for number in (2, 1)
    ]
    frame = pl.DataFrame(rows, schema=GRAIN_RECORD)
    for name in ("first", "again"):  # as a crash between merging and deleting leaves them
        frame.write_parquet(tmp_path / f"{name}.parquet")
    speaking = current_records(
        inputs(("a", "1")), records(record("a", batch="x"), record("a", batch="y"))
    )
    target = tmp_path / "table.csv"
    assert write_measurements(sorted(tmp_path.glob("*.parquet")), speaking, target) == 2
    lines = target.read_text().splitlines()
    assert lines[0] == ",".join(MEASUREMENT_COLUMNS)
    assert [line.split(",")[:2] for line in lines[1:]] == [["a", "1"], ["a", "2"]]
    assert all(line.endswith(",true") for line in lines[1:])
    deleted = current_records(inputs(), records(record("a", batch="x")))
    write_measurements(sorted(tmp_path.glob("*.parquet")), deleted, target)
    assert [line.split(",")[-1] for line in target.read_text().splitlines()] == [
        "input_present",
        "false",
        "false",
    ]


def test_no_grain_records_give_a_table_of_its_head(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    assert write_measurements([], current_records(inputs(), records()), target) == 0
    assert target.read_text() == ",".join(MEASUREMENT_COLUMNS) + "\n"


@given(listings, histories, st.randoms(use_true_random=False))
def test_table_does_not_depend_on_how_records_lie_in_files(
    listing: dict[str, str], history: list[dict[str, object]], random: Random
) -> None:
    """Equal pictures give equal records, so that it does not matter whose are read first."""
    present = inputs(*listing.items())
    shuffled = random.sample(history, len(history))
    tables = [
        csv_bytes(count_rows(present, current_records(present, records(*rows))))
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
    speaking = current_records(
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
