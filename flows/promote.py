"""The story of a promotion: a person decides, in the Prefect UI, which model is in production."""

from prefect import flow
from prefect.client.schemas.objects import State

from tasks.cluster.turns import tag_with_root
from tasks.flow_runs import final_state, named
from tasks.models.promotions import Order, Promoted
from tasks.models.promotions import promote as put_into_production
from tasks.storage.store import Location


def promote_in(root: Location, version: str, note: str) -> Promoted:
    """Put a published model of a root into production.

    Raises:
        PollenError: If there is no such model, or another promotion came first.
    """
    tag_with_root(root)
    return put_into_production(root, version, Order.now(note))


@flow(
    name="promote",
    flow_run_name=named("promote {version} in {bucket} {prefix}"),
    persist_result=False,
)
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
    return final_state(lambda: promote_in(root, version, note))
