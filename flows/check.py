"""The story of a dataset check: what a training would make of staged exports, before anybody trains."""

from prefect import flow
from prefect.client.schemas.objects import State

from pollen.dataset.settings import DatasetSettings
from tasks.cluster.turns import tag_with_root
from tasks.flow_runs import final_state, named
from tasks.storage.store import Location
from tasks.training.checking import Checked, check_staged, export_name, refuse_unsound, show_checked


def check_root(root: Location, export: str | None, merging: DatasetSettings) -> Checked:
    """Check one staged export of a root, or all.

    Raises:
        PollenError: If there is no such export, one can't be read at all, or the store fails.
    """
    tag_with_root(root)
    checked = check_staged(root, export, merging)
    show_checked(checked)
    refuse_unsound(checked)
    return checked


@flow(
    name="dataset-check",
    flow_run_name=named("check {export} in {bucket} {prefix}", export=export_name),
    persist_result=False,
)
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
    return final_state(lambda: check_root(root, export or None, merging))
