"""Results of a run: tables and report, derived from the records. Can be repeated at any time."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from pollen import __version__
from pollen.columns import FrameStatus
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.layout import (
    COUNTS_TABLE,
    GRAINS_TABLE,
    REPORT,
    SAMPLES_TABLE,
    TABLES_PENDING,
    WRITTEN,
)
from pollen.reports.detection import ReportData, render_report
from pollen.results.records import current_records
from pollen.results.tables import count_rows, csv_bytes
from pollen.statistics.samples import summarise_samples
from tasks.detection.artifacts import publish_nothing, publish_result
from tasks.detection.planning import list_inputs
from tasks.detection.records import read_earlier_records, read_image_records, write_grain_table
from tasks.detection.summary import Summary
from tasks.detection.thumbnails import Thumbnails
from tasks.detection.work import Work
from tasks.faults import NotFoundError, StorageError
from tasks.progress import best_effort
from tasks.stage import logger, stage
from tasks.storage.scratch import remove_dead, scratch_folder, scratch_folders, unfinished_files
from tasks.storage.store import Location, Store, open_store

#: Content of the marker while tables may be older than the records.
PENDING = b"a run is counting or writing the tables, or was killed doing so"
POSTPONED = (
    "not written by this run, because {grains} grains are more than grain_table_rows ({limit}); "
    "the nightly run writes it, or a run with refresh_grain_table"
)
#: Another run may commit while tables are made; then they are made again, at most this often.
ROUNDS = 5


@stage("begin results")
def begin_results(output: Location) -> None:
    """Mark the tables as pending, because newer records are about to be written.

    The marker is written before anything is counted, so that an output that can't be written ends
    the run here. Files that killed runs left on this machine are deleted.
    """
    remove_dead(scratch_folders())
    if output.folder is not None:
        for folder in WRITTEN:
            remove_dead(unfinished_files(output.folder / folder))
    open_store(output).write(TABLES_PENDING, PENDING, "text/plain")


@stage("summarise")
def summarise(work: Work, planned: pl.DataFrame, counted_now: int) -> Summary:
    """Write the tables and the report from the records; unchanged ones are not written.

    Inputs are listed again, so that a long run does not take pictures that were uploaded meanwhile
    for deleted ones.

    Args:
        work: Everything that the batches of the run have in common.
        planned: The inputs of the plan; they have a row even if the run did not get to them.
        counted_now: Number of inputs that this run counted.
    """
    store = open_store(work.output)
    failed_before = _failed_before(store)
    for _ in range(ROUNDS):
        before = _files(store, work.records)
        records = read_image_records(store, work.records)
        inputs = list_inputs(work.source, work.output)
        chosen = _chosen(store, work.records, inputs, records)
        known = pl.concat([planned.select("key"), records.select("key")]).unique()
        rows = count_rows(inputs.join(known, on="key", how="semi"), chosen)
        summary = Summary(rows, counted_now, store.address, failed_before)
        if rows.is_empty():  # neither a picture nor the record of one: nothing to write
            with best_effort("the result"):
                publish_nothing(summary)
            return summary
        data = _report_data(store, summary, chosen, work.profile, work.settings)
        thumbnails = Thumbnails(store, chosen)
        _write_tables(store, thumbnails, chosen, data)
        if _files(store, work.records) == before:
            break
    with best_effort("the result"):
        publish_result(store, thumbnails, data, summary)
    return summary


def _chosen(store: Store, folder: str, inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """Return the records that tables are made of; the column `folder` contains each one's folder.

    A deleted input that was never counted with this model and these settings keeps the row that it
    had before, because it can't be counted again.
    """
    chosen = current_records(inputs, records).with_columns(folder=pl.lit(folder))
    known = pl.concat([inputs["key"], chosen["key"]])
    earlier = read_earlier_records(store, folder, known)
    return pl.concat([chosen, current_records(inputs, earlier)], how="diagonal")


def _failed_before(store: Store) -> frozenset[str]:
    """Return the names of the failed rows in the present table; empty if it is damaged or missing."""
    table = _content(store, COUNTS_TABLE)
    if not table:
        return frozenset()
    try:
        rows = pl.read_csv(table, columns=["filename", "status"], infer_schema=False)
    except pl.exceptions.PolarsError:
        return frozenset()
    return frozenset(rows.filter(pl.col("status") == str(FrameStatus.FAILED))["filename"])


def _files(store: Store, records: str) -> set[str]:
    return {entry.key for entry in store.list(records)}


def _report_data(
    store: Store, summary: Summary, chosen: pl.DataFrame, profile: Profile, settings: DetectSettings
) -> ReportData:
    """Return the data of the report, without its pictures: they must be read, and may not be needed."""
    grains = int(chosen["total_detected"].sum() or 0)
    postponed = grains > settings.grain_table_rows and not settings.refresh_grain_table
    return ReportData(
        counts=summary.rows,
        samples=summarise_samples(summary.rows, settings.sample_pattern),
        settings=settings,
        model_version=profile.model_version,
        model_sha256=profile.model_sha256,
        settings_fingerprint=profile.fingerprint,
        code_version=__version__,
        device=f"{profile.device}, {profile.backend}, {profile.precision}",
        grain_table_note=POSTPONED.format(grains=grains, limit=settings.grain_table_rows)
        if postponed
        else None,
        destination=store.address,
    )


def _write_tables(
    store: Store, thumbnails: Thumbnails, chosen: pl.DataFrame, data: ReportData
) -> None:
    """Write grains, samples, report and counts, unless all of them are up to date.

    A marker exists as long as they may be of different states, so that the next run notices if a
    run was killed in between, or left the table of grains for later.
    """
    counts, samples = csv_bytes(data.counts), csv_bytes(data.samples)
    postponed = (data.grain_table_note or "").encode()
    if (
        _content(store, COUNTS_TABLE) == counts
        and _content(store, SAMPLES_TABLE) == samples
        and (_content(store, TABLES_PENDING) or b"") == postponed
        and store.exists(REPORT)
        and (postponed or store.exists(GRAINS_TABLE))
    ):
        return
    store.write(TABLES_PENDING, PENDING, "text/plain")
    if postponed:
        logger().warning("%s: %s", GRAINS_TABLE, data.grain_table_note)
    else:
        _write_grains(store, chosen)
    store.write(SAMPLES_TABLE, samples, "text/csv")
    page = render_report(replace(data, thumbnails=thumbnails.for_report()))
    store.write(REPORT, page.encode(), "text/html; charset=utf-8")
    store.write(COUNTS_TABLE, counts, "text/csv")
    if postponed:
        store.write(TABLES_PENDING, postponed, "text/plain; charset=utf-8")
    else:
        _forget_pending(store)


def _forget_pending(store: Store) -> None:
    """Delete the marker; without the right to delete, every run writes the tables."""
    try:
        store.delete([TABLES_PENDING])
    except StorageError as error:
        logger().warning("%s can't be deleted: %s", TABLES_PENDING, error)


def _content(store: Store, key: str) -> bytes | None:
    """Return the content of an object; None if it does not exist."""
    try:
        return store.read(key)
    except NotFoundError:
        return None


def _write_grains(store: Store, chosen: pl.DataFrame) -> None:
    with scratch_folder("table") as scratch:
        table = Path(scratch) / "table.csv"
        write_grain_table(store, sorted(chosen["folder"].unique()), chosen, table)
        store.write_file(GRAINS_TABLE, table, "text/csv")
