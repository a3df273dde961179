"""The plants that models of the registry have learnt from."""

import json

from pollen.errors import PollenError
from pollen.models.card import CARD_NAME
from pollen.training.lineage import Lineage
from tasks.faults import NotFoundError
from tasks.models.registry import read_card, read_training
from tasks.models.resolve import Model, bundled_model
from tasks.stage import stage
from tasks.storage.store import Location, Store, open_store


@stage("find what {model.card.version} learnt from")
def lineage_of(model: Model, registry: Location) -> Lineage:
    """Find what a model has learnt from, by the hash of its weights; unknown if that is not recorded.

    Args:
        model: Any model, also a file that is a copy of a published one.
        registry: The place that holds `trained_models/`.

    Raises:
        PollenError: If the store fails.
    """
    bundled = bundled_model()
    if model.card.sha256 == bundled.card.sha256:
        shipped = json.loads(bundled.weights.with_name(CARD_NAME).read_bytes())
        return Lineage.recorded(shipped["training"])
    store = open_store(registry)
    if not _is_published(model, store):
        return Lineage.unknown()
    return Lineage.recorded(read_training(store, model.card.version))


def _is_published(model: Model, store: Store) -> bool:
    """Return whether exactly these weights are published under the name on their card."""
    try:
        return read_card(store, model.card.version).sha256 == model.card.sha256
    except PollenError as error:
        if isinstance(error.__cause__, NotFoundError | ValueError):
            return False
        raise
