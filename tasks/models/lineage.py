"""What models of the registry have learnt from."""

import json

from pollen.errors import PollenError
from pollen.layout import training_key
from pollen.models.card import CARD_NAME
from pollen.training.lineage import Lineage
from tasks.faults import NotFoundError
from tasks.models.resolve import Model, bundled_model, read_card
from tasks.stage import stage
from tasks.storage.store import Location, Store, open_store


@stage("find what {model.card.version} learnt from")
def lineage_of(model: Model, registry: Location) -> Lineage:
    """Find what a model has learnt from, by the hash of its weights; unknown where nothing records it.

    Args:
        model: Any model, also a file that is a copy of a published one.
        registry: The place whose ``trained_models/`` is asked.

    Raises:
        PollenError: The store fails.
    """
    bundled = bundled_model()
    if model.card.sha256 == bundled.card.sha256:
        told = json.loads(bundled.weights.with_name(CARD_NAME).read_bytes())
        return Lineage.recorded(told["training"])
    store = open_store(registry)
    if not _is_published(model, store):
        return Lineage.unknown()
    try:
        facts = json.loads(store.read(training_key(model.card.version)))
    except (NotFoundError, ValueError):
        return Lineage.unknown()
    return Lineage.recorded(facts) if isinstance(facts, dict) else Lineage.unknown()


def _is_published(model: Model, store: Store) -> bool:
    """Whether these very weights are published under the name on their card."""
    try:
        return read_card(store, model.card.version).sha256 == model.card.sha256
    except PollenError as error:
        if isinstance(error.__cause__, NotFoundError | ValueError):
            return False
        raise
