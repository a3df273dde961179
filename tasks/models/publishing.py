"""Models are published whole or not at all, whoever publishes at the same time or is killed while at it.

First all of a model is put into one object, the claim, by a write that only one writer wins. Then the claim is
unpacked, the card (``model.json``) last, and deleted. Whoever finds a claim, abandoned or not, unpacks that one instead
of his own: so all who write to a version without a card write the very same bytes, in whatever order they do. A version
with a card is published and never changes; one without is unfinished and never used. A claim beside a card has no
meaning, which is why the card is asked for once more behind the claim.
"""

import hashlib
import io
import json
import mimetypes
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pollen.errors import PollenError
from pollen.evaluation.record import Metrics
from pollen.layout import (
    CHECKPOINTS,
    METRICS_NAME,
    MODELS,
    PROMOTIONS,
    TRAINING_NAME,
    card_key,
    claim_key,
    model_folder,
    weights_key,
)
from pollen.models.card import CARD_NAME, ModelCard, check_weights
from tasks.faults import NotFoundError, StorageError
from tasks.models.registry import read_card
from tasks.models.resolve import BUNDLED, PRODUCTION, bundled_model
from tasks.stage import logger, stage
from tasks.storage.store import Location, Store, open_store

#: Names that mean something else on the command line or below ``trained_models/``.
NO_VERSIONS = {
    PRODUCTION,
    BUNDLED,
    PROMOTIONS.removeprefix(MODELS).strip("/"),
    CHECKPOINTS.removeprefix(MODELS).strip("/"),
}

#: Where weights lie below the folder of a version.
WEIGHTS = weights_key("").removeprefix(model_folder(""))


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
            a model with other content was published under it, or is being so by another run.
    """
    _publish(open_store(root), card, weights, files)


def _publish(store: Store, card: ModelCard, weights: Path, files: Mapping[str, bytes]) -> None:
    if card.version in NO_VERSIONS or card.version.endswith(".pt"):
        raise PollenError(f"no model can be called '{card.version}': choose another version")
    check_weights(weights, card)
    record = _record(card, files)
    present = _present(store, card.version)
    if present is None:
        _unpack(store, card.version, _claim(store, card.version, _packed(record, weights, files)))
        if _same_model(read_card(store, card.version), card):
            return
        raise PollenError(
            f"another run published model '{card.version}' in {store.address} at the same time, or had been stopped "
            "while it did; that model is whole now and stays. Run again: the training is then known to be done"
        )
    if present != record:
        raise PollenError(
            f"a model '{card.version}' with other content is published in {store.address} and stays as it is: "
            "publish this one under another version"
        )
    logger().info("model %s was published in %s before", card.version, store.address)


def _present(store: Store, version: str) -> bytes | None:
    """The card that is there, whatever it holds."""
    try:
        return store.read(card_key(version))
    except NotFoundError:
        return None


def _packed(record: bytes, weights: Path, files: Mapping[str, bytes]) -> bytes:
    """All of a model by key below its folder; what is the same has the same bytes."""
    content = {CARD_NAME: record, WEIGHTS: weights.read_bytes(), **files}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in sorted(content.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _claim(store: Store, version: str, packed: bytes) -> bytes | None:
    """Claim a version; the claim that holds, and None where its model is published by now."""
    key = claim_key(version)
    try:
        if store.create(key, packed, "application/zip"):
            return packed
        logger().info("another run began to publish model %s: its publishing is completed", version)
        return store.read(key)
    except NotFoundError:
        return None


def _unpack(store: Store, version: str, claim: bytes | None) -> None:
    """Carry out what a claim says, unless that is done."""
    if claim is not None and _present(store, version) is None:
        folder = model_folder(version)
        for name, data in _content(store, version, claim).items():
            kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
            if name == CARD_NAME:
                store.create(folder + name, data, kind)
            else:
                store.write(folder + name, data, kind)
    drop_claim(store, version)


def drop_claim(store: Store, version: str) -> None:
    """Delete the claim of a version that is published; where that is not allowed it does no harm."""
    with suppress(StorageError):
        store.delete([claim_key(version)])


def _content(store: Store, version: str, claim: bytes) -> dict[str, bytes]:
    """What is in a claim by key below the folder, the card last."""
    try:
        with zipfile.ZipFile(io.BytesIO(claim)) as archive:
            names = sorted(archive.namelist(), key=lambda name: (name == CARD_NAME, name))
            return {name: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        raise PollenError(
            f"{store.address}/{claim_key(version)} is not whole ({error}): wait for the run that publishes this model, "
            "or, if there is none, delete this file; then run again"
        ) from error


def _same_model(one: ModelCard, other: ModelCard) -> bool:
    """Whether all is the same that counting needs; what is told of them may differ."""
    told = {"metrics"}
    return one.model_dump(exclude=told) == other.model_dump(exclude=told)


def _record(card: ModelCard, files: Mapping[str, bytes]) -> bytes:
    """The card with the hashes of all files: what is the same has the same bytes."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    hashes[WEIGHTS] = card.sha256
    content = card.model_dump(mode="json") | {"files": hashes}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def publish_bundled(store: Store) -> ModelCard:
    """Publish the model shipped with this package, unless it is there already; returns its card.

    Only what counting needs must be the same there: the texts of another release may differ.
    """
    model = bundled_model()
    try:
        present = ModelCard.model_validate_json(store.read(card_key(model.card.version)))
    except (NotFoundError, ValidationError):
        pass
    else:
        if _same_model(present, model.card):
            return present
    shipped = json.loads(model.weights.with_name(CARD_NAME).read_bytes())
    files = {
        "model_card.md": model.weights.with_name("MODEL_CARD.md").read_bytes(),
        METRICS_NAME: Metrics(split="val", new=shipped["metrics"]["val"]).to_json(),
        TRAINING_NAME: _json(shipped["training"]),
    }
    _publish(store, model.card, model.weights, files)
    return model.card


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
