"""The report of a dataset: a page beside its versions, and an artifact in the Prefect UI."""

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from pollen import __version__
from pollen.dataset.contact_sheet import MOST_PICTURES, chosen, contact_sheet, labelled_thumbnail
from pollen.dataset.report import (
    FINDINGS_TABLE,
    MOST_PAIRS,
    DatasetReport,
    findings_csv,
    markdown_summary,
    render_dataset_report,
    show_pairs,
)
from pollen.errors import PollenError
from tasks.faults import NotFoundError
from tasks.progress import best_effort
from tasks.stage import logger, stage
from tasks.storage.store import Store, open_store
from tasks.training.dataset import DatasetVersion, Staging, read_version
from tasks.training.pictures import fetch_pictures

PAGE = "dataset_report.html"


@stage("report dataset version {version.number}")
def report_dataset(staging: Staging, version: DatasetVersion) -> str:
    """Write the report and the table of findings, and return the address of the report.

    The report of a version is written once. What a later run finds that merges nothing stands beside
    it, so that it takes nothing away: the first run's zips, of which the report tells, are archived.

    Raises:
        PollenError: If the store fails.
    """
    store = open_store(staging.manifests)
    folder = f"reports/{version.number:06d}"
    if not version.is_new and store.exists(f"{folder}/{PAGE}"):
        _add_findings(store, folder, version)
        report = _report(staging, version)
    else:
        report = _with_pictures(_report(staging, version), staging, version)
        store.write(f"{folder}/{FINDINGS_TABLE}", findings_csv(report.findings), "text/csv")
        page = render_dataset_report(report).encode()
        store.write(f"{folder}/{PAGE}", page, "text/html; charset=utf-8")
    if FlowRunContext.get() is not None:
        with best_effort("the dataset"):
            create_markdown_artifact(
                markdown_summary(report),
                key="dataset-summary",
                description=f"{staging.name}, version {version.number}",
            )
    return f"{store.address}/{folder}/{PAGE}"


def _add_findings(store: Store, folder: str, version: DatasetVersion) -> None:
    """Store the findings of a run that merged nothing, once for equal findings."""
    if not version.findings:
        return
    table = findings_csv(version.findings)
    name = PurePosixPath(FINDINGS_TABLE)
    digest = hashlib.sha256(table).hexdigest()[:8]
    try:
        known = store.read(f"{folder}/{FINDINGS_TABLE}")
    except NotFoundError:  # somebody deleted it
        known = b""
    if table != known:
        key = f"{folder}/{name.stem}-{digest}{name.suffix}"
        store.write(key, table, "text/csv")
        logger().info("nothing new was merged; the findings are in %s/%s", store.address, key)


def _report(staging: Staging, version: DatasetVersion) -> DatasetReport:
    """Return the report without its pictures."""
    parent, before = version.parent, version.manifest.parent
    if not version.is_new and before is None:
        parent = None
    elif not version.is_new and before is not None:
        with suppress(NotFoundError):  # somebody deleted it, which stops no training
            parent = read_version(open_store(staging.manifests), before)
    return DatasetReport(
        name=staging.name,
        number=version.number,
        manifest=version.manifest,
        parent=parent,
        findings=version.findings,
        code_version=__version__,
    )


def _with_pictures(
    report: DatasetReport, staging: Staging, version: DatasetVersion
) -> DatasetReport:
    """Return the report with its pictures."""
    added = version.changes.added
    copies = version.copies
    named = {name for pair in copies[:MOST_PAIRS] for name in pair}
    shown = {image.key: image for image in chosen(version.manifest, added, MOST_PICTURES)}
    shown |= {key: image for key, image in version.manifest.by_key.items() if key in named}
    images = list(shown.values())
    pictures = fetch_pictures.fn(images, staging.pictures)
    by_key = {image.key: picture for image, picture in zip(images, pictures, strict=True)}

    def thumbnail_of(key: str, longest_px: int) -> bytes | None:
        picture = by_key.get(key)
        if picture is None:
            return None
        try:
            return labelled_thumbnail(picture.pixels(), picture.grains, longest_px)
        except PollenError as error:  # a report stops no training
            logger().warning("not shown in the report: %s", error)
            return None

    return replace(
        report,
        pairs=show_pairs(copies, thumbnail_of),
        pairs_total=len(copies),
        sheet=contact_sheet(version.manifest, thumbnail_of, new_keys=added),
    )
