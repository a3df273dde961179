"""Promote models and roll back: each change of what is in production is a new numbered object.

Nothing is ever overwritten. The number is the highest one seen when the decision was made, plus one. Of several
promoters that saw the same highest number only one gets the next; the others get an error.
"""

import getpass
import socket
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from uuid import uuid4

from prefect.runtime import flow_run

from pollen.errors import PollenError
from pollen.layout import promotion_key, weights_key
from pollen.models.card import ModelCard, check_weights
from pollen.models.promotions import History, Promotion
from tasks.faults import NotFoundError
from tasks.models.publishing import publish_bundled
from tasks.models.registry import read_card, read_history, read_promotion
from tasks.models.resolve import BUNDLED, PRODUCTION
from tasks.stage import stage
from tasks.storage.store import Location, Store, open_store


@dataclass(frozen=True)
class Order:
    """A person's or a flow's order to put a model into production.

    Made before the stage that carries it out, so that a second try of the stage, or one whose
    reply got lost, finds what the first one did instead of doing it again.

    Attributes:
        id: Identifies this order.
        by: Who gives it.
        at: When.
        note: Why.
        compared_with: Hash of the weights in production when this was decided; if another model is in production by
            now, the order is not carried out. None: carry it out in any case.
    """

    id: str
    by: str
    at: datetime
    note: str = ""
    compared_with: str | None = None

    @classmethod
    def now(cls, note: str = "", *, compared_with: str | None = None) -> Self:
        """Return an order given now, by the flow run or the user of this process."""
        return cls(uuid4().hex, _who(), datetime.now(UTC), note, compared_with)


@dataclass(frozen=True)
class Promoted:
    """The promotion that is in force after an order.

    Attributes:
        number: Its number.
        promotion: Its content.
        is_new: Whether the order changed anything.
    """

    number: int
    promotion: Promotion
    is_new: bool

    @property
    def outcome(self) -> str:
        """The name of the final state of a flow run that promoted."""
        return "Completed" if self.is_new else "NothingNew"

    @property
    def message(self) -> str:
        """The outcome in one sentence."""
        version = self.promotion.version
        if not self.is_new:
            return f"model {version} is in production already (promotion {self.number})"
        back = f", back from promotion {self.number - 1}" if self.promotion.of else ""
        return f"model {version} is now in production (promotion {self.number}{back})"


@stage("promote model {version}")
def promote(root: Location, version: str, order: Order) -> Promoted:
    """Put a published model into production, unless it is there already.

    Args:
        root: The place that holds `trained_models/`.
        version: A published version; `bundled` is published first.
        order: Who asks, and why.

    Raises:
        PollenError: If the model is not published, its weights were altered, or another promotion came first; nothing
            was changed then.
    """
    store = open_store(root)
    history = read_history(store)
    done = _done_before(history, order)
    if done is not None:
        return done
    if version == PRODUCTION:
        raise PollenError(
            "'production' is no version: name the version to put into production (see `pollen models list`)"
        )
    card = publish_bundled(store) if version == BUNDLED else read_card(store, version)
    check_stored_weights(store, card)
    current = history.current
    if current is not None and current.names_same(card.version, card.sha256):
        return Promoted(history.highest, current, is_new=False)
    _still_compared(history, order, store)
    return _append(store, history, Promotion(version=card.version, sha256=card.sha256), order)


@stage("roll back")
def rollback(root: Location, order: Order, to: str | None = None) -> Promoted:
    """Put the model into production that was there before the current one.

    A second rollback goes one step further back. To go forward again, use `promote`.

    Args:
        root: The place that holds `trained_models/`.
        order: Who asks, and why.
        to: Version to go back to, at its last promotion; None: the model before the current one.

    Raises:
        PollenError: If there is nothing to go back to, the model was altered or is gone, or another
            promotion came first.
    """
    store = open_store(root)
    history = read_history(store)
    done = _done_before(history, order)
    if done is not None:
        return done
    number = history.before_current() if to is None else history.latest_of(to)
    target = None if number is None else history.promotions[number]
    if target is None:
        raise PollenError(_nothing_before(store, history, to))
    card = read_card(store, target.version)
    if card.sha256 != target.sha256:
        raise PollenError(
            f"model '{target.version}' in {store.address} is not the one of promotion {number}: its card names the "
            f"SHA-256 {card.sha256}, the promotion {target.sha256}. Promote it if the change was meant"
        )
    check_stored_weights(store, card)
    current = history.current
    if current is not None and current.names_same(card.version, card.sha256):
        return Promoted(history.highest, current, is_new=False)
    _still_compared(history, order, store)
    back = Promotion(version=card.version, sha256=card.sha256, kind="rollback", of=number)
    return _append(store, history, back, order)


