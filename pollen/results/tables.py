"""From records to tables: which record speaks for which picture, and in what order rows stand.

Records are append-only and may hold a picture twice (two writers, a retried batch, an older
version of the picture): the rules that choose among them are here.
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import polars as pl

from pollen.columns import COUNT_COLUMNS, IMAGE_RECORD, MEASUREMENT_COLUMNS, Status
from pollen.layout import annotated_key
from pollen.statistics.intervals import stored, viability_interval
from pollen.statistics.samples import FLAG_SEPARATOR, SAME_PICTURE

#: What a row says whose picture is there but has no record.
NOT_COUNTED = "not counted yet: the run ended before this picture's turn; the next run counts it"

#: Counts repeat from frame to frame, and an interval takes longer than looking one up.
_interval = lru_cache(maxsize=100_000)(viability_interval)

#: Inputs as listed: key below the source, and the version of the object behind it.
INPUTS = pl.Schema({"key": pl.String(), "version": pl.String(), "size": pl.Int64()})


def waiting_inputs(inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """The inputs that are not done, sorted by key.

    Done means: there is a record for this key and version that is not to be tried again.

    Args:
        inputs: Columns of :data:`INPUTS`.
        records: Image records of the run's model and settings.
    """
    # One page of a file that is to be tried again is a reason to try the whole file again.
    whole = ~pl.col("transient").any().over("key", "version", "batch", "committed_ms")
    done = records.filter(whole).select("key", "version").unique()
    return inputs.join(done, on=["key", "version"], how="anti").sort("key")


def undrawn_inputs(
    inputs: pl.DataFrame, records: pl.DataFrame, drawn: Iterable[str]
) -> pl.DataFrame:
    """The inputs that were counted and of which an annotated picture is missing, sorted by key.

    Args:
        inputs: Columns of :data:`INPUTS`.
        records: Image records of the run's model and settings.
        drawn: Keys of the annotated pictures that are there.
    """
    there = {_one_spelling(key) for key in drawn}
    rows = speaking_records(inputs, records).filter(
        "input_present", pl.col("status") != str(Status.FAILED)
    )
    missing = {
        key
        for key, filename in rows.select("key", "filename").iter_rows()
        if _one_spelling(annotated_key(filename)) not in there
    }
    return inputs.filter(pl.col("key").is_in(missing)).sort("key")


def _one_spelling(key: str) -> str:
    """A key as file systems compare names that keep neither case nor the composition of letters."""
    return unicodedata.normalize("NFC", key).casefold()


def speaking_records(inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """The records that tables are made of: per input key one version, written by one writer.

    An input that is there is spoken for by its present version; a deleted one by the version
    recorded last. Where two writers recorded the same version, the first in the order of
    ``records`` (key order of the record files) counts, one that needs no further try before one
    that does. Deleted inputs that never were read successfully have nothing to say.

    Returns:
        The rows of ``records`` that count, with a column ``input_present``.
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


def count_rows(inputs: pl.DataFrame, chosen: pl.DataFrame) -> pl.DataFrame:
    """The rows of ``pollen_counts.csv``: one per frame, and one per input without a record.

    Args:
        inputs: Columns of :data:`INPUTS`.
        chosen: What :func:`speaking_records` chose.
    """
    missing = inputs.join(chosen.select("key").unique(), on="key", how="anti").select(
        "key",
        "version",
        pl.col("key").alias("filename"),
        pl.lit(str(Status.FAILED)).alias("status"),
        pl.lit(NOT_COUNTED).alias("reason"),
        pl.lit(value=True).alias("input_present"),
    )
    rows = pl.concat([_with_copies_flagged(chosen), missing], how="diagonal")
    counted = pl.col("status") != str(Status.FAILED)
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
    """Flag pictures that are there under several names: all are counted, and a person must know.

    The first of them names the second, all others name the first.
    """
    counted = pl.col("input_present") & (pl.col("status") != str(Status.FAILED))
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


def empty_records() -> pl.DataFrame:
    """No image records at all."""
    return pl.DataFrame(schema=IMAGE_RECORD)


def counts_csv(rows: pl.DataFrame) -> bytes:
    """``pollen_counts.csv``: UTF-8, LF, comma; equal rows give equal bytes."""
    return csv_text(rows).encode()


def csv_text(rows: pl.DataFrame) -> str:
    """A table as CSV: comma, LF, nothing where there is nothing (and not a pair of quotes)."""
    return _without_empty_text(rows).write_csv(line_terminator="\n")


def _without_empty_text(rows: pl.DataFrame) -> pl.DataFrame:
    """Empty text as nothing: it would be written as a pair of quotes."""
    return rows.with_columns(pl.col(pl.String).replace("", None))


def write_measurements(grain_files: list[Path], chosen: pl.DataFrame, target: Path) -> int:
    """Write ``particle_measurements.csv`` from the grain records of the chosen writers.

    Args:
        grain_files: Parquet files with grain records.
        chosen: What :func:`speaking_records` chose.
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
