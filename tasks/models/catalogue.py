"""What lies in the registry: all versions in a list, one of them in full."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from pollen.errors import PollenError
from pollen.layout import MODELS, card_key, metrics_key
from pollen.models.card import ModelCard
from pollen.models.promotions import Promotion
from tasks.faults import NotFoundError
from tasks.models.publishing import NO_VERSIONS
from tasks.models.resolve import (
    BUNDLED,
    PRODUCTION,
    DamagedCardError,
    bundled_model,
    read_card,
    read_history,
)
from tasks.models.verdicts import read_conclusion
from tasks.stage import stage
from tasks.storage.store import Location, Store, open_store


class _Overall(BaseModel):
    count_error_percent: float | None = None
    viability_error: float | None = None


class _New(BaseModel):
    map50: dict[str, float | None] = {}
    overall: _Overall = _Overall()


class _Gate(BaseModel):
    promote: bool
    reasons: tuple[str, ...] = ()


class Figures(BaseModel):
    """What lists show of ``metrics.json``; ``None`` where a figure is not known.

    Attributes:
        split: On which split of its dataset the model was measured.
        new: The figures of this model.
        gate: What the gate said of it; None where it was not asked.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    split: str
    new: _New
    gate: _Gate | None = None


@dataclass(frozen=True)
class Listed:
    """A version that lies in the registry.

    Attributes:
        version: Name of its folder.
        card: Its card; None where it can't be used.
        trouble: Why it can't be used, empty for a published model.
        figures: How good it is, where that was published with it.
        in_production: Whether it is the one in production.
    """

    version: str
    card: ModelCard | None
    trouble: str
    figures: Figures | None
    in_production: bool


@dataclass(frozen=True)
class Shown:
    """All there is to say of a published model.

    Attributes:
        card: Its card.
        figures: How good it is, where that was published with it.
        promotions: Its promotions by number.
        lost: Why its training did not promote it although the gate let it; empty for all others.
        in_production: Whether it is the one in production.
        address: The folder where all about it lies.
    """

    card: ModelCard
    figures: Figures | None
    promotions: Mapping[int, Promotion]
    lost: str
    in_production: bool
    address: str


@stage("list models")
def list_models(root: Location) -> tuple[Listed, ...]:
    """All versions that lie in the registry, unfinished ones included, by name.

    Raises:
        PollenError: The place can't be read.
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


def _listed(store: Store, version: str, keys: set[str], current: Promotion | None) -> Listed:
    in_production = current is not None and current.version == version
    if card_key(version) not in keys:
        return Listed(
            version,
            None,
            "unfinished: its publishing broke off or is under way, so it is not used",
            None,
            in_production,
        )
    try:
        card = read_card(store, version)
    except DamagedCardError:
        return Listed(
            version,
            None,
            "its card (model.json) is damaged, so it is not used: publish it again under another version",
            None,
            in_production,
        )
    return Listed(version, card, "", read_figures(store, version), in_production)


@stage("show model {name}")
def show_model(root: Location, name: str) -> Shown:
    """One model in full.

    Args:
        root: The place that holds ``trained_models/``.
        name: A published version, ``production``, or ``bundled`` for the version of the shipped one.

    Raises:
        PollenError: There is no such model.
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
    return Shown(
        card=read_card(store, version),
        figures=read_figures(store, version),
        promotions={
            number: made
            for number, made in history.promotions.items()
            if made is not None and made.version == version
        },
        lost=ended.lost if ended and not history.was_promoted(version) else "",
        in_production=history.current is not None and history.current.version == version,
        address=f"{store.address}/{MODELS}{version}",
    )


def read_figures(store: Store, version: str) -> Figures | None:
    """The figures published with a model; None where there are none to be read."""
    try:
        return Figures.model_validate_json(store.read(metrics_key(version)))
    except (NotFoundError, ValueError):
        return None
