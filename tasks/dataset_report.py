"""What people see of a dataset: a page beside its versions, and an artifact in the Prefect UI."""

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext

from pollen import __version__
from pollen.dataset.contact_sheet import MOST_PICTURES, Shown, chosen, contact_sheet
from pollen.dataset.report import (
    FINDINGS_TABLE,
    MOST_PAIRS,
    DatasetReport,
    findings_csv,
    markdown_summary,
    render_dataset_report,
    show_pairs,
)
from pollen.frames import FrameError
from pollen.training.run import TrainingError
from tasks.dataset import DatasetVersion, Staging
from tasks.pictures import fetch_pictures
from tasks.progress import best_effort
from tasks.stage import logger, stage
from tasks.storage import open_store

PAGE = "dataset_report.html"


@stage("report dataset version {version.number}")
def report_dataset(staging: Staging, version: DatasetVersion) -> str:
    """Write the report and the table of findings; returns where the report is.

    Raises:
        PollenError: The store fails.
    """
    added = version.changes.added
    copies = version.copies
    named = {name for pair in copies[:MOST_PAIRS] for name in pair}
    shown = {image.key: image for image in chosen(version.manifest, added, MOST_PICTURES)}
    shown |= {key: image for key, image in version.manifest.by_key.items() if key in named}
    images = list(shown.values())
    files = fetch_pictures.function(images, staging.pictures)
    by_key = {image.key: file for image, file in zip(images, files, strict=True)}

    def show(key: str) -> Shown | None:
        file = by_key.get(key)
        try:
            return Shown(file.pixels(), file.grains) if file else None
        except (FrameError, TrainingError) as error:  # a report stops no training
            logger().warning("not shown in the report: %s", error)
            return None

    report = DatasetReport(
        name=staging.name,
        number=version.number,
        manifest=version.manifest,
        parent=version.parent,
        findings=version.findings,
        pairs=show_pairs(copies, show),
        pairs_total=len(copies),
        sheet=contact_sheet(version.manifest, show, new_keys=added),
        code_version=__version__,
    )
    store = open_store(staging.manifests)
    folder = f"reports/{version.number:06d}"
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