@stage("register bundled model")
def register_bundled(root: Location, order: Order) -> Promoted | None:
    """Publish the bundled model and put it into production as promotion 1, if there is no promotion.

    Returns:
        None if a model was promoted before: nothing is changed then.

    Raises:
        PollenError: If the store fails.
    """
    store = open_store(root)
    history = read_history(store)
    if history.highest:
        return _done_before(history, order)
    card = publish_bundled(store)
    first = Promotion(version=card.version, sha256=card.sha256, kind="first")
    return _append(store, history, first, order)


def _done_before(history: History, order: Order) -> Promoted | None:
    number = history.ordered_as(order.id)
    made = None if number is None else history.promotions[number]
    return None if number is None or made is None else Promoted(number, made, is_new=True)


def _still_compared(history: History, order: Order, store: Store) -> None:
    current = history.current
    if order.compared_with is None or current is None or current.sha256 == order.compared_with:
        return
    raise PollenError(
        f"{_described(history.highest, current, store)} since the comparison that this decision is based on: nothing "
        "was changed. Compare with that model, or promote by hand"
    )


def _append(store: Store, history: History, promotion: Promotion, order: Order) -> Promoted:
    """Write the next promotion, unless another one is there by now."""
    number = history.highest + 1
    key = promotion_key(number)
    full = promotion.model_copy(
        update={"note": order.note, "by": order.by, "at": order.at, "order": order.id}
    )
    record = full.model_dump_json(indent=2, exclude_none=True) + "\n"
    if store.create(key, record.encode(), "application/json"):
        return Promoted(number, full, is_new=True)
    winner = read_promotion(store, key)
    if winner is not None and winner.names_same(full.version, full.sha256):
        return Promoted(number, winner, is_new=False)
    raise PollenError(
        f"{_described(number, winner, store)} first, at the same time: nothing was changed by this order. To put model "
        f"'{full.version}' into production all the same, give the order again"
    )


def _described(number: int, promotion: Promotion | None, store: Store) -> str:
    """Return the start of a sentence about a promotion."""
    if promotion is None:
        return f"promotion {number} in {store.address} came"
    by = f" by {promotion.by}" if promotion.by else ""
    note = f" ('{promotion.note}')" if promotion.note else ""
    return f"promotion {number} in {store.address}{by}{note} put model '{promotion.version}' into production"


def _nothing_before(store: Store, history: History, to: str | None) -> str:
    if to is not None:
        return (
            f"model '{to}' was never promoted in {store.address}: promote it with `pollen models promote {to}`, or "
            "roll back without naming a version"
        )
    if not history.highest:
        return f"no model was ever promoted in {store.address}: there is nothing to go back to"
    if history.current is None:
        return (
            f"promotion {history.highest} in {store.address} can't be read, so it is not known what was before it: "
            "name the version to go back to"
        )
    return (
        f"no model was in production in {store.address} before '{history.current.version}' (promotion "
        f"{history.highest}): promote another one with `pollen models promote VERSION`"
    )


def check_stored_weights(store: Store, card: ModelCard) -> None:
    """Refuse a model whose stored weights are not those of its card; they are hashed, not loaded.

    Raises:
        PollenError: If they are missing or altered, or the store fails.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="pollen-") as scratch:
            check_weights(store.fetch(weights_key(card.version), Path(scratch)), card)
    except NotFoundError as error:
        raise PollenError(
            f"the weights of model '{card.version}' are missing in {store.address}: publish it again under another "
            "version, or choose another model"
        ) from error


def _who() -> str:
    """Return the flow run, or the user and computer; a pod's user may have no name."""
    if flow_run.name:
        return f"flow run {flow_run.name}"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown user"
    return f"{user} on {socket.gethostname()}"
