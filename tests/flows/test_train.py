"""Training from staged zips to a model that detection uses, on real S3 and a real Prefect server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State

import flows.train
from flows.train import make_model, train
from pollen.errors import PollenError
from pollen.layout import MODELS, PROMOTIONS, conclusion_key
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.models.promotions import Order, rollback
from tasks.models.resolve import PRODUCTION
from tasks.storage.store import Location, open_store
from tasks.training.release import TrainingOutcome, TrainingSummary
from tests.flows.test_flow_run import artifacts_of, counts_of, detect_in, save_block
from tests.support.labelled import NAMES, export
from tests.support.pictures import picture
from tests.support.runs import objects, upload
from tests.support.training import CLOSED_GATE, OPEN_GATE, request_below, train_settings

pytestmark = pytest.mark.slow

ROOT = "train/whole"
Train = Callable[..., State[Any]]


@pytest.fixture
def run(prefect_server: EmbeddedPrefect, s3_server: EmbeddedS3) -> Train:
    save_block("training", s3_server, ROOT)

    def trained(**values: object) -> State[Any]:
        state = train(
            bucket="training",
            settings=train_settings(),
            gate=OPEN_GATE,
            return_state=True,
            **values,
        )
        return cast("State[Any]", state)

    return trained


def test_staged_zips_become_a_model_that_detection_uses(run: Train, s3_server: EmbeddedS3) -> None:
    upload(s3_server, f"{ROOT}/staging_area", {"labelled.zip": export()})
    upload(s3_server, f"{ROOT}/smudges_raw", {"flake.png": picture(7)})
    upload(s3_server, f"{ROOT}/detect_images", {"1.png": picture(1)})

    state = run()

    assert state.name == "Completed", state.message
    summary: TrainingSummary = state.result()
    assert summary.message == state.message
    assert "is now in production" in str(state.message)
    keys = objects(s3_server, ROOT)
    folder = f"{MODELS}{summary.version}/"
    assert {key.removeprefix(folder) for key in keys if key.startswith(folder)} >= {
        "weights/best.pt",
        "model.json",
        "metrics.json",
        "training.json",
        "model_card.md",
        "evaluation.html",
        "results.csv",
        "charts/confusion.png",
        "charts/counts_bland_altman.png",
    }
    assert "datasets/pollen/versions/000001.json" in keys
    assert "datasets/pollen/reports/000001/dataset_report.html" in keys
    assert [key for key in keys if key.startswith("staging_area/")] == [
        key for key in keys if key.startswith("staging_area/archive/labelled-")
    ]
    assert not [key for key in keys if "checkpoints/" in key]
    artifacts = artifacts_of(state)
    assert set(artifacts) >= {"dataset-summary", "training-summary", "training-progress"}
    assert artifacts["training-progress"].description == state.message
    shown = str(artifacts["training-summary"].data)
    assert "| viability error | " in shown
    assert "| - |" not in shown.split("mAP50, viable", maxsplit=1)[0]
    assert shown.count("![chart](data:image/png;base64,") == 2
    assert "/evaluation.html` ([open](http://" in shown
    assert len(shown) < 90_000

    detected = detect_in(Location(block="training"), PRODUCTION)
    assert detected.name == "Completed", detected.message
    assert counts_of(s3_server, ROOT)["1.png"]["model_version"] == summary.version

    again = run()
    assert again.name == "NothingNew"
    assert again.result().version == summary.version
    after = objects(s3_server, ROOT)
    assert {key for key in after if key.startswith((MODELS, "datasets/"))} == {
        key for key in keys if key.startswith((MODELS, "datasets/"))
    }


def test_what_can_not_be_done_is_a_failed_run_with_the_remedy(
    run: Train, s3_server: EmbeddedS3
) -> None:
    nothing = run(prefix="empty")
    assert nothing.name == "Failed"
    with get_client(sync_client=True) as client:
        known = client.read_flow_run(cast("UUID", nothing.state_details.flow_run_id))
    assert (known.name, known.tags) == ("train pollen in training/empty", ["root:training/empty"])
    assert "no labelled picture" in str(nothing.message)

    name = run(dataset="../other")
    assert name.name == "Failed"
    assert "can't be the name of a dataset" in str(name.message)

    upload(s3_server, f"{ROOT}/base/staging_area", {"labelled.zip": export()})
    base = run(prefix="base", base="yolov8n-seg.pt")
    assert base.name == "Failed"
    assert "yolov8n-seg.yaml to start from random weights" in str(base.message)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Location:
    folder = tmp_path_factory.mktemp("root")
    (folder / "staging_area").mkdir()
    (folder / "staging_area" / "labelled.zip").write_bytes(export())
    return Location(folder=folder)


def test_zips_wait_until_what_was_found_in_them_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evicted(*_: object) -> str:
        raise PollenError("evicted")

    staged = tmp_path / "staging_area" / "labelled.zip"
    staged.parent.mkdir()
    staged.write_bytes(export(NAMES[:2]))
    monkeypatch.setattr(flows.train, "report_dataset", evicted)
    with pytest.raises(PollenError, match="evicted"):
        make_model(request_below(Location(folder=tmp_path)))
    assert staged.exists()


@pytest.fixture(scope="module")
def refused(root: Location) -> TrainingSummary:
    return make_model(request_below(root, gate=CLOSED_GATE))


def promotions(root: Location) -> list[str]:
    return [entry.key for entry in open_store(root).list(PROMOTIONS)]


def test_a_model_the_gate_refuses_is_kept_with_the_reason(
    root: Location, refused: TrainingSummary
) -> None:
    assert refused.outcome is TrainingOutcome.NOT_PROMOTED
    assert "expected at least 10000" in refused.message
    assert not promotions(root)
    store = open_store(root)
    assert store.exists(f"{MODELS}{refused.version}/weights/best.pt")
    metrics = json.loads(store.read(f"{MODELS}{refused.version}/metrics.json"))
    assert metrics["gate"]["promote"] is False
    assert "10000" in store.read(f"{MODELS}{refused.version}/evaluation.html").decode()


def test_a_training_once_more_makes_another_version_and_a_rollback_stands(
    root: Location, refused: TrainingSummary
) -> None:
    request = request_below(root, fresh=True)
    first = make_model(request)
    assert first.outcome is TrainingOutcome.PROMOTED
    assert first.version != refused.version
    second = make_model(request)
    assert second.outcome is TrainingOutcome.PROMOTED
    assert len({refused.version, first.version, second.version}) == 3
    rollback(root, Order.now("looks worse"))
    before = promotions(root)

    again = make_model(request_below(root))

    assert again.outcome is TrainingOutcome.NOTHING_NEW
    assert again.version == second.version
    assert promotions(root) == before


def test_a_run_stopped_between_publishing_and_promoting_is_concluded_by_the_next(
    root: Location, refused: TrainingSummary, tmp_path: Path
) -> None:
    request = request_below(root, settings=train_settings(seed=5))
    published = make_model(request)
    assert published.outcome is TrainingOutcome.PROMOTED
    store = open_store(root)
    store.delete([max(promotions(root)), conclusion_key(published.version)])

    concluded = make_model(request)

    assert concluded.outcome is TrainingOutcome.PROMOTED
    assert concluded.version == published.version
