from pollen.classes import GrainClass
from pollen.columns import (
    COUNT_COLUMNS,
    GRAIN_RECORD,
    IMAGE_RECORD,
    MEASUREMENT_COLUMNS,
    FrameStatus,
    excluded_column,
)
from pollen.counting.rules import Exclusion


def test_leading_columns_are_what_r_scripts_read() -> None:
    assert COUNT_COLUMNS[:5] == (
        "filename",
        "viable",
        "non_viable",
        "total_counted",
        "total_detected",
    )
    assert COUNT_COLUMNS[5:15] == (
        "status",
        "reason",
        "edge_rule",
        "overlap_rule",
        "input_present",
        "model_version",
        "model_sha256",
        "settings_fingerprint",
        "code_version",
        "image_sha256",
    )
    assert MEASUREMENT_COLUMNS[:10] == (
        "filename",
        "particle_id",
        "class",
        "conf",
        "area_px",
        "diameter_px",
        "is_excluded",
        "exclusion_reason",
        "area_um2",
        "diameter_um",
    )


def test_tables_hold_no_clock_time_and_no_batch() -> None:
    for column in ("committed_ms", "batch", "device"):
        assert column in IMAGE_RECORD
        assert column not in COUNT_COLUMNS
        assert column not in MEASUREMENT_COLUMNS


def test_tables_are_derived_from_records() -> None:
    made = {"total_counted", "input_present", "viability", "viability_low", "viability_high"}
    assert set(COUNT_COLUMNS) - set(IMAGE_RECORD) == made
    assert set(MEASUREMENT_COLUMNS) - set(GRAIN_RECORD) == {"input_present"}
    assert len(set(COUNT_COLUMNS)) == len(COUNT_COLUMNS)
    for grain_class in GrainClass:
        assert {grain_class.label, f"excluded_{grain_class.label}"} <= set(IMAGE_RECORD)
        for reason in (Exclusion.EDGE, Exclusion.OVERLAP):
            assert excluded_column(reason, grain_class) in COUNT_COLUMNS


def test_status_words() -> None:
    assert [str(status) for status in FrameStatus] == ["ok", "empty", "failed"]
