"""Publish models completely or not at all, even if several runs publish at the same time or one is killed.

First all files of a model are put into one object, the claim, by a write that only one writer wins. Then the claim is
unpacked, the card (`model.json`) last, and deleted. A writer that finds a claim, abandoned or not, unpacks that one
instead of its own: so all who write to a version without a card write the same bytes, in any order. A version with a
card is published and never changes; one without is unfinished and never used. A claim beside a card has no meaning,
which is why the card is looked for once more after the claim is won.
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

#: Names that have another meaning on the command line or below `trained_models/`.
NO_VERSIONS = {
    PRODUCTION,
    BUNDLED,
    PROMOTIONS.removeprefix(MODELS).strip("/"),
    CHECKPOINTS.removeprefix(MODELS).strip("/"),
}

#: Path of the weights below the folder of a version.
WEIGHTS = weights_key("").removeprefix(model_folder(""))


@stage("publish model {card.version}")
def publish(root: Location, card: ModelCard, weights: Path, files: Mapping[str, bytes]) -> None:
    """Publish a model; one that was published with exactly the same content is left as it is.

    Args:
        root: The place that holds `trained_models/`.
        card: Its card, which names the hash of the weights.
        weights: The weights on this machine.
        files: Further files, by key below the version's folder.

    Raises:
        PollenError: If the weights are not those of the card, the version has a name that can't be used, or
            another run published or publishes other content under it.
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
            f"another run published model '{card.version}' in {store.address} at the same time, or was stopped while "
            "doing so; that model is complete now and stays. Run again: the training is then recognised as done"
        )
    if present != record:
        raise PollenError(
            f"a model '{card.version}' with other content is published in {store.address} and stays as it is: "
            "publish this one under another version"
        )
    logger().info("model %s is already published in %s", card.version, store.address)


def _present(store: Store, version: str) -> bytes | None:
    """Return the bytes of the card that is stored; None if there is none."""
    try:
        return store.read(card_key(version))
    except NotFoundError:
        return None


def _packed(record: bytes, weights: Path, files: Mapping[str, bytes]) -> bytes:
    """Pack all files of a model into one archive; equal models give equal bytes."""
    content = {CARD_NAME: record, WEIGHTS: weights.read_bytes(), **files}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in sorted(content.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return packed.getvalue()


def _claim(store: Store, version: str, packed: bytes) -> bytes | None:
    """Claim a version; return the claim that won, or None if the model is published by now."""
    key = claim_key(version)
    try:
        if store.create(key, packed, "application/zip"):
            return packed
        logger().info("another run began to publish model %s: completing it", version)
        return store.read(key)
    except NotFoundError:
        return None


def _unpack(store: Store, version: str, claim: bytes | None) -> None:
    """Unpack a claim, unless the version is published, and delete it."""
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
    """Delete the claim of a published version; a claim that can't be deleted does no harm."""
    with suppress(StorageError):
        store.delete([claim_key(version)])


def _content(store: Store, version: str, claim: bytes) -> dict[str, bytes]:
    """Return the files of a claim by key below the folder, the card last."""
    try:
        with zipfile.ZipFile(io.BytesIO(claim)) as archive:
            names = sorted(archive.namelist(), key=lambda name: (name == CARD_NAME, name))
            return {name: archive.read(name) for name in names}
    except zipfile.BadZipFile as error:
        raise PollenError(
            f"{store.address}/{claim_key(version)} is incomplete ({error}): wait for the run that publishes this "
            "model, or delete this file if there is no such run; then run again"
        ) from error


def _same_model(one: ModelCard, other: ModelCard) -> bool:
    """Return whether everything that counting needs is equal; the figures may differ."""
    return one.model_dump(exclude={"metrics"}) == other.model_dump(exclude={"metrics"})


def _record(card: ModelCard, files: Mapping[str, bytes]) -> bytes:
    """Return the card with the hashes of all files; equal models give equal bytes."""
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    hashes[WEIGHTS] = card.sha256
    content = card.model_dump(mode="json") | {"files": hashes}
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def publish_bundled(store: Store) -> ModelCard:
    """Publish the model shipped with this package, unless it is published already; return its card.

    Only what counting needs must be equal: the texts of another release may differ.
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
