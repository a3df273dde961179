"""Which record counts for which picture: laws that hold whatever happened before."""

import polars as pl
import pytest
from hypothesis import given

from pollen.results.records import current_records, undrawn_inputs, waiting_inputs
from tests.pollen.results.making_records import (
    failed,
    histories,
    inputs,
    listings,
    record,
    records,
)


def chosen(present: pl.DataFrame, *rows: dict[str, object]) -> list[dict[str, object]]:
    return current_records(present, records(*rows)).sort("filename").to_dicts()


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
