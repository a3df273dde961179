"""From records to what people read: tables, report, artifacts. Can be repeated at any time."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext, TaskRunContext

from pollen import __version__
from pollen.columns import Status
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.frames import SUFFIXES
from pollen.layout import (
    COUNTS_TABLE,
    GRAINS_TABLE,
    REPORT,
    SAMPLES_TABLE,
    TABLES_PENDING,
    WRITTEN,
)
from pollen.quality.grain_size import SCALE_FLAG, SCALE_GRAINS_OF_ALL, PooledSize, mostly_empty
from pollen.reports.detection import ReportData, render_report
from pollen.reports.pages import markdown
from pollen.reports.summary import Picked, failed_rows, markdown_summary
from pollen.results.tables import (
    count_rows,
    counts_csv,
    csv_text,
    speaking_records,
)
from pollen.statistics.intervals import percent
from pollen.statistics.samples import SAME_PICTURE, summarise_samples
from tasks.detection.planning import list_inputs
from tasks.detection.records import read_earlier_records, read_image_records, write_grain_table
from tasks.detection.thumbnails import Album
from tasks.detection.work import Work
from tasks.faults import NotFoundError, StorageError
from tasks.progress import best_effort
from tasks.stage import logger, stage
from tasks.storage.scratch import remove_dead, scratch_folder, scratch_folders, unfinished_files
from tasks.storage.store import Location, Store, open_store

#: Name of the artifact that says what came of a detection.
SUMMARY_KEY: Final = "detection-summary"
#: Rows of the table of failed images in the Prefect UI.
ARTIFACT_ROWS = 200
#: What the marker says while tables may be behind the records.
PENDING = b"a run is counting or writing the tables, or was killed doing so"
POSTPONED = (
    "not written by this run: {grains} grains are more than grain_table_rows ({limit}); "
    "the nightly run writes it, or a run with refresh_grain_table"
)
#: Another run may commit while tables are made; they are made again until nothing changed.
ROUNDS = 5


class Outcome(StrEnum):
    """How a run that could do its work ended; the values are the names of final states."""

    COMPLETED = "Completed"
    NOTHING_NEW = "NothingNew"
    WITH_FAILURES = "CompletedWithFailures"
    NO_IMAGES = "NoImages"


@dataclass(frozen=True)
class Summary:
    """What a run leaves behind, in numbers.

    Attributes:
        rows: The rows of ``pollen_counts.csv``.
        counted_now: Pictures this run counted.
        output: Where the results are, as people name it.
        failed_before: Names of the rows that were failed when the table was written last.
    """

    rows: pl.DataFrame
    counted_now: int
    output: str
    failed_before: frozenset[str] = frozenset()

    @property
    def present(self) -> pl.DataFrame:
        """Rows of pictures that are still there."""
        return self.rows.filter("input_present")

    @property
    def failed(self) -> pl.DataFrame:
        """Rows of present pictures that could not be counted."""
        return self.present.filter(pl.col("status") == str(Status.FAILED))

    @property
    def counted(self) -> pl.DataFrame:
        """Rows of present pictures that were counted."""
        return self.present.filter(pl.col("status") != str(Status.FAILED))

    @property
    def grains(self) -> int:
        """Counted grains of all present pictures."""
        return int(self.present["total_counted"].sum() or 0)

    @property
    def viability(self) -> float | None:
        """Stained viable over counted grains, ``None`` without grains."""
        return float(self.present["viable"].sum()) / self.grains if self.grains else None

    @property
    def off_scale(self) -> int:
        """Frames whose grains are of another size than the model's."""
        return self.present.filter(pl.col("flags").str.contains(SCALE_FLAG, literal=True)).height

    @property
    def all_off_scale(self) -> bool:
        """Whether the grains of all pictures together are of another size than the model's."""
        return PooledSize.of(self.present).is_off(SCALE_GRAINS_OF_ALL)

    @property
    def copies(self) -> int:
        """Frames of pictures that are there under several names."""
        return self.present.filter(pl.col("flags").str.contains(SAME_PICTURE, literal=True)).height

    @property
    def outcome(self) -> Outcome:
        """How the run ended."""
        if self.present.is_empty():
            return Outcome.NO_IMAGES
        if not self.counted_now:
            return Outcome.NOTHING_NEW
        return Outcome.COMPLETED if self.failed.is_empty() else Outcome.WITH_FAILURES

    @property
    def message(self) -> str:
        """What a state says of the run."""
        parts = [self.sentence]
        if self.outcome is Outcome.NO_IMAGES:
            kinds = ", ".join(sorted(SUFFIXES))
            parts.append(f"no pictures to count ({kinds}): upload some, or check the path")
        if not self.failed.is_empty():
            new = len(set(self.failed["filename"]) - self.failed_before)
            # These words are what deployments/automations/notify-images.yaml looks for.
            parts.append(f"{self.failed.height} failed" + (f", {new} of them new" if new else ""))
        gone = self.rows.height - self.present.height
        if gone:
            parts.append(f"{gone} counted earlier are no longer there")
        if self.off_scale:
            parts.append(f"{self.off_scale} with grains of another size than the model knows")
        if self.all_off_scale:
            parts.append(
                "the grains of all together are of another size than the model knows: look at the annotated "
                "pictures, and state grain_diameter_px"
            )
        if mostly_empty(self.counted):
            parts.append("most have no grain: look whether there are some in the pictures")
        if self.copies:
            parts.append(f"{self.copies} are the same picture as another one")
        return "; ".join(parts)

    @property
    def sentence(self) -> str:
        """The three numbers a person wants: images, grains, viability."""
        viability = (
            f"{percent(self.viability, gap='')} viable"
            if self.viability is not None
            else "viability unknown"
        )
        images = "1 image" if self.present.height == 1 else f"{self.present.height} images"
        return f"{images}, {self.grains} grains, {viability}"


