"""The story of a dataset check: what a training would make of staged exports, before anybody trains."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from tasks.cluster.turns import say_where
from tasks.storage.store import Location
from tasks.training.checking import Checked, check_staged, show_checked


def _run_name() -> str:
    """What the Prefect UI calls a run: what it checks, and where."""
    given = flow_run.parameters
    what = (given.get("export") or "exports").rpartition("/")[2]
    return f"check {what} in {given['bucket']} {given.get('prefix') or ''}".strip()


@flow(name="dataset-check", flow_run_name=_run_name, persist_result=False)
def check_exports(
    bucket: str = "pollen",
    prefix: str | None = None,
    export: str | None = None,
    merging: DatasetSettings = DatasetSettings(),  # noqa: B008  (frozen; the UI shows its defaults)
) -> State[Checked]:
    """Check labelled exports (zips) in `staging_area/` as a training would read them; nothing is changed.

    What has to be corrected is listed with file and line in the artifact `dataset-check`.

    Args:
        bucket: Name of the saved S3Bucket block.
        prefix: Folder in the bucket (below the block's own folder) that holds `staging_area/`.
        export: Name of one zip in `staging_area/`. Left empty: all of them.
        merging: How a training would merge them.
    """
    root = Location(block=bucket, prefix=prefix or "")
    say_where(root)
    try:
        checked = check_staged(root, export or None, merging)
    except PollenError as error:
        return Failed(message=str(error))
    show_checked(checked)
    if not checked.is_sound:
        return Failed(message=checked.message)
    return Completed(name=checked.outcome, message=checked.message, data=checked)
