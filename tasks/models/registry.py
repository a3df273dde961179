"""Read the registry, `trained_models/`: promotions, cards, figures, records of trainings."""

import json
from typing import Any

from pollen.errors import PollenError
from pollen.evaluation.record import Metrics
from pollen.layout import (
    MODELS,
    PROMOTIONS,
    card_key,
    metrics_key,
    promotion_number,
    training_key,
)
from pollen.models.card import ModelCard
from pollen.models.promotions import History, Promotion
from tasks.faults import NotFoundError
from tasks.storage.store import Store


class DamagedCardError(PollenError):
    """The card of a published model can't be read."""


def promotion_keys(store: Store) -> dict[int, str]:
    """Return the keys of all promotions by number; other objects in the folder are ignored."""
    numbers = {entry.key: promotion_number(entry.key) for entry in store.list(PROMOTIONS)}
    return {number: key for key, number in numbers.items() if number is not None}


def read_promotion(store: Store, key: str) -> Promotion | None:
    """Read a promotion; None if its content is not a promotion."""
    try:
        return Promotion.model_validate_json(store.read(key))
    except ValueError:
        return None


def read_history(store: Store) -> History:
    """Read all promotions."""
    keys = promotion_keys(store)
    return History({number: read_promotion(store, key) for number, key in sorted(keys.items())})


def read_card(store: Store, version: str) -> ModelCard:
    """Read the card of a published model.

    Raises:
        DamagedCardError: If the card is damaged.
        PollenError: If there is no such model, or it was never published completely.
    """
    try:
        return ModelCard.model_validate_json(store.read(card_key(version)))
    except NotFoundError as error:
        raise PollenError(
            f"there is no model '{version}' in {store.address}: expected 'production', 'bundled', one of the versions "
            "below trained_models/, or the path of a .pt file"
        ) from error
    except ValueError as error:
        raise DamagedCardError(
            f"the card of model '{version}' in {store.address} is damaged: {error}"
        ) from error


def read_metrics(store: Store, version: str) -> Metrics | None:
    """Read the figures published with a model; None if there are none that can be read."""
    try:
        return Metrics.from_json(store.read(metrics_key(version)))
    except (NotFoundError, ValueError):
        return None


def published_versions(store: Store) -> set[str]:
    """Return all versions that were published completely.

    Raises:
        StorageError: If the store fails.
    """
    first_parts = (
        (e.key, e.key.removeprefix(MODELS).partition("/")[0]) for e in store.list(MODELS)
    )
    return {version for key, version in first_parts if key == card_key(version)}


def read_training(store: Store, version: str) -> dict[str, Any]:
    """Read the record of the training that made a published model; empty if there is none that can be read.

    Raises:
        StorageError: If the store fails.
    """
    try:
        facts = json.loads(store.read(training_key(version)))
    except (NotFoundError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
