"""Release a trained model: judge it, describe it for the registry, promote it as the gate decided."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Self

from pollen import __version__
from pollen.dataset.manifest import Split
from pollen.errors import PollenError
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.curves import draw_training
from pollen.evaluation.disagreement import draw_disagreements
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.gate import GateSettings, decide
from pollen.evaluation.page import PageData, render_page
from pollen.evaluation.record import Decision, Metrics
from pollen.layout import METRICS_NAME, TRAINING_NAME, model_folder
from pollen.training.lineage import LEARNT_FROM, Lineage, notices, unknown_plants
from pollen.training.model_card import Making, card_text
from tasks.faults import StorageError
from tasks.models.promotions import Order, promote
from tasks.models.verdicts import ModelVerdict
from tasks.stage import stage
from tasks.training.train import Trained, TrainingPlan

#: Refused zips that a message names.
ZIPS_NAMED: Final = 5


@dataclass(frozen=True)
class Judgement:
    """Both models on the same pictures, and what the gate decided.

    Attributes:
        new: The new model.
        production: The model in production, which `detect` uses now.
        metrics: The figures of both, the gate's decision, and what readers of the figures must know.
    """

    new: Evaluation
    production: Evaluation
    metrics: Metrics


def judge(
    new: Evaluation,
    production: Evaluation,
    split: Split,
    settings: GateSettings,
    *,
    base: tuple[str, Lineage],
    known: Lineage,
) -> Judgement:
    """Ask the gate; what flatters one of the models is added to its reasons.

    Args:
        new: The evaluation of the new model.
        production: That of the model in production, on the same pictures.
        split: The split of these pictures.
        settings: The thresholds of the gate.
        base: The weights that training started from: their name, and what they had learnt from.
        known: What the model in production has learnt from.
    """
    decision = decide(new.figures, production.figures, split, settings)
    plants = [score.picture.group for score in new.scores]
    name, lineage = base
    from_base = lineage.overlap(name, plants)
    from_production = known.overlap(production.card.version, plants)
    warnings = (
        *notices(from_base, from_production, split),
        *unknown_plants([score.picture.origin.plant_known for score in new.scores], split),
    )
    metrics = Metrics(
        split=split,
        new=new.figures,
        production=production.figures,
        gate=Decision(promote=decision.promote, reasons=(*decision.reasons, *warnings)),
        learnt_from={"base": from_base, "production": from_production},
        notices=warnings,
    )
    return Judgement(new, production, metrics)


@stage("describe {making.dataset}")
def describe(judgement: Judgement, trained: Trained, making: Making) -> dict[str, bytes]:
    """Return the files that go beside the weights, by their key below the version's folder.

    Raises:
        PollenError: If a picture can't be read any more.
    """
    charts = draw_charts(judgement.new, judgement.production)
    curves = draw_training(trained.results)
    if curves is not None:
        charts["training.png"] = curves
    metrics = judgement.metrics
    disagreements = draw_disagreements(judgement.new, judgement.production)
    page = render_page(
        PageData(
            new=judgement.new,
            production=judgement.production,
            split=Split(metrics.split),
            charts=charts,
            disagreements=disagreements,
            decision=metrics.gate,
            notices=metrics.notices,
            facts=_facts(making, trained),
        )
    )
    text = card_text(judgement.new.card, making, metrics)
    return {
        "evaluation.html": page.encode(),
        METRICS_NAME: metrics.to_json(),
        TRAINING_NAME: _json(
            {
                "dataset": making.dataset,
                "dataset_version": making.number,
                "manifest": making.manifest.content_id,
                "base": making.base,
                "training_id": making.identity.id,
                "identity": making.identity.model_dump(mode="json"),
                "course": trained.course,
                LEARNT_FROM: making.lineage.model_dump(mode="json"),
                "device": trained.device,
                "negatives": making.negatives,
                "code_version": __version__,
            }
        ),
        "model_card.md": text.encode(),
        "results.csv": trained.results.read_bytes(),
        **{f"charts/{name}": data for name, data in charts.items()},
    }


def _facts(making: Making, trained: Trained) -> Mapping[str, str]:
    return {
        "dataset": f"{making.dataset}, version {making.number}",
        "training": making.identity.id,
        "started from": making.base,
        "course": trained.course,
        "code version": __version__,
    }


def _json(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


class TrainingOutcome(StrEnum):
    """The outcome of a training; the values are the names of final states."""

    PROMOTED = "Completed"
    NOT_PROMOTED = "NotPromoted"
    NOTHING_NEW = "NothingNew"


@dataclass(frozen=True)
class TrainingSummary:
    """The result of a training.

    Attributes:
        version: Of the model.
        outcome: Its outcome.
        reasons: The gate's reasons, and what makes the figures look too good.
        figures: The main figures, in one line.
        place: Address of the model.
        refused: Names of staged zips that were not merged.
    """

    version: str
    outcome: TrainingOutcome
    reasons: tuple[str, ...]
    figures: str
    place: str
    refused: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        plan: TrainingPlan,
        verdict: ModelVerdict,
        outcome: TrainingOutcome,
        lost: str,
        refused: tuple[str, ...],
        *,
        root: str,
    ) -> Self:
        """Return the summary of a training whose model is published.

        Args:
            plan: The training.
            verdict: What the registry says of the model.
            outcome: How the training ended.
            lost: Why the promotion was not carried out; empty if it was, or if the gate refused.
            refused: Names of staged zips that were not merged.
            root: Address of the store that holds the model.
        """
        reasons = verdict.metrics.notices if verdict.gate.promote else verdict.gate.reasons
        return cls(
            version=plan.version,
            outcome=outcome,
            reasons=(lost,) if lost else reasons,
            figures=verdict.figures,
            place=f"{root}/{model_folder(plan.version)}",
            refused=refused,
        )

    @property
    def message(self) -> str:
        """The message of the final state."""
        outcome = {
            TrainingOutcome.PROMOTED: "is now in production",
            TrainingOutcome.NOT_PROMOTED: "was published but not promoted",
            TrainingOutcome.NOTHING_NEW: "was trained from this dataset with these settings before",
        }[self.outcome]
        parts = (f"model {self.version} {outcome}", self.figures, *self.reasons, self._left_out)
        return "; ".join(filter(None, parts))

    @property
    def _left_out(self) -> str:
        """A sentence about the staged zips that were not merged; empty if all were."""
        if not self.refused:
            return ""
        number = len(self.refused)
        more = number - ZIPS_NAMED
        return (
            ("1 staged zip was" if number == 1 else f"{number} staged zips were")
            + f" refused and not merged ({', '.join(self.refused[:ZIPS_NAMED])}"
            + (f" and {more} more" if more > 0 else "")
            + "): the log and the dataset report name what to correct"
        )


def promote_as_decided(plan: TrainingPlan, verdict: ModelVerdict) -> tuple[TrainingOutcome, str]:
    """Promote a published model if the gate allowed it and nobody promoted it yet.

    Returns:
        How the training ends, and why the promotion was not carried out; empty if it was, or if the
        gate refused.

    Raises:
        PollenError: If the store fails.
    """
    if not verdict.is_open:
        known = TrainingOutcome.NOTHING_NEW if plan.published else TrainingOutcome.NOT_PROMOTED
        return known, verdict.lost
    lost = _promote(plan, verdict)
    return TrainingOutcome.NOT_PROMOTED if lost else TrainingOutcome.PROMOTED, lost


def _promote(plan: TrainingPlan, verdict: ModelVerdict) -> str:
    """Put a model into production as the gate decided; return why that failed, empty if it did not.

    Raises:
        PollenError: If the store fails.
    """
    order = Order(
        id=f"training-{plan.version}",  # given twice, it is carried out once
        by=f"training {plan.id}",
        at=datetime.now(UTC),
        note="; ".join(verdict.gate.reasons),
        compared_with=verdict.compared_with,
    )
    try:
        promote(plan.output, plan.version, order)
    except StorageError:
        raise
    except PollenError as error:  # another model was promoted meanwhile
        return str(error)
    return ""
