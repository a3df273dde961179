"""The recipe of the bundled model through the whole story: killed, gone on with, measured, published."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import State

import pollen.training.recipe.stages
from flows.train import make_model, train_here
from pollen.errors import PollenError
from pollen.layout import CHECKPOINTS, MODELS
from pollen.training.recipe.fitting import RecipeStage
from pollen.training.recipe.scenes import SceneMix
from pollen.training.settings import TrainSettings
from tasks.progress import Silent, watched_by
from tasks.storage.store import Location, open_store
from tasks.training.release import TrainingOutcome, TrainingSummary
from tasks.training.request import TrainRequest
from tests.support.labelled import export
from tests.support.training import request_below

pytestmark = pytest.mark.slow

FIRST = RecipeStage(
    "1-first", SceneMix(), side_px=96, scale=0.5, steps=2, batch=2, warmup=1, seed=9
)
SETTINGS = TrainSettings(recipe="bundled", rendered_frames=0, workers=0, device="cpu")


class _KilledError(Exception):
    """Nothing below catches it."""


class Stopping(Silent):
    """Notes the steps, and stops the run at one of them."""

    def __init__(self, stop_at: int = 0) -> None:
        self.stop_at = stop_at
        self.steps: list[int] = []

    def reached(self, done: int, total: int, text: str) -> None:  # noqa: ARG002
        self.steps.append(done)
        if done == self.stop_at:
            raise _KilledError


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainRequest:
    stages = (FIRST, replace(FIRST, name="2-second", mean_every=1))
    monkeypatch.setattr(pollen.training.recipe.stages, "STAGES", stages)
    (tmp_path / "staging_area").mkdir()
    (tmp_path / "staging_area" / "labelled.zip").write_bytes(export())
    return request_below(Location(folder=tmp_path), settings=SETTINGS)


@pytest.mark.usefixtures("prefect_server")
def test_the_bundled_recipe_is_a_training_like_any_other(request_: TrainRequest) -> None:
    store = open_store(request_.output)
    first = Stopping(stop_at=4)
    with watched_by(first), pytest.raises(_KilledError):
        make_model(request_)
    assert first.steps == [2, 4]
    assert [entry for entry in store.list(CHECKPOINTS) if "epoch-000002" in entry.key]

    # As a flow run, and pictures made in processes of their own: how they run is no other training.
    workers = SETTINGS.model_copy(update={"workers": 2})
    second = Stopping()
    with watched_by(second):
        run = request_.model_copy(update={"settings": workers})
        state = cast("State[Any]", train_here(run, return_state=True))
    assert state.is_completed(), state.message
    summary: TrainingSummary = state.result()

    assert second.steps == [4]
    assert summary.outcome is TrainingOutcome.NOT_PROMOTED  # four steps make no good model
    folder = f"{MODELS}{summary.version}/"
    card = json.loads(store.read(f"{folder}model.json"))
    assert (card["task"], card["tile_px"], card["working_scale"]) == ("segment", 96, 0.5)
    told = json.loads(store.read(f"{folder}training.json"))
    assert told["base"] == "yolov8n-seg.yaml"
    assert told["course"].startswith("4 steps of the bundled recipe")
    assert told["identity"]["settings"]["recipe"] == "bundled"
    assert told["learnt_from"]["complete"]
    assert 0 < len(told["learnt_from"]["plants"]) < 6  # those of train, from random weights
    metrics = json.loads(store.read(f"{folder}metrics.json"))
    assert metrics["notices"] == []
    assert metrics["learnt_from"]["production"]["model"] == "bundled-1"
    assert store.exists(f"{folder}charts/training.png")
    assert "4 steps of the bundled recipe" in store.read(f"{folder}model_card.md").decode()
    assert not list(store.list(CHECKPOINTS))

    again = make_model(request_)
    assert again.outcome is TrainingOutcome.NOTHING_NEW


@pytest.mark.parametrize("base", ["yolov8n.yaml", "yolo11n-seg.yaml"])
def test_the_recipe_trains_its_own_network_only(request_: TrainRequest, base: str) -> None:
    with pytest.raises(PollenError, match=r"trains yolov8n-seg\.yaml, not"):
        make_model(request_.model_copy(update={"base": base}))
