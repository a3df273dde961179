"""The columns of records and tables, in one place.

Records (Parquet) are the source; the CSV tables that people read are derived from them.
"""

from enum import StrEnum

import polars as pl

from pollen.classes import GrainClass


class FrameStatus(StrEnum):
    """The outcome of a frame: `empty` (no grain found) is a result, `failed` is not."""

    OK = "ok"
    EMPTY = "empty"
    FAILED = "failed"


#: One row per frame. `key` and `version` name the input object, `filename` the frame in it.
#: Columns that records of an earlier version lack are null.
IMAGE_RECORD = pl.Schema(
    {
        "key": pl.String(),
        "version": pl.String(),
        "filename": pl.String(),
        "status": pl.String(),
        "reason": pl.String(),
        "transient": pl.Boolean(),
        "viable": pl.Int64(),
        "non_viable": pl.Int64(),
        "total_detected": pl.Int64(),
        "excluded_viable": pl.Int64(),
        "excluded_non_viable": pl.Int64(),
        "excluded_edge_viable": pl.Int64(),
        "excluded_edge_non_viable": pl.Int64(),
        "excluded_overlap_viable": pl.Int64(),
        "excluded_overlap_non_viable": pl.Int64(),
        "edge_rule": pl.String(),
        "overlap_rule": pl.String(),
        "model_version": pl.String(),
        "model_sha256": pl.String(),
        "settings_fingerprint": pl.String(),
        "code_version": pl.String(),
        "image_sha256": pl.String(),
        "device": pl.String(),
        "width_px": pl.Int64(),
        "height_px": pl.Int64(),
        "pixel_size_um": pl.Float64(),
        "median_diameter_px": pl.Float64(),
        "size_to_model": pl.Float64(),
        "mean_confidence": pl.Float64(),
        "flags": pl.String(),
        "batch": pl.String(),
        "committed_ms": pl.Int64(),
    }
)

#: One row per detected grain, excluded ones included.
GRAIN_RECORD = pl.Schema(
    {
        "key": pl.String(),
        "version": pl.String(),
        "batch": pl.String(),
        "filename": pl.String(),
        "particle_id": pl.Int64(),
        "class": pl.String(),
        "conf": pl.Float64(),
        "area_px": pl.Float64(),
        "diameter_px": pl.Float64(),
        "is_excluded": pl.Boolean(),
        "exclusion_reason": pl.String(),
        "area_um2": pl.Float64(),
        "diameter_um": pl.Float64(),
        "x_px": pl.Float64(),
        "y_px": pl.Float64(),
    }
)

#: `pollen_counts.csv`; the first five columns are what users' R scripts read.
COUNT_COLUMNS = (
    "filename",
    "viable",
    "non_viable",
    "total_counted",
    "total_detected",
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
    "viability",
    "viability_low",
    "viability_high",
    "median_diameter_px",
    "pixel_size_um",
    "flags",
    "excluded_edge_viable",
    "excluded_edge_non_viable",
    "excluded_overlap_viable",
    "excluded_overlap_non_viable",
    "size_to_model",
)

#: `particle_measurements.csv`; the first eight columns are what users' R scripts read.
MEASUREMENT_COLUMNS = (
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
    "x_px",
    "y_px",
    "input_present",
)


def excluded_column(reason: str, grain_class: GrainClass) -> str:
    """Return the column that counts the grains of a class excluded for a reason."""
    return f"excluded_{reason}_{grain_class.label}"
