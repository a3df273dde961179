"""The story of a promotion: a person decides, in the Prefect UI, which model is in production."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from pollen.errors import PollenError
from tasks.cluster.turns import say_where
from tasks.models.promotions import Order, Promoted
from tasks.models.promotions import promote as put_into_production
from tasks.storage.store import Location


def _run_name() -> str:
    """What the Prefect UI calls a run."""
    given = flow_run.parameters
    return f"promote {given['version']} in {given['bucket']} {given['prefix'] or ''}".strip()


@flow(name="promote", flow_run_name=_run_name, persist_result=False)
def promote(
    version: str, note: str = "", bucket: str = "pollen", prefix: str | None = None
) -> State[Promoted]:
    """Put a published model into production: from the next run on, `detect` uses it.

    To go back, promote the earlier version again.

    Args:
        version: The model's version below `trained_models/`, or `bundled`.
        note: Why; kept with the promotion for others.
        bucket: Name of the saved S3Bucket block.
        prefix: Folder in the bucket (below the block's own folder) that holds `trained_models/`.
    """
    root = Location(block=bucket, prefix=prefix or "")
    say_where(root)
    try:
        done = put_into_production(root, version, Order.now(note))
    except PollenError as error:
        return Failed(message=str(error))
    name = "Completed" if done.is_new else "NothingNew"
    return Completed(name=name, message=done.message, data=done)
