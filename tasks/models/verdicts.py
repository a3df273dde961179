"""The verdict on a trained model: its figures, the gate's decision, and how its training ended."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from pollen.errors import PollenError
from pollen.evaluation.record import Decision, Metrics
from pollen.evaluation.wording import headline
from pollen.layout import conclusion_key, metrics_key
from tasks.faults import NotFoundError, StorageError
from tasks.models.registry import read_history
from tasks.stage import healing, logger, stage
from tasks.storage.store import Location, Store, open_store

#: Figures of the new model without which a file of figures counts as damaged; their values may be unknown.
_NEEDED = {"grains", "count_error_percent", "viability_error"}


class DamagedVerdictError(PollenError):
    """The figures of a published model are missing or can't be read."""


class Conclusion(BaseModel):
    """The end of a training, written once: from then on only people decide about its model.

    Attributes:
        lost: Why the promotion that the gate allowed was not carried out; empty if it was, or if the gate refused.
        at: When.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    lost: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class ModelVerdict:
    """The figures of a published model, the gate's decision, and what became of it.

    Attributes:
        metrics: All figures.
        gate: What the gate decided.
        compared_with: Hash of the model it was compared with.
        was_promoted: Whether it is or was in production, put there by its training or by a person.
        conclusion: How its training ended; None if no run came to its end.
    """

    metrics: Metrics
    gate: Decision
    compared_with: str
    was_promoted: bool
    conclusion: Conclusion | None

    @classmethod
    def of(
        cls, metrics: Metrics, *, was_promoted: bool, conclusion: Conclusion | None
    ) -> "ModelVerdict":
        """Return the verdict that the figures hold.

        Raises:
            ValueError: If they lack what a promotion needs.
        """
        gate, compared_with = metrics.gate, metrics.production.model.sha256
        missing = sorted(_NEEDED - metrics.new.overall.model_fields_set)
        if gate is None or compared_with is None or missing:
            raise ValueError(
                "it lacks "
                + ", ".join(
                    [
                        *(["gate"] if gate is None else []),
                        *(["production.model.sha256"] if compared_with is None else []),
                        *(f"new.overall.{name}" for name in missing),
                    ]
                )
            )
        return cls(metrics, gate, compared_with, was_promoted, conclusion)

    @property
    def figures(self) -> str:
        """The main figures, in one line."""
        return headline(self.metrics)

    @property
    def is_open(self) -> bool:
        """True if it is still to be promoted.

        A model that was in production before never is: a person may have rolled it back.
        """
        return self.gate.promote and not self.was_promoted and self.conclusion is None

    @property
    def lost(self) -> str:
        """The reason why it never was in production although the gate allowed it; empty if it was."""
        return "" if self.was_promoted or self.conclusion is None else self.conclusion.lost


@stage("read verdict on {version}")
def read_verdict(root: Location, version: str) -> ModelVerdict:
    """Read what was measured and decided about a published model.

    Raises:
        DamagedVerdictError: If the figures are missing or damaged.
        PollenError: If the store fails.
    """
    store = open_store(root)
    key = metrics_key(version)
    try:
        return ModelVerdict.of(
            Metrics.from_json(store.read(key)),
            was_promoted=read_history(store).was_promoted(version),
            conclusion=read_conclusion(store, version),
        )
    except (ValueError, NotFoundError) as error:
        raise DamagedVerdictError(
            f"{store.address}/{key} can't be read ({error}): promote the model by hand, or train again with --fresh"
        ) from error


def read_conclusion(store: Store, version: str) -> Conclusion | None:
    """Read how a training ended; None if that is not recorded or can't be read.

    Raises:
        StorageError: If the store fails.
    """
    try:
        return Conclusion.model_validate_json(store.read(conclusion_key(version)))
    except (NotFoundError, ValueError):
        return None


def record_conclusion(store: Store, version: str, lost: str) -> None:
    """Record that a training ended, unless that is recorded; a place that refuses it only leaves a warning."""
    record = Conclusion(lost=lost, at=datetime.now(UTC)).model_dump_json(indent=2) + "\n"
    key = conclusion_key(version)
    try:
        if not healing(store.exists)(key):
            healing(store.create)(key, record.encode(), "application/json")
    except StorageError as error:
        logger().warning(
            "the end of the training of %s can't be recorded, so the next run of this training does it: %s",
            version,
            error,
        )
