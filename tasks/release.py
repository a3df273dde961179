"""What becomes of a trained model: its page and figures, its place in the registry, its promotion."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pollen import __version__
from pollen.dataset.manifest import Split
from pollen.evaluation.charts import draw_charts
from pollen.evaluation.curves import draw_training
from pollen.evaluation.disagreement import draw_disagreements
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.metrics import as_metrics, gate_figures
from pollen.evaluation.page import PageData, render_page
from pollen.gate import Decision, GateSettings, decide
from pollen.training.card import Making, card_text
from tasks.stage import stage
from tasks.training import Trained


@dataclass(frozen=True)
class Judgement:
    """Both models' figures on the same pictures, and what the gate says.

    Attributes:
        new: The new model's.
        production: Those of the model in production, where there is one.
        split: Where they were measured.
        decision: Of the gate.
    """

    new: Evaluation
    production: Evaluation | None
    split: Split
    decision: Decision


def judge(
    new: Evaluation, production: Evaluation | None, split: Split, settings: GateSettings
) -> Judgement:
    """Ask the gate."""
    place: Literal["test", "val"] = "test" if split is Split.TEST else "val"
    decision = decide(
        gate_figures(new, place),
        gate_figures(production, place) if production else None,
        settings,
    )
    return Judgement(new, production, split, decision)


@stage("describe {making.dataset}")
def describe(judgement: Judgement, trained: Trained, making: Making) -> dict[str, bytes]:
    """The files that go beside the weights, by their key below the version's folder."""
    charts = draw_charts(judgement.new, judgement.production)
    curves = draw_training(trained.results)
    if curves is not None:
        charts["training.png"] = curves
    card = judgement.new.card
    page = render_page(
        PageData(
            new=judgement.new,
            production=judgement.production,
            split="test" if judgement.split is Split.TEST else "val",
            charts=charts,
            disagreements=draw_disagreements(judgement.new, judgement.production),
            decision=judgement.decision,
            facts=_facts(making),
        )
    )
    text = card_text(card, making, judgement.new, judgement.split, judgement.decision)
    return {
        "evaluation.html": page.encode(),
        "metrics.json": _json(_metrics(judgement)),
        "training.json": _json(
            {
                "dataset": making.dataset,
                "dataset_version": making.number,
                "manifest": making.manifest.content_id,
                "base": making.base,
                "training_id": making.identity.id,
                "identity": making.identity.model_dump(mode="json"),
                "epochs": making.epochs,
                "negatives": making.negatives,
                "code_version": __version__,
            }
        ),
        "model_card.md": text.encode(),
        "results.csv": trained.results.read_bytes(),
        **{f"charts/{name}": data for name, data in charts.items()},
    }


def _facts(making: Making) -> Mapping[str, str]:
    return {
        "dataset": f"{making.dataset}, version {making.number}",
        "training": making.identity.id,
        "started from": making.base,
        "epochs": str(making.epochs),
        "code version": __version__,
    }


def _metrics(judgement: Judgement) -> dict[str, object]:
    return {
        "split": str(judgement.split),
        "new": as_metrics(judgement.new),
        "production": as_metrics(judgement.production) if judgement.production else None,
        "gate": {
            "promote": judgement.decision.promote,
            "reasons": list(judgement.decision.reasons),
        },
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
        reasons: What the gate says.
        figures: One line of figures; empty where nothing was measured now.
        place: Where the model is.
    """

    version: str
    outcome: TrainingOutcome
    reasons: tuple[str, ...]
    figures: str
    place: str

    @property
    def message(self) -> str:
        """What a state says of the run."""
        said = {
            TrainingOutcome.PROMOTED: "is now in production",
            TrainingOutcome.NOT_PROMOTED: "was published but not promoted",
            TrainingOutcome.NOTHING_NEW: "was trained from this dataset with these settings before",
        }[self.outcome]
        reasons = self.reasons if self.outcome is TrainingOutcome.NOT_PROMOTED else ()
        return "; ".join(
            part for part in (f"model {self.version} {said}", self.figures, *reasons) if part
        )


def figures_line(judgement: Judgement) -> str:
    """The figures a person wants first."""
    overall = judgement.new.overall
    error = overall.viability_error
    viability = "unknown" if error is None else f"{error:+.2f} points"
    count = overall.count_error_percent
    counted = "unknown" if count is None else f"{count:.2f} %"
    return f"on {overall.grains} grains of {judgement.split} count error {counted}, viability error {viability}"
