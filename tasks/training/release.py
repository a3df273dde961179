"""What becomes of a trained model: its page and figures, its place in the registry, its promotion."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Literal

from pollen import __version__
from pollen.dataset.manifest import Split
from pollen.errors import PollenError
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.curves import draw_training
from pollen.evaluation.disagreement import draw_disagreements
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.gate import Decision, GateSettings, decide
from pollen.evaluation.metrics import as_metrics, gate_figures
from pollen.evaluation.page import PageData, render_page
from pollen.layout import METRICS_NAME, TRAINING_NAME, model_folder
from pollen.training.lineage import LEARNT_FROM, Lineage, Overlap, notices, unknown_plants
from pollen.training.model_card import Making, card_text
from tasks.faults import StorageError
from tasks.models.promotions import Order, promote
from tasks.models.publishing import drop_claim
from tasks.models.verdicts import Verdict, read_verdict, record_conclusion
from tasks.stage import stage
from tasks.storage.store import open_store
from tasks.training.checkpoints import drop_checkpoints
from tasks.training.release_artifact import show_model
from tasks.training.train import Trained, TrainingPlan

#: Refused zips that a message names.
ZIPS_NAMED: Final = 5


@dataclass(frozen=True)
class Judgement:
    """Both models' figures on the same pictures, and what the gate says.

    Attributes:
        new: The new model's.
        production: Those of the model that `detect` uses now.
        split: Where they were measured.
        decision: Of the gate.
        overlaps: How much of these pictures the base and the model in production know.
        notices: What a reader of the figures must know, because of that.
    """

    new: Evaluation
    production: Evaluation
    split: Split
    decision: Decision
    overlaps: Mapping[str, Overlap]
    notices: tuple[str, ...]


def judge(
    new: Evaluation,
    production: Evaluation,
    split: Split,
    settings: GateSettings,
    *,
    base: tuple[str, Lineage],
    known: Lineage,
) -> Judgement:
    """Ask the gate; what flatters a model is said beside what the gate says.

    Args:
        new: Figures of the new model.
        production: Of the one in production, on the same pictures.
        split: Where they were measured.
        settings: Of the gate.
        base: What the new one started from: its name, and what it had learnt from.
        known: What the one in production has learnt from.
    """
    place: Literal["test", "val"] = "test" if split is Split.TEST else "val"
    decision = decide(
        gate_figures(new, place),
        gate_figures(production, place),
        settings,
    )
    plants = [score.picture.group for score in new.scores]
    overlaps = {
        "base": Overlap.between(*base, plants),
        "production": Overlap.between(production.card.version, known, plants),
    }
    said = (
        *notices(overlaps["base"], overlaps["production"], place),
        *unknown_plants([score.picture.origin.plant_known for score in new.scores], place),
    )
    told = Decision(decision.promote, (*decision.reasons, *said))
    return Judgement(new, production, split, told, overlaps, said)


@stage("describe {making.dataset}")
def describe(judgement: Judgement, trained: Trained, making: Making) -> dict[str, bytes]:
    """The files that go beside the weights, by their key below the version's folder.

    Raises:
        PollenError: A picture can't be read any more.
    """
    charts = draw_charts(judgement.new, judgement.production)
    curves = draw_training(trained.results)
    if curves is not None:
        charts["training.png"] = curves
    card = judgement.new.card
    disagreements = draw_disagreements(judgement.new, judgement.production)
    page = render_page(
        PageData(
            new=judgement.new,
            production=judgement.production,
            split="test" if judgement.split is Split.TEST else "val",
            charts=charts,
            disagreements=disagreements,
            decision=judgement.decision,
            notices=judgement.notices,
            facts=_facts(making, trained),
        )
    )
    text = card_text(card, making, judgement.new, judgement.split, judgement.decision)
    return {
        "evaluation.html": page.encode(),
        METRICS_NAME: _json(_metrics(judgement)),
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


def _metrics(judgement: Judgement) -> dict[str, object]:
    return {
        "split": str(judgement.split),
        "new": as_metrics(judgement.new),
        "production": as_metrics(judgement.production),
        "gate": {
            "promote": judgement.decision.promote,
            "reasons": list(judgement.decision.reasons),
        },
        LEARNT_FROM: {name: asdict(overlap) for name, overlap in judgement.overlaps.items()},
        "notices": list(judgement.notices),
    }


def _json(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


class TrainingOutcome(StrEnum):
    """How a training ended; the values are the names of final states."""

    PROMOTED = "Completed"
    NOT_PROMOTED = "NotPromoted"
    NOTHING_NEW = "NothingNew"


@dataclass(frozen=True)
class TrainingSummary:
    """What a training leaves behind.

    Attributes:
        version: Of the model.
        outcome: How it ended.
        reasons: What the gate says against it, and what flatters it.
        figures: What was measured, in one line.
        place: Where the model is.
        refused: Names of staged zips that were not merged.
    """

    version: str
    outcome: TrainingOutcome
    reasons: tuple[str, ...]
    figures: str
    place: str
    refused: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """What a state says of the run."""
        said = {
            TrainingOutcome.PROMOTED: "is now in production",
            TrainingOutcome.NOT_PROMOTED: "was published but not promoted",
            TrainingOutcome.NOTHING_NEW: "was trained from this dataset with these settings before",
        }[self.outcome]
        parts = (f"model {self.version} {said}", self.figures, *self.reasons, self._left_out)
        return "; ".join(filter(None, parts))

    @property
    def _left_out(self) -> str:
        """Which staged zips have no part in this; empty where all have."""
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


def conclude(plan: TrainingPlan, refused: tuple[str, ...] = ()) -> TrainingSummary:
    """Promote a published model if the gate let it and nobody did so yet; drop what training left.

    What was decided is read from the registry, so that a run that was stopped between publishing
    and promoting is concluded by the next one, and a model that a person rolled back is not
    promoted again.

    Args:
        plan: The training, whose model is published.
        refused: Names of staged zips that were not merged, for the summary.

    Raises:
        PollenError: The store fails.
    """
    verdict = read_verdict(plan.output, plan.version)
    outcome = TrainingOutcome.NOTHING_NEW if plan.published else TrainingOutcome.NOT_PROMOTED
    lost = verdict.lost
    if verdict.is_open:
        lost = _promote(plan, verdict)
        outcome = TrainingOutcome.NOT_PROMOTED if lost else TrainingOutcome.PROMOTED
    reasons = verdict.notices if verdict.promote else verdict.reasons
    store = open_store(plan.output)
    record_conclusion(store, plan.version, lost)
    drop_checkpoints(store, plan.id)
    drop_claim(store, plan.version)
    summary = TrainingSummary(
        version=plan.version,
        outcome=outcome,
        reasons=(lost,) if lost else reasons,
        figures=verdict.figures,
        place=f"{store.address}/{model_folder(plan.version)}",
        refused=refused,
    )
    show_model(store, plan.version, summary.message, verdict.reasons, verdict.told)
    return summary


def _promote(plan: TrainingPlan, verdict: Verdict) -> str:
    """Put a model into production as the gate said; why that was not done, empty where it was.

    Raises:
        PollenError: The store fails.
    """
    order = Order(
        id=f"training-{plan.version}",  # given twice, it is carried out once
        by=f"training {plan.id}",
        at=datetime.now(UTC),
        note="; ".join(verdict.reasons),
        compared_with=verdict.compared_with,
    )
    try:
        promote(plan.output, plan.version, order)
    except StorageError:
        raise
    except PollenError as error:  # another model was promoted meanwhile
        return str(error)
    return ""
