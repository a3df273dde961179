"""What the registry says of a trained model: its figures, what the gate said, and how its training ended."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from pollen.errors import PollenError
from pollen.layout import MODELS, card_key, conclusion_key, metrics_key, training_key
from tasks.faults import NotFoundError, StorageError
from tasks.models.resolve import read_history
from tasks.stage import healing, logger, stage
from tasks.storage.store import Location, Store, open_store


class DamagedVerdictError(PollenError):
    """What was measured of a published model is gone, or can't be read."""


class Conclusion(BaseModel):
    """The end of a training, written once: from then on only people decide about its model.

    Attributes:
        lost: Why the promotion that the gate let was not carried out; empty where it was, or where the
            gate refused.
        at: When.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    lost: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Verdict:
    """What the registry says of a published model.

    Attributes:
        promote: The gate let it.
        reasons: What the gate said.
        notices: What of that only says how much the figures are worth.
        figures: What was measured, in one line.
        compared_with: Hash of the model it was compared with.
        was_promoted: It is in production, or was: by its training, or by a person.
        conclusion: How its training ended; None where no run came to its end.
        told: All that was measured and decided.
    """

    promote: bool
    reasons: tuple[str, ...]
    notices: tuple[str, ...]
    figures: str
    compared_with: str | None
    was_promoted: bool
    conclusion: Conclusion | None
    told: Mapping[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether it is still to be promoted.

        What was once in production never is: a person may have rolled it back.
        """
        return self.promote and not self.was_promoted and self.conclusion is None

    @property
    def lost(self) -> str:
        """Why it never was in production although the gate let it; empty where it was."""
        return "" if self.was_promoted or self.conclusion is None else self.conclusion.lost


@stage("read verdict on {version}")
def read_verdict(root: Location, version: str) -> Verdict:
    """Read what was measured and decided about a published model.

    Raises:
        DamagedVerdictError: The figures are gone or damaged.
        PollenError: The store fails.
    """
    store = open_store(root)
    key = metrics_key(version)
    try:
        told = json.loads(store.read(key))
        return Verdict(
            promote=bool(told["gate"]["promote"]),
            reasons=tuple(told["gate"]["reasons"]),
            notices=tuple(told.get("notices", ())),
            figures=_figures_line(told),
            compared_with=told["production"]["model"]["sha256"],
            was_promoted=read_history(store).was_promoted(version),
            conclusion=read_conclusion(store, version),
            told=told,
        )
    except (ValueError, KeyError, TypeError, NotFoundError) as error:
        raise DamagedVerdictError(
            f"{store.address}/{key} can't be read ({error!r}): promote the model by hand, or train with fresh"
        ) from error


def read_conclusion(store: Store, version: str) -> Conclusion | None:
    """How a training ended; None where that was not recorded, or can't be read.

    Raises:
        StorageError: The store fails.
    """
    try:
        return Conclusion.model_validate_json(store.read(conclusion_key(version)))
    except (NotFoundError, ValueError):
        return None


def published_versions(store: Store) -> set[str]:
    """All versions that were published whole.

    Raises:
        StorageError: The store fails.
    """
    first_parts = (
        (e.key, e.key.removeprefix(MODELS).partition("/")[0]) for e in store.list(MODELS)
    )
    return {version for key, version in first_parts if key == card_key(version)}


def read_training_id(store: Store, version: str) -> str | None:
    """The training that made a published model; None where that was not recorded, or can't be read.

    Raises:
        StorageError: The store fails.
    """
    try:
        told = json.loads(store.read(training_key(version)))
    except (NotFoundError, ValueError):
        return None
    found = told.get("training_id") if isinstance(told, dict) else None
    return found if isinstance(found, str) else None


def record_conclusion(store: Store, version: str, lost: str) -> None:
    """Record that a training ended, unless that was done; where it is not allowed, the state alone says it."""
    record = Conclusion(lost=lost, at=datetime.now(UTC)).model_dump_json(indent=2) + "\n"
    key = conclusion_key(version)
    try:
        if not healing(store.exists)(key):
            healing(store.create)(key, record.encode(), "application/json")
    except StorageError as error:
        logger().warning("how the training of %s ended can't be recorded: %s", version, error)


def _figures_line(told: Mapping[str, Any]) -> str:
    """The figures a person wants first."""
    overall = told["new"]["overall"]
    count, viability = overall["count_error_percent"], overall["viability_error"]
    counted = "unknown" if count is None else f"{count:.2f} %"
    found = "unknown" if viability is None else f"{viability:+.2f} points"
    return f"on {overall['grains']} grains of {told['split']}: count error {counted}, viability error {found}"
