"""The catalogue of the registry: all versions in a list, or one of them in full."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pollen.errors import PollenError
from pollen.evaluation.record import Metrics
from pollen.layout import MODELS, card_key
from pollen.models.card import ModelCard
from pollen.models.promotions import Promotion
from tasks.models.publishing import NO_VERSIONS
from tasks.models.registry import DamagedCardError, read_card, read_history, read_metrics
from tasks.models.resolve import BUNDLED, PRODUCTION, bundled_model
from tasks.models.verdicts import read_conclusion
from tasks.stage import stage
from tasks.storage.store import Location, Store, open_store


@dataclass(frozen=True)
class ListedModel:
    """A version in the registry.

    Attributes:
        version: Name of its folder.
        card: Its card; None if the version can't be used.
        problem: Why it can't be used; empty for a published model.
        metrics: Its figures, if they were published with it.
        in_production: Whether it is the one in production.
    """

    version: str
    card: ModelCard | None
    problem: str
    metrics: Metrics | None
    in_production: bool


@dataclass(frozen=True)
class ModelDetails:
    """Everything about one published model.

    Attributes:
        card: Its card.
        metrics: Its figures, if they were published with it.
        promotions: Its promotions by number.
        lost: Why its training did not promote it although the gate allowed it; empty for all others.
        in_production: Whether it is the one in production.
        address: The folder that holds its files.
    """

    card: ModelCard
    metrics: Metrics | None
    promotions: Mapping[int, Promotion]
    lost: str
    in_production: bool
    address: str


@stage("list models")
def list_models(root: Location) -> tuple[ListedModel, ...]:
    """Return all versions in the registry by name, unfinished ones included.

    Raises:
        PollenError: If the place can't be read.
    """
    store = open_store(root)
    store.check()
    kept: dict[str, set[str]] = defaultdict(set)
    for entry in store.list(MODELS):
        version, slash, _ = entry.key.removeprefix(MODELS).partition("/")
        if slash and version not in NO_VERSIONS:
            kept[version].add(entry.key)
    current = read_history(store).current
    return tuple(_listed(store, version, kept[version], current) for version in sorted(kept))


def _listed(store: Store, version: str, keys: set[str], current: Promotion | None) -> ListedModel:
    in_production = current is not None and current.version == version
    if card_key(version) not in keys:
        return ListedModel(
            version,
            None,
            "unfinished: it is being published, or publishing it was interrupted; it is not used",
            None,
            in_production,
        )
    try:
        card = read_card(store, version)
    except DamagedCardError:
        return ListedModel(
            version,
            None,
            "its card (model.json) is damaged, so it is not used: publish it again under another version",
            None,
            in_production,
        )
    return ListedModel(version, card, "", read_metrics(store, version), in_production)


@stage("show model {name}")
def show_model(root: Location, name: str) -> ModelDetails:
    """Return everything about one model.

    Args:
        root: The place that holds `trained_models/`.
        name: A published version, `production`, or `bundled` for the version of the model shipped with this package.

    Raises:
        PollenError: If there is no such model.
    """
    store = open_store(root)
    store.check()
    history = read_history(store)
    version = name
    if name == BUNDLED:
        version = bundled_model().card.version
    if name == PRODUCTION:
        if history.current is None:
            raise PollenError(
                f"no model is in production in {store.address}: promote one with `pollen models promote VERSION`"
            )
        version = history.current.version
    ended = read_conclusion(store, version)
    return ModelDetails(
        card=read_card(store, version),
        metrics=read_metrics(store, version),
        promotions={
            number: made
            for number, made in history.promotions.items()
            if made is not None and made.version == version
        },
        lost=ended.lost if ended and not history.was_promoted(version) else "",
        in_production=history.current is not None and history.current.version == version,
        address=f"{store.address}/{MODELS}{version}",
    )
