"""Models are published whole or not at all.

The card (``model.json``) is written last, by a write that only one writer wins: a version with a
card is published and never changes; one without is unfinished and never used.
"""

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pollen.layout import (
    CHECKPOINTS,
    METRICS_NAME,
    MODELS,
    PROMOTIONS,
    card_key,
    model_folder,
    weights_key,
)
from pollen.model_card import CARD_NAME, ModelCard, ModelError, check_weights
from tasks.faults import NotFoundError, PollenError
from tasks.registry import BUNDLED, PRODUCTION, bundled_model
from tasks.stage import logger, stage
from tasks.storage import Location, Store, open_store

#: Names that mean something else on the command line or below ``trained_models/``.
NO_VERSIONS = {
    PRODUCTION,
    BUNDLED,
    PROMOTIONS.removeprefix(MODELS).strip("/"),
    CHECKPOINTS.removeprefix(MODELS).strip("/"),
}


@stage("publish model {card.version}")
def publish(root: Location, card: ModelCard, weights: Path, files: Mapping[str, bytes]) -> None:
    """Publish a model; what was published with the very same content is left as it is.

    Args:
        root: The place that holds ``trained_models/``.
        card: Its card, which names the hash of the weights.
        weights: The weights on this machine.
        files: What goes beside them, by key below the version's folder.

    Raises:
        PollenError: The weights are not the card's, the version has a name that can't be used, or
            a model with other content was published under it.
    """
    _publish(open_store(root), card, weights, files)


def _publish(store: Store, card: ModelCard, weights: Path, files: Mapping[str, bytes]) -> None:
    if card.version in NO_VERSIONS or card.version.endswith(".pt"):
        raise PollenError(f"no model can be called '{card.version}': choose another version")
    try:
        check_weights(weights, card)
    except ModelError as error:
        raise PollenError(str(error)) from error
    record = _record(card, files)
    key, record = card_key(card.version), _record(card, files)
    try:
        present = store.read(key)
    except NotFoundError:
        present = None
    if present == record:
        logger().info("model %s was published in %s before", card.version, store.address)
        return
    if present is None:
        folder = model_folder(card.version)
        store.write_file(weights_key(card.version), weights)
        for name, data in sorted(files.items()):
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            store.write(folder + name, data, kind)
    if present is not None or not store.create(key, record, "application/json"):
        raise PollenError(
            f"a model '{card.version}' with other content is published in {store.address} and stays as it is: "
            "publish this one under another version"
        )


def _record(card: ModelCard, files: Mapping[str, bytes]) -> bytes:
    """The card with the hashes of all files: what is the same has the same bytes."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    hashes[weights_key(card.version).removeprefix(model_folder(card.version))] = card.sha256
    content = card.model_dump(mode="json") | {"files": hashes}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def publish_bundled(store: Store) -> ModelCard:
    """Publish the model shipped with this package, unless it is there already; returns its card.

    Only what counting needs must be the same there: the texts of another release may differ.
    """
    model = bundled_model()
    told = {"metrics"}
    try:
        present = ModelCard.model_validate_json(store.read(card_key(model.card.version)))
    except (NotFoundError, ValidationError):
        pass
    else:
        if present.model_dump(exclude=told) == model.card.model_dump(exclude=told):
            return present
    shipped = json.loads(model.weights.with_name(CARD_NAME).read_bytes())
    files = {
        "model_card.md": model.weights.with_name("MODEL_CARD.md").read_bytes(),
        METRICS_NAME: _json({"split": "val", "new": shipped["metrics"]["val"]}),
        "training.json": _json(shipped["training"]),
    }
    _publish(store, model.card, model.weights, files)
    return model.card


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
