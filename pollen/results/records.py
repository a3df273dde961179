"""Choosing among records: which inputs are done, and which record counts for which picture.

Records are only ever added. There may be several for one picture: two runs counted it, a batch was
repeated, or the picture was replaced. The rules that choose among them are here.
"""

import unicodedata
from collections.abc import Iterable

import polars as pl

from pollen.columns import IMAGE_RECORD, FrameStatus
from pollen.layout import annotated_key

#: Inputs as listed: the key below the source, the version of the object, and its size in bytes.
INPUTS = pl.Schema({"key": pl.String(), "version": pl.String(), "size": pl.Int64()})


def empty_records() -> pl.DataFrame:
    """Return a table of image records without rows."""
    return pl.DataFrame(schema=IMAGE_RECORD)


def waiting_inputs(inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Return the inputs that are not done, sorted by key.

    An input is done if there is a record for its key and version that is not to be tried again.

    Args:
        inputs: Columns of `INPUTS`.
        records: Image records of the run's model and settings.
    """
    # One page of a file that is to be tried again is a reason to try the whole file again.
    whole = ~pl.col("transient").any().over("key", "version", "batch", "committed_ms")
    done = records.filter(whole).select("key", "version").unique()
    return inputs.join(done, on=["key", "version"], how="anti").sort("key")


def undrawn_inputs(
    inputs: pl.DataFrame, records: pl.DataFrame, drawn: Iterable[str]
) -> pl.DataFrame:
    """Return the inputs that were counted but lack an annotated picture, sorted by key.

    Args:
        inputs: Columns of `INPUTS`.
        records: Image records of the run's model and settings.
        drawn: Keys of the annotated pictures that exist.
    """
    existing = {_one_spelling(key) for key in drawn}
    rows = current_records(inputs, records).filter(
        "input_present", pl.col("status") != str(FrameStatus.FAILED)
    )
    missing = {
        key
        for key, filename in rows.select("key", "filename").iter_rows()
        if _one_spelling(annotated_key(filename)) not in existing
    }
    return inputs.filter(pl.col("key").is_in(missing)).sort("key")


def _one_spelling(key: str) -> str:
    """Return a key in the form in which file systems compare names that differ in case or composition only."""
    return unicodedata.normalize("NFC", key).casefold()


def current_records(inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Return the records that tables are made of: per input one version, written by one writer.

    For an input that exists, its present version counts; for a deleted one, the version that was
    recorded last. If two writers recorded the same version, the first in the order of `records`
    (key order of the record files) counts, but one that needs no further try comes before one that
    does. Deleted inputs that were never read successfully have no row.

    Returns:
        The rows of `records` that count, with a column `input_present`.
    """
    present = inputs.select("key", pl.col("version").alias("present_version"))
    ordered = (
        records.with_row_index("order")
        .join(present, on="key", how="left")
        .with_columns(
            pl.col("present_version").is_not_null().alias("input_present"),
            pl.col("transient")
            .any()
            .over("key", "version", "batch", "committed_ms")
            .alias("again"),
        )
    )
    candidates = ordered.filter(
        pl.when("input_present")
        .then(pl.col("version") == pl.col("present_version"))
        .otherwise(~pl.col("again"))
    )
    latest = pl.col("version").sort_by("committed_ms", "order").last().over("key")
    candidates = candidates.filter(pl.col("input_present") | (pl.col("version") == latest))
    writer = pl.struct("batch", "committed_ms")
    first = writer.sort_by("again", "order").first().over("key")
    return (
        candidates.filter(writer == first)
        .unique(["key", "filename"], keep="first", maintain_order=True)
        .drop("order", "again", "present_version")
    )
