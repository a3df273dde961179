"""What becomes of a trained model: the gate's answer and its warnings, its promotion, what is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import flows.train
from flows.train import conclude
from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.manifest import Split
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.gate import GateSettings
from pollen.evaluation.record import Decision
from pollen.layout import METRICS_NAME, checkpoints_folder, model_folder
from pollen.training.base import Base
from pollen.training.identity import TrainingIdentity
from pollen.training.lineage import Lineage
from pollen.training.settings import TrainSettings
from tasks.faults import StorageError
from tasks.models.catalogue import show_model
from tasks.models.promotions import Order, promote, rollback
from tasks.models.publishing import publish
from tasks.models.registry import read_history
from tasks.models.verdicts import ModelVerdict, read_conclusion
from tasks.storage.folders import FolderStore
from tasks.storage.store import Location, open_store
from tasks.training.release import (
    TrainingOutcome,
    TrainingSummary,
    judge,
    promote_as_decided,
)
from tasks.training.train import TrainingPlan
from tests.pollen.evaluation.judging import judged, perfect, picture_of
from tests.pollen.grain_making import discs
from tests.support.models import put_model, stand_in
from tests.support.training import CLOSED_GATE, OPEN_GATE


@pytest.fixture
def evaluation() -> Evaluation:
    pictures: list[LabelledPicture] = [
        picture_of(discs([(40, 40), (200, 200)], 50), f"1-1-A_2x_{slide}_1.png") for slide in "AB"
    ]
    return judged(pictures, [perfect(picture) for picture in pictures])


@pytest.mark.parametrize("gate", [OPEN_GATE, CLOSED_GATE], ids=["open", "closed"])
def test_a_base_that_knows_the_plants_is_named_by_the_gate(
    evaluation: Evaluation, gate: GateSettings
) -> None:
    plants = [score.picture.group for score in evaluation.scores]
    base = "bundled", Lineage().and_of(plants)

    plain = judge(evaluation, evaluation, Split.TEST, gate, base=("x", Lineage()), known=Lineage())
    warned = judge(evaluation, evaluation, Split.TEST, gate, base=base, known=Lineage())

    assert plain.metrics.notices == ()
    assert plain.metrics.gate is not None
    (notice,) = warned.metrics.notices
    assert notice.startswith("the base (bundled) has learnt from the plants of 2 of the 2 pictures")
    assert warned.metrics.gate == Decision(
        promote=plain.metrics.gate.promote, reasons=(*plain.metrics.gate.reasons, notice)
    )
    assert warned.metrics.learnt_from["base"].pictures == 2
    assert warned.metrics.learnt_from["production"].pictures == 0


@pytest.mark.parametrize("split", [Split.TEST, Split.VAL])
def test_the_split_of_the_pictures_is_recorded(evaluation: Evaluation, split: Split) -> None:
    judgement = judge(
        evaluation, evaluation, split, OPEN_GATE, base=("x", Lineage()), known=Lineage()
    )

    assert judgement.metrics.split == split
    assert json.loads(judgement.metrics.to_json())["split"] == split.value


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    """A training whose model was published, and let through by the gate beside `old`, in production."""
    root = Location(folder=tmp_path / "root")
    compared = put_model(root, tmp_path, "old")
    promote(root, "old", Order.now())
    settings = TrainSettings()
    identity = TrainingIdentity.of("manifest", "base", "", settings)
    plan = TrainingPlan(
        identity, "pollen-001", Base("x", "b", "segment", Lineage()), settings, root
    )
    metrics = {
        "split": "test",
        "new": {"overall": {"grains": 500, "count_error_percent": 1, "viability_error": 0.1}},
        "production": {"model": {"sha256": compared.sha256}},
        "gate": {"promote": True, "reasons": ["passed"]},
    }
    publish(root, *stand_in(tmp_path, plan.version), {METRICS_NAME: json.dumps(metrics).encode()})
    open_store(root).write(f"{checkpoints_folder(plan.id)}epoch-000001.json", b"{}")
    return plan


def in_production(plan: TrainingPlan) -> str:
    current = read_history(open_store(plan.output)).current
    assert current is not None
    return current.version


def test_what_the_gate_lets_through_goes_into_production_once(plan: TrainingPlan) -> None:
    summary = conclude(plan)

    assert summary.outcome is TrainingOutcome.PROMOTED
    assert in_production(plan) == plan.version
    assert not list(open_store(plan.output).list(checkpoints_folder(plan.id)))
    rollback(plan.output, Order.now("looks worse"))
    assert conclude(replace(plan, published=True)).outcome is TrainingOutcome.NOTHING_NEW
    assert in_production(plan) == "old"


def test_what_a_person_promoted_and_took_back_stays_back(plan: TrainingPlan) -> None:
    """The training was stopped behind its publishing; a person was there first."""
    promote(plan.output, plan.version, Order.now("try it"))
    rollback(plan.output, Order.now("it is bad"))

    assert conclude(replace(plan, published=True)).outcome is TrainingOutcome.NOTHING_NEW

    assert in_production(plan) == "old"


def test_a_promotion_that_came_too_late_is_told_later_and_not_made_up_for(
    plan: TrainingPlan, tmp_path: Path
) -> None:
    put_model(plan.output, tmp_path, "quick")
    promote(plan.output, "quick", Order.now("by hand"))

    summary = conclude(plan)

    assert summary.outcome is TrainingOutcome.NOT_PROMOTED
    (reason,) = summary.reasons
    assert "'by hand'" in reason
    assert show_model(plan.output, plan.version).lost == reason
    rollback(plan.output, Order.now())
    again = conclude(replace(plan, published=True))
    assert (again.outcome, again.reasons) == (TrainingOutcome.NOTHING_NEW, (reason,))
    assert in_production(plan) == "old"

    promote(plan.output, plan.version, Order.now("I compared them"))
    assert show_model(plan.output, plan.version).lost == ""
    assert conclude(replace(plan, published=True)).reasons == ()


def test_an_end_that_can_not_be_recorded_is_an_end(
    plan: TrainingPlan, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise StorageError("refused access")

    monkeypatch.setattr(FolderStore, "exists", refused)

    assert conclude(plan).outcome is TrainingOutcome.PROMOTED

    assert (
        "can't be recorded, so the next run of this training does it: refused access" in caplog.text
    )
    assert read_conclusion(open_store(plan.output), plan.version) is None


def test_a_summary_does_not_open_the_store_again_after_the_promotion(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise StorageError("refused access")

    def then_nothing_opens(
        plan: TrainingPlan, verdict: ModelVerdict
    ) -> tuple[TrainingOutcome, str]:
        ended = promote_as_decided(plan, verdict)
        monkeypatch.setattr(FolderStore, "__init__", refused)
        return ended

    monkeypatch.setattr(flows.train, "promote_as_decided", then_nothing_opens)

    summary = conclude(plan)

    assert summary.outcome is TrainingOutcome.PROMOTED
    assert summary.place == f"{plan.output.folder}/{model_folder(plan.version)}"


def test_refused_zips_are_named_in_the_message() -> None:
    def message(*refused: str) -> str:
        return TrainingSummary(
            "v1", TrainingOutcome.NOTHING_NEW, (), "figures", "here", refused
        ).message

    assert message().endswith("; figures")
    assert "; 1 staged zip was refused and not merged (a.zip): " in message("a.zip")
    many = message(*(f"{name}.zip" for name in "abcdefg"))
    assert (
        "7 staged zips were refused and not merged (a.zip, b.zip, c.zip, d.zip, e.zip and 2 more)"
        in many
    )
