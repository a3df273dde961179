"""The recipe of the bundled model as a training like any other: watched, killed, gone on with, finished."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pollen.bundled
import pollen.training.recipe.stages
from pollen.dataset.labelled import LabelledPicture
from pollen.models.card import ModelError
from pollen.training.examples import Example, example_of
from pollen.training.recipe.fitting import RecipeStage
from pollen.training.recipe.scenes import SceneMix
from pollen.training.recipe.stages import STAGES, stages_of
from pollen.training.recipe.states import start_weights, write_result
from pollen.training.recipe.train import train_recipe
from pollen.training.settings import TrainSettings
from pollen.training.ultralytics_run import Checkpoint, Epoch, TrainingError
from tests.pollen.model_making import write_model
from tests.support.labelled import SIDE_PX, labelled

SETTINGS = TrainSettings(recipe="bundled", rendered_frames=1, workers=0, device="cpu")
SHIPPED = Path(pollen.bundled.__file__).parent / "best.pt"


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> tuple[RecipeStage, ...]:
    """Two stages of two steps each."""
    first = RecipeStage(
        "1-first", SceneMix(real=1, rendered=1), 64, 0.5, steps=2, batch=2, warmup=1, seed=9
    )
    few = (first, replace(first, name="2-second", seed=10, mean_every=1))
    monkeypatch.setattr(pollen.training.recipe.stages, "STAGES", few)
    return few


class Notes:
    """Keeps what a training tells; stops it behind a step as a killed process would."""

    def __init__(self, folder: Path, stop_at: int | None = None) -> None:
        self.folder, self.stop_at = folder, stop_at
        self.epochs: list[Epoch] = []
        self.checkpoints: list[Checkpoint] = []

    def epoch_done(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if epoch.number == self.stop_at:
            raise KeyboardInterrupt

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        kept = self.folder / f"{checkpoint.epoch}"
        kept.mkdir(parents=True)
        for name, path in (("last", checkpoint.last), ("results", checkpoint.results)):
            (kept / name).write_bytes(path.read_bytes())
        self.checkpoints.append(
            replace(checkpoint, last=kept / "last", best=kept / "last", results=kept / "results")
        )


@pytest.mark.slow
def test_a_recipe_stopped_in_the_middle_goes_on_elsewhere_and_ends(
    pictures: list[Example], tmp_path: Path
) -> None:
    first = Notes(tmp_path / "kept", stop_at=4)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(pictures, tmp_path / "one", SETTINGS, first)
    (kept,) = first.checkpoints
    assert (kept.epoch, kept.ended) == (2, False)

    second = Notes(tmp_path / "kept-2")
    # Another machine: none of the first run's files but the checkpoint's.
    done = train_recipe(pictures, tmp_path / "two", SETTINGS, second, resume=kept)

    assert [epoch.number for epoch in second.epochs] == [4]
    assert (done.epoch, done.ended) == (4, True)
    with done.results.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]
    assert second.epochs[0].sentence.startswith("step 4 of 4: losses ")
    assert train_recipe([], tmp_path, SETTINGS, second, resume=done) is done

    write_result(done.best, tmp_path / "best.pt")
    write_result(done.best, tmp_path / "again.pt")
    assert (tmp_path / "best.pt").read_bytes() == (tmp_path / "again.pt").read_bytes()
    state = torch.load(done.best, weights_only=True)
    assert state["means"] == 2
    name = "model.0.conv.weight"
    written = start_weights(tmp_path / "best.pt")
    torch.testing.assert_close(written[name], state["mean"][name], rtol=2e-3, atol=1e-4)
    assert not torch.equal(state["mean"][name], state["average"][name])


@pytest.mark.slow
def test_what_a_killed_run_told_beyond_its_checkpoint_is_told_once(
    pictures: list[Example], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_recipe(pictures, tmp_path / "run", SETTINGS, Notes(tmp_path / "kept", stop_at=4))

    done = train_recipe(pictures, tmp_path / "run", SETTINGS, Notes(tmp_path / "kept-2"))

    with done.results.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["2", "4"]


@pytest.mark.slow
def test_weights_to_start_from_are_taken_and_others_refused(
    pictures: list[Example], tmp_path: Path, stages: tuple[RecipeStage, ...]
) -> None:
    notes = Notes(tmp_path / "kept", stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(pictures, tmp_path / "run", SETTINGS, notes, start=SHIPPED)
    loss = sum(notes.epochs[0].losses.values())
    fresh = Notes(tmp_path / "fresh", stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        train_recipe(pictures, tmp_path / "run-2", SETTINGS, fresh)
    assert loss < sum(fresh.epochs[0].losses.values())

    write_model(tmp_path / "other.pt", "yolov8n.yaml")
    with pytest.raises(ModelError, match="expected YOLOv8n-seg for 2 classes"):
        start_weights(tmp_path / "other.pt")


def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"no weights")
    with pytest.raises(ModelError, match=r"other\.pt can't be loaded as a YOLO model"):
        start_weights(tmp_path / "other.pt")


def test_pictures_without_a_whole_grain_are_told(pictures: list[Example], tmp_path: Path) -> None:
    bare = [replace(picture, outlines=()) for picture in pictures]
    with pytest.raises(TrainingError, match="label pictures that show some"):
        train_recipe(bare, tmp_path, SETTINGS, Notes(tmp_path))


def test_stages_are_those_of_the_shipped_model_unless_a_trial_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pollen.training.recipe.stages, "STAGES", STAGES)
    assert stages_of(TrainSettings(recipe="bundled")) == STAGES
    assert sum(stage.steps for stage in STAGES) == 10_600  # the settings say so

    trial = stages_of(TrainSettings(recipe="bundled", recipe_share=0.01, seed=2))

    assert [stage.steps for stage in trial] == [6, 12, 10, 62, 17]
    assert [stage.mean_every for stage in trial] == [0, 0, 0, 0, 5]
    assert [stage.seed for stage in trial] == [2011, 2012, 2013, 2014, 2015]
    assert min(s.steps for s in stages_of(TrainSettings(recipe="bundled", recipe_share=1e-6))) == 1


def test_of_a_picture_of_a_dataset_unsure_grains_are_covered(tmp_path: Path) -> None:
    picture, label = labelled(1)
    (tmp_path / "1.png").write_bytes(picture)
    unsure = "2" + label.splitlines()[0][1:]
    text = "\n".join([unsure, *label.splitlines()[1:]])
    file = LabelledPicture("1-3-F_4x_A.png", tmp_path / "1.png", text, (SIDE_PX, SIDE_PX))

    taken = example_of(file)

    assert len(taken.outlines) == len(label.splitlines()) - 1
    assert (taken.pixels != file.pixels()).any()  # the unsure one is covered
