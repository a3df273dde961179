import polars as pl
import pytest

from pollen.detection.settings import DetectSettings
from pollen.quality.grain_size import POOLED_FLAG
from pollen.statistics.intervals import clustered_viability
from pollen.statistics.samples import (
    MOSTLY_EMPTY,
    NO_FOLDER,
    NO_GRAIN,
    ONE_FILE,
    ONE_PICTURE,
    SAMPLE_COLUMNS,
    Sample,
    file_of,
    overall_viability,
    sample_of,
    summarise_samples,
)

#: File name, viable, non-viable, status, whether it is there, flags.
Row = tuple[str, int | None, int | None, str, bool, str]

PATTERN = DetectSettings().sample_pattern


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("1-3-F_S4x_B.png", Sample("1-3-F_S4x_B", "1-3-F", "S4x", "B")),
        ("plates/day 1/6-6-H_2x_ACrop_0.png", Sample("6-6-H_2x_A", "6-6-H", "2x", "A")),
        ("4-1-B_s2X_D_train75_png.rf.e3c5.jpg", Sample("4-1-B_S2x_D", "4-1-B", "S2x", "D")),
        ("2-13-A_4x_CCrop_8.czi#scene=2", Sample("2-13-A_4x_C", "2-13-A", "4x", "C")),
        ("Image 0001.tif", Sample(NO_FOLDER)),
        ("plates/day 1/Image 0001.tif", Sample("plates/day 1/")),
        ("1-3-F_S4x_B/Image 0001.tif", Sample("1-3-F_S4x_B/")),
    ],
)
def test_sample_of_a_file_name(filename: str, expected: Sample) -> None:
    assert sample_of(filename, PATTERN) == expected


def test_selfed_and_plain_ploidies_stay_apart_whatever_the_case() -> None:
    labels = {
        ploidy: sample_of(f"1-1-A_{ploidy}_B.png", PATTERN).label
        for ploidy in ("2x", "2X", "s2x", "S2x")
    }
    assert labels["2x"] == labels["2X"]
    assert labels["s2x"] == labels["S2x"]
    assert labels["2x"] != labels["S2x"]