@stage("begin results")
def begin_results(output: Location) -> None:
    """Mark the tables as pending, because records are about to run ahead of them.

    Written before anything is counted, so that an output that can't be written ends the run here.
    What killed runs left on this machine is taken away.
    """
    remove_dead(scratch_folders())
    if output.folder is not None:
        for folder in WRITTEN:
            remove_dead(unfinished_files(output.folder / folder))
    open_store(output).write(TABLES_PENDING, PENDING, "text/plain")


@stage("summarise")
def summarise(work: Work, planned: pl.DataFrame, counted_now: int) -> Summary:
    """Write the tables and the report from the records; unchanged ones are left alone.

    Inputs are listed anew: a long run must not take those for deleted that came while it worked.

    Args:
        work: Where everything is, and how it was counted.
        planned: The inputs of the plan; they have a row even where the run did not get to them.
        counted_now: How many inputs this run counted.
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
        if rows.is_empty():  # neither a picture nor the memory of one: nothing to write
            with best_effort("the result"):
                _publish_nothing(summary)
            return summary
        data = _report_data(store, summary, chosen, work.profile, work.settings)
        album = Album(store, chosen)
        _write_tables(store, album, chosen, data)
        if _files(store, work.records) == before:
            break
    with best_effort("the result"):
        _publish_artifacts(store, album, data, summary)
    return summary


def _chosen(store: Store, folder: str, inputs: pl.DataFrame, records: pl.DataFrame) -> pl.DataFrame:
    """The records that tables are made of; ``folder`` says where each lies.

    A deleted input that was never counted with this model and these settings keeps the row that it
    had before: nobody can count it again.
    """
    chosen = speaking_records(inputs, records).with_columns(folder=pl.lit(folder))
    told = pl.concat([inputs["key"], chosen["key"]])
    earlier = read_earlier_records(store, folder, told)
    return pl.concat([chosen, speaking_records(inputs, earlier)], how="diagonal")


def _failed_before(store: Store) -> frozenset[str]:
    """Names of the failed rows in the table as it stands; none where it is damaged, or not there yet."""
    table = _content(store, COUNTS_TABLE)
    if not table:
        return frozenset()
    try:
        rows = pl.read_csv(table, columns=["filename", "status"], infer_schema=False)
    except pl.exceptions.PolarsError:
        return frozenset()
    return frozenset(rows.filter(pl.col("status") == str(Status.FAILED))["filename"])


def _files(store: Store, records: str) -> set[str]:
    return {entry.key for entry in store.list(records)}


def _report_data(
    store: Store, summary: Summary, chosen: pl.DataFrame, profile: Profile, settings: DetectSettings
) -> ReportData:
    """What the report says; its pictures come later, they cost reads."""
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
        grains_as_of=POSTPONED.format(grains=grains, limit=settings.grain_table_rows)
        if postponed
        else None,
        destination=store.address,
    )


def _write_tables(store: Store, album: Album, chosen: pl.DataFrame, data: ReportData) -> None:
    """Write grains, samples, report and counts, unless all of them are up to date.

    A marker stands as long as they may be of different states, so that a run that is killed in
    between, or that leaves the table of grains for later, is noticed by the next one.
    """
    counts, samples = counts_csv(data.counts), csv_text(data.samples).encode()
    postponed = (data.grains_as_of or "").encode()
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
        logger().warning("%s: %s", GRAINS_TABLE, data.grains_as_of)
    else:
        _write_grains(store, chosen)
    store.write(SAMPLES_TABLE, samples, "text/csv")
    page = render_report(replace(data, thumbnails=album.for_report()))
    store.write(REPORT, page.encode(), "text/html; charset=utf-8")
    store.write(COUNTS_TABLE, counts, "text/csv")
    if postponed:
        store.write(TABLES_PENDING, postponed, "text/plain; charset=utf-8")
    else:
        _forget_pending(store)


def _forget_pending(store: Store) -> None:
    """Take the marker away; without the right to delete, every run writes the tables."""
    try:
        store.delete([TABLES_PENDING])
    except StorageError as error:
        logger().warning("%s can't be deleted: %s", TABLES_PENDING, error)


def _content(store: Store, key: str) -> bytes | None:
    """What an object holds, ``None`` where it is not there."""
    try:
        return store.read(key)
    except NotFoundError:
        return None


def _write_grains(store: Store, chosen: pl.DataFrame) -> None:
    with scratch_folder("table") as scratch:
        table = Path(scratch) / "table.csv"
        write_grain_table(store, sorted(chosen["folder"].unique()), chosen, table)
        store.write_file(GRAINS_TABLE, table, "text/csv")


def _in_run() -> bool:
    return bool(FlowRunContext.get() or TaskRunContext.get())


def _publish_nothing(summary: Summary) -> None:
    """Say in the Prefect UI that there was nothing."""
    if _in_run():
        text = f"{markdown(summary.message)}\n\nLooked in {markdown(summary.output)}.\n"
        create_markdown_artifact(text, key=SUMMARY_KEY, description=summary.message)


def _publish_artifacts(store: Store, album: Album, data: ReportData, summary: Summary) -> None:
    """Show the result in the Prefect UI, where a flow run is under way.

    A run that found nothing new shows no pictures: such runs are many, and the report has them.
    """
    if not _in_run():
        return
    picked = album.picked() if summary.counted_now else Picked()
    create_markdown_artifact(
        markdown_summary(data, picked, store.link),
        key=SUMMARY_KEY,
        description=summary.message,
    )
    failed = failed_rows(summary.failed.head(ARTIFACT_ROWS))
    if failed:
        create_table_artifact(
            failed, key="failed-images", description=f"{summary.failed.height} failed"
        )
