"""The rows of the tables, made of the records that count, and their CSV form."""

from functools import lru_cache
from pathlib import Path

import polars as pl

from pollen.columns import COUNT_COLUMNS, MEASUREMENT_COLUMNS, FrameStatus
from pollen.statistics.intervals import stored, viability_interval
from pollen.statistics.samples import FLAG_SEPARATOR, SAME_PICTURE

#: The reason in the row of a picture that exists but has no record.
NOT_COUNTED = "not counted yet: the run ended before this picture's turn; the next run counts it"

#: Counts repeat from frame to frame, and computing an interval takes longer than looking it up.
_interval = lru_cache(maxsize=100_000)(viability_interval)


def count_rows(inputs: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `pollen_counts.csv`: one per frame, and one per input without a record.

    Args:
        inputs: Columns of `INPUTS`.
        chosen: The result of `current_records`.
    """
    missing = inputs.join(chosen.select("key").unique(), on="key", how="anti").select(
        "key",
        "version",
        pl.col("key").alias("filename"),
        pl.lit(str(FrameStatus.FAILED)).alias("status"),
        pl.lit(NOT_COUNTED).alias("reason"),
        pl.lit(value=True).alias("input_present"),
    )
    rows = pl.concat([_with_copies_flagged(chosen), missing], how="diagonal")
    counted = pl.col("status") != str(FrameStatus.FAILED)
    rows = rows.with_columns(
        (pl.col("viable") + pl.col("non_viable")).alias("total_counted"),
        *(
            pl.when(counted).then(pl.col(name)).alias(name)
            for name in ("viable", "non_viable", "total_detected")
        ),
        pl.col("reason").fill_null(""),
        pl.col("flags").fill_null(""),
    ).with_columns(pl.when(counted).then(pl.col("total_counted")).alias("total_counted"))
    return _with_viability(rows).select(COUNT_COLUMNS).sort("filename")


def _with_copies_flagged(chosen: pl.DataFrame) -> pl.DataFrame:
    """Flag pictures that exist under several names: all are counted, so a person must know.

    The first of them names the second, all others name the first.
    """
    counted = pl.col("input_present") & (pl.col("status") != str(FrameStatus.FAILED))
    copies = (
        chosen.filter(counted, pl.col("image_sha256").is_not_null())
        .group_by("image_sha256")
        .agg(pl.col("key").unique().sort().alias("keys"))
        .filter(pl.col("keys").list.len() > 1)
    )
    if copies.is_empty():
        return chosen
    first, second = pl.col("keys").list.get(0), pl.col("keys").list.get(1)
    other = pl.when(first == pl.col("key")).then(second).otherwise(first)
    # A name must not end the flag that it stands in.
    flag = pl.lit(SAME_PICTURE) + other.str.replace_all(FLAG_SEPARATOR, ";", literal=True)
    own = pl.when(pl.col("flags") != "").then(pl.col("flags"))
    return (
        chosen.join(copies, on="image_sha256", how="left", maintain_order="left")
        .with_columns(
            pl.when(counted & pl.col("keys").is_not_null())
            .then(pl.concat_str(own, flag, separator=FLAG_SEPARATOR, ignore_nulls=True))
            .otherwise("flags")
            .alias("flags")
        )
        .drop("keys")
    )


def _with_viability(rows: pl.DataFrame) -> pl.DataFrame:
    """Add viability and the bounds of its 95 % interval, per frame; empty without counted grains."""
    values: list[tuple[float | None, ...]] = []
    for viable, non_viable in rows.select("viable", "non_viable").iter_rows():
        interval = _interval(viable or 0, non_viable or 0)
        bounds = (interval.estimate, interval.low, interval.high) if interval else (None,) * 3
        values.append(tuple(None if value is None else stored(value) for value in bounds))
    schema = {name: pl.Float64() for name in ("viability", "viability_low", "viability_high")}
    return rows.hstack(pl.DataFrame(values, schema=schema, orient="row"))


def csv_bytes(rows: pl.DataFrame) -> bytes:
    """Return a table as CSV: UTF-8, comma, LF, empty cells without quotes; equal rows give equal bytes."""
    return _without_empty_text(rows).write_csv(line_terminator="\n").encode()


def _without_empty_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with empty text as null: it would be written as a pair of quotes."""
    return rows.with_columns(pl.col(pl.String).replace("", None))


def write_measurements(grain_files: list[Path], chosen: pl.DataFrame, target: Path) -> int:
    """Write `particle_measurements.csv` from the grain records of the chosen writers.

    Args:
        grain_files: Parquet files with grain records.
        chosen: The result of `current_records`.
        target: Where to write.

    Returns:
        Number of rows.
    """
    writer = ["key", "version", "batch", "filename"]
    writers = chosen.select(*writer, "input_present").lazy()
    if not grain_files:
        target.write_text(",".join(MEASUREMENT_COLUMNS) + "\n", encoding="utf-8", newline="\n")
        return 0
    rows = (
        pl.scan_parquet(grain_files)
        .join(writers, on=writer, how="inner")
        .unique(["filename", "particle_id"], keep="any")
        .sort("filename", "particle_id")
        .select(MEASUREMENT_COLUMNS)
    ).collect(engine="streaming")
    _without_empty_text(rows).write_csv(target, line_terminator="\n")
    return rows.height