def test_a_pattern_may_name_only_some_parts() -> None:
    assert sample_of("P7-slide2.png", r"(?P<plant>P\d+)") == Sample("P7", "P7")
    assert sample_of("P7.png", r"(?P<plant>P\d+)(-(?P<replicate>\w+))?") == Sample("P7", "P7")
    # All groups empty says as much as no match.
    assert sample_of("a/P7.png", r"(?P<plant>Q\d+)?") == Sample("a/")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(?P<plant>", "not a regular expression"), (r"(\d+)-(\d+)", "at least one of the groups")],
)
def test_unusable_patterns_say_what_was_expected(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_of("a.png", pattern)
    with pytest.raises(ValueError, match=message):
        summarise_samples(counts([]), pattern)


def counts(rows: list[Row]) -> pl.DataFrame:
    schema = {
        "filename": pl.String,
        "viable": pl.Int64,
        "non_viable": pl.Int64,
        "status": pl.String,
        "input_present": pl.Boolean,
        "flags": pl.String,
    }
    table = pl.DataFrame(rows, schema=schema, orient="row")
    return table.with_columns(
        (pl.col("viable") + pl.col("non_viable")).alias("total_detected"),
        pl.lit(None, pl.Float64).alias("size_to_model"),
    )


def test_samples_sum_what_is_present_and_counted() -> None:
    table = summarise_samples(
        counts(
            [
                ("1-1-A_2x_B_2.png", 80, 20, "ok", True, ""),
                ("1-1-A_2x_B_1.png", 95, 5, "ok", True, "blurred"),
                ("1-1-A_2x_B_3.png", 0, 0, "empty", True, ""),
                ("1-1-A_2x_B_4.png", None, None, "failed", True, ""),
                ("1-1-A_2x_B_5.png", 1, 99, "ok", False, ""),
                ("day 2/x.png", 10, 0, "ok", True, ""),
                ("1-1-A_2x_A_1.png", None, None, "failed", True, ""),
            ]
        ),
        PATTERN,
    )
    assert table.schema == SAMPLE_COLUMNS
    assert table["sample"].to_list() == ["1-1-A_2x_A", "1-1-A_2x_B", "day 2/"]
    failed, mixed, folder = table.to_dicts()
    interval = clustered_viability([95, 80, 0], [5, 20, 0])
    assert interval is not None
    assert mixed == {
        "sample": "1-1-A_2x_B",
        "plant": "1-1-A",
        "ploidy": "2x",
        "replicate": "B",
        "images": 3,
        "failed_images": 1,
        "viable": 175,
        "non_viable": 25,
        "viability": 0.875,
        "viability_low": round(interval.low, 6),
        "viability_high": round(interval.high, 6),
        "interval_method": "clustered",
        "flags": "blurred (1 of 3)",
    }
    assert (failed["images"], failed["failed_images"], failed["viability"]) == (0, 1, None)
    assert failed["flags"] == NO_GRAIN
    assert (folder["viability"], folder["viability_high"], folder["flags"]) == (
        1.0,
        1.0,
        ONE_PICTURE,
    )
    assert folder["viability_low"] < 0.75


def test_order_of_the_input_does_not_matter() -> None:
    rows: list[Row] = [
        (f"{plant}-1-A_S2x_B_{number}.png", 50 + number, number, "ok", True, "")
        for plant in (2, 10, 1)
        for number in range(5)
    ]
    table = summarise_samples(counts(rows), PATTERN)
    assert table.equals(summarise_samples(counts(rows[::-1]), PATTERN))
    assert table["images"].to_list() == [5, 5, 5]


def test_no_pictures_make_an_empty_table() -> None:
    table = summarise_samples(counts([]), PATTERN)
    assert table.height == 0
    assert table.schema == SAMPLE_COLUMNS


def test_overall_viability_takes_plants_that_are_present_and_counted() -> None:
    table = counts(
        [
            ("1-1-A_2x_B_1.png", 90, 10, "ok", True, ""),
            ("1-1-A_2x_C_1.png", 70, 30, "ok", True, ""),
            ("2-1-A_2x_B_1.png", 50, 50, "ok", True, ""),
            ("day 2/x.png", 9, 1, "ok", True, ""),
            ("3-1-A_2x_B_1.png", 0, 0, "empty", True, ""),
            ("4-1-A_2x_B_1.png", 0, 100, "ok", False, ""),
            ("5-1-A_2x_B_1.png", None, None, "failed", True, ""),
        ]
    )
    overall = overall_viability(table, PATTERN)
    assert overall is not None
    assert not overall.one_plant
    assert overall.interval == clustered_viability([160, 50, 9], [40, 50, 1])
    # A pattern that tells no plant: the samples it tells are the units.
    by_replicate = overall_viability(table, r"_2x_(?P<replicate>[A-Z])")
    assert by_replicate is not None
    assert by_replicate.interval == clustered_viability([140, 70, 9], [60, 30, 1])
    assert overall_viability(table.head(0), PATTERN) is None


@pytest.mark.parametrize("other", ["1-1-A_2x_C_1.png", "2-1-A_2x_C_1.png"])
def test_of_one_plant_the_pictures_are_the_units(other: str) -> None:
    dust = 0 if other.startswith("2") else 5
    rows: list[Row] = [
        ("1-1-A_2x_B_1.png", 90, 10, "ok", True, ""),
        (other, dust, 0, "ok", True, ""),
    ]
    overall = overall_viability(counts(rows), PATTERN)
    assert overall is not None
    assert overall.one_plant
    assert overall.interval == clustered_viability([90, dust], [10, 0])


@pytest.mark.parametrize(
    ("filename", "file"),
    [
        ("a/b.tif#page=12", "a/b.tif"),
        ("b.czi#scene=2&t=1&z=30", "b.czi"),
        ("b.czi#z=3", "b.czi"),
        ("a#page=2.tif", "a#page=2.tif"),
        ("a#b/c.png", "a#b/c.png"),
    ],
)
def test_frames_of_a_file_are_of_one_file(filename: str, file: str) -> None:
    assert file_of(filename) == file


def test_planes_of_one_file_do_not_narrow_the_interval() -> None:
    """The same field, focused ten times, tells no more than once."""
    planes: list[Row] = [
        (f"1-1-A_2x_B_1.czi#z={plane}", 9, 1, "ok", True, "") for plane in range(1, 11)
    ]
    other: Row = ("1-1-A_2x_B_2.png", 85, 15, "ok", True, "")
    (alone,) = summarise_samples(counts(planes), PATTERN).to_dicts()
    (both,) = summarise_samples(counts([*planes, other]), PATTERN).to_dicts()
    interval = clustered_viability([90, 85], [10, 15])
    assert interval is not None
    assert (both["viability_low"], both["images"]) == (round(interval.low, 6), 11)
    assert (alone["flags"], alone["images"]) == (ONE_FILE, 10)


def test_grains_of_another_size_are_flagged_however_few_a_picture_has() -> None:
    rows: list[Row] = [(f"1-1-A_2x_B_{number}.png", 1, 0, "ok", True, "") for number in range(12)]
    table = counts(rows).with_columns(size_to_model=pl.lit(3.9))
    assert summarise_samples(table, PATTERN)["flags"].to_list() == [POOLED_FLAG]


def test_samples_of_mostly_empty_pictures_are_flagged() -> None:
    rows: list[Row] = [
        (f"a/{number}.png", grains, 0, "ok", True, "")
        for number, grains in enumerate((9, 8, 0, 0, 0))
    ]
    assert summarise_samples(counts(rows), PATTERN)["flags"].to_list() == [MOSTLY_EMPTY]


def test_flags_that_name_other_pictures_are_numbered_as_one() -> None:
    rows: list[Row] = [
        (f"a/{name}.png", 5, 1, "ok", True, f"same picture as a/{other}.png")
        for name, other in (("1", "2"), ("2", "1"), ("3", "1"))
    ]
    flags = summarise_samples(counts(rows), PATTERN)["flags"].to_list()
    assert flags == ["same picture as another (3 of 3)"]


def test_no_fraction_is_rounded_to_all_or_none() -> None:
    (row,) = summarise_samples(counts([("a/1.png", 99_999, 1, "ok", True, "")]), PATTERN).to_dicts()
    assert row["viability"] == 0.99999
