"""Find the model that a run uses: the one in production, the bundled one, a version, or a file."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from prefect.runtime import deployment

import pollen.bundled
from pollen.errors import PollenError
from pollen.layout import weights_key
from pollen.models.card import CARD_NAME, ModelCard, check_weights, sha256_of
from pollen.models.promotions import Promotion
from tasks.models.registry import promotion_keys, read_card, read_promotion
from tasks.stage import logger, stage
from tasks.storage.local_copies import cache_folder
from tasks.storage.store import Location, Store, open_store

PRODUCTION = "production"
BUNDLED = "bundled"


@dataclass(frozen=True)
class Model:
    """A model on this machine: its weights, whose hash was checked, and its card."""

    weights: Path
    card: ModelCard


@stage("find model {name}")
def resolve_model(name: str, registry: Location) -> Model:
    """Find a model and bring it to this machine.

    Args:
        name: `production`, `bundled`, a published version, or the path of a `.pt` file.
        registry: The place that holds `trained_models/`.

    Raises:
        PollenError: If the model is missing or altered; another one is never used instead.
    """
    if name == BUNDLED:
        return bundled_model()
    if name.endswith(".pt"):
        path = Path(name).expanduser().absolute()
        return _checked(path, ModelCard.of_file(path))
    store = open_store(registry)
    if name != PRODUCTION:
        return _published(store, name)
    promoted = _promoted(store)
    if promoted is not None:
        logger().info(
            "in production in %s: model %s (SHA-256 %s), promoted by %s on %s",
            store.address,
            promoted.version,
            promoted.sha256,
            promoted.by or "an unknown person",
            promoted.at or "an unknown date",
        )
        return _published(store, promoted.version, promoted.sha256)
    if deployment.id is not None:
        raise PollenError(
            f"no model is in production in {store.address}: run `pollen setup`, which registers the bundled one, "
            "or `pollen models promote VERSION`"
        )
    logger().info("no model was promoted in %s; using the bundled one", store.address)
    return bundled_model()


def bundled_model() -> Model:
    """Return the model shipped with this package, its weights checked."""
    folder = Path(str(pollen.bundled.__file__)).parent
    return _checked(folder / "best.pt", ModelCard.read(folder / CARD_NAME))


def _checked(weights: Path, card: ModelCard) -> Model:
    check_weights(weights, card)
    return Model(weights, card)


def _promoted(store: Store) -> Promotion | None:
    """Return the highest promotion, None if there is none."""
    keys = promotion_keys(store)
    if not keys:
        return None
    key = keys[max(keys)]
    promotion = read_promotion(store, key)
    if promotion is None:
        raise PollenError(
            f"the promotion {store.address}/{key} can't be read: expected the JSON that `pollen models promote` "
            "writes. Promote a model again"
        )
    return promotion


def _published(store: Store, version: str, promised_sha256: str | None = None) -> Model:
    """Download a published model, unless it is already in the cache."""
    card = read_card(store, version)
    if promised_sha256 and card.sha256 != promised_sha256:
        raise PollenError(
            f"model '{version}' in {store.address} is not the one that was promoted: its card names the SHA-256 "
            f"{card.sha256}, the promotion {promised_sha256}. Promote it again if the change was intended"
        )
    kept = cache_folder() / "models" / card.sha256 / "best.pt"
    try:
        if not kept.is_file() or sha256_of(kept) != card.sha256:
            _fetch_weights(store, version, card, kept)
    except OSError as error:
        raise PollenError(
            f"model '{version}' can't be kept in {kept.parent} ({error}): set POLLEN_CACHE_DIR to a folder that "
            "can be written"
        ) from error
    return _checked(kept, card)


def _fetch_weights(store: Store, version: str, card: ModelCard, kept: Path) -> None:
    """Download weights into the cache; they appear there complete and checked."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix="fetching-") as scratch:
        fetched = store.fetch(weights_key(version), Path(scratch))
        check_weights(fetched, card)
        copy = Path(scratch) / "best.pt"
        if fetched != copy:
            shutil.copyfile(fetched, copy)
        copy.replace(kept)
