"""Artifacts: the result of a detection as the Prefect UI shows it."""

from typing import Final

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext, TaskRunContext

from pollen.reports.detection import ReportData
from pollen.reports.pages import markdown
from pollen.reports.summary import Highlights, failed_rows, markdown_summary
from tasks.detection.summary import Summary
from tasks.detection.thumbnails import Thumbnails
from tasks.storage.store import Store

#: Name of the artifact that shows the result of a detection.
SUMMARY_KEY: Final = "detection-summary"
#: Rows of the table of failed pictures in the Prefect UI.
ARTIFACT_ROWS = 200


def _in_run() -> bool:
    return bool(FlowRunContext.get() or TaskRunContext.get())


def publish_nothing(summary: Summary) -> None:
    """Show in the Prefect UI that there was nothing to count."""
    if _in_run():
        text = f"{markdown(summary.message)}\n\nLooked in {markdown(summary.output)}.\n"
        create_markdown_artifact(text, key=SUMMARY_KEY, description=summary.message)


def publish_result(
    store: Store, thumbnails: Thumbnails, data: ReportData, summary: Summary
) -> None:
    """Show the result in the Prefect UI, if this is a flow run.

    A run that found nothing new shows no pictures: there are many such runs, and the report has the
    pictures.
    """
    if not _in_run():
        return
    highlights = thumbnails.highlights() if summary.counted_now else Highlights()
    create_markdown_artifact(
        markdown_summary(data, highlights, store.link),
        key=SUMMARY_KEY,
        description=summary.message,
    )
    failed = failed_rows(summary.failed.head(ARTIFACT_ROWS))
    if failed:
        create_table_artifact(
            failed, key="failed-images", description=f"{summary.failed.height} failed"
        )
