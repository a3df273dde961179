"""Real trainings of the smallest network on a few rendered pictures."""

import csv
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from pollen.detection.tiling import TileGrid
from pollen.models.card import ModelError
from pollen.synth import FrameSpec, render
from pollen.training.collage import Outline
from pollen.training.examples import Example
from pollen.training.settings import TrainSettings
from pollen.training.tiles import Task, cut, label_text
from pollen.training.ultralytics_run import (
    Checkpoint,
    Epoch,
    TrainingError,
    device_name,
    strip,
    train,
)
from tests.pollen.model_making import Bomb

SIDE_PX = 128
SETTINGS = TrainSettings(
    epochs=3, image_px=SIDE_PX, batch=4, mosaic_closed_epochs=1, device="cpu", warmup_epochs=0
)


class Notes:
    """Keeps what a training tells; stops it after an epoch as a killed process would."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.epochs: list[Epoch] = []
        self.checkpoints: list[Checkpoint] = []

    def epoch_done(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        if epoch.number == self.stop_after:
            raise KeyboardInterrupt

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        kept = self.folder / f"{checkpoint.epoch}"
        kept.mkdir(parents=True)
        for path in (checkpoint.last, checkpoint.best, checkpoint.results):
            (kept / path.name).write_bytes(path.read_bytes())
        self.checkpoints.append(
            Checkpoint(
                checkpoint.epoch,
                checkpoint.ended,
                kept / "last.pt",
                kept / "best.pt",
                kept / "results.csv",
            )
        )


@pytest.fixture(scope="module", params=["segment", "detect"])
def task(request: pytest.FixtureRequest) -> Task:
    chosen: Task = request.param
    return chosen


@pytest.fixture(scope="module")
def data(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number in range(6):
        split = "val" if number > 3 else "train"
        spec = FrameSpec(width_px=SIDE_PX, height_px=SIDE_PX, n_grains=3, touching_fraction=0)
        frame = render(spec, number)
        outlines = (Outline(g.grain_class, np.asarray(g.polygon, np.float32)) for g in frame.grains)
        (tile,) = cut(Example(frame.pixels, tuple(outlines)), TileGrid(SIDE_PX, 1.0, 60))
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tile.pixels).save(folder / "images" / split / f"{number}.png")
        (folder / "labels" / split / f"{number}.txt").write_text(label_text(tile, task))
    names = "names: {0: viable, 1: non_viable}"
    (folder / "data.yaml").write_text(
        f"path: {folder}\ntrain: images/train\nval: images/val\n{names}\n"
    )
    return folder / "data.yaml"


@pytest.fixture(scope="module")
def base(task: Task) -> str:
    return "yolov8n-seg.yaml" if task == "segment" else "yolov8n.yaml"


def loaded(path: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return state


def test_a_training_stopped_in_the_middle_goes_on_where_it_was(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    first = Notes(tmp_path / "kept", stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        train(base, task, data, tmp_path / "one", SETTINGS, first)
    assert [epoch.number for epoch in first.epochs] == [1, 2]
    assert first.epochs[0].of == 3

    second = Notes(tmp_path / "kept-2")
    # Another machine: none of the first run's files but the checkpoint's.
    done = train(base, task, data, tmp_path / "two", SETTINGS, second, first.checkpoints[-1])

    assert [epoch.number for epoch in second.epochs] == [3]
    assert done.ended
    assert done.epoch == 3
    with done.results.open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    before, after = (loaded(n.checkpoints[-1].last) for n in (first, second))
    assert after["updates"] > before["updates"]
    moments = [next(iter(s["optimizer"]["state"].values()))["step"] for s in (before, after)]
    assert float(moments[1]) > float(moments[0])  # the optimiser went on, too


def test_a_checkpoint_that_holds_code_is_refused_and_none_of_it_runs(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    import torch

    harm = tmp_path / "harm"
    torch.save({"model": Bomb(harm), "epoch": 1}, tmp_path / "last.pt")
    planted = Checkpoint(1, ended=False, last=tmp_path / "last.pt", best=data, results=data)
    with pytest.raises(ModelError, match=r"last\.pt: the model is made to 'posix\.mkdir'"):
        train(base, task, data, tmp_path / "run", SETTINGS, Notes(tmp_path), planted)
    assert not harm.exists()


def test_options_come_from_the_settings_and_not_from_the_checkpoint(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    first = Notes(tmp_path / "kept", stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        train(base, task, data, tmp_path / "one", SETTINGS, first)
    kept = first.checkpoints[-1]
    state = loaded(kept.last)
    state["train_args"] |= {"epochs": 9, "lr0": 0.9, "distill_model": "http://127.0.0.1:9/x.pt"}
    import torch

    torch.save(state, kept.last)
    second = Notes(tmp_path / "kept-2")
    done = train(base, task, data, tmp_path / "two", SETTINGS, second, kept)
    assert (done.epoch, second.epochs[-1].of) == (3, 3)
    arguments = loaded(second.checkpoints[-1].last)["train_args"]
    assert (arguments["lr0"], arguments["distill_model"]) == (SETTINGS.learning_rate, None)


def test_a_training_that_ended_is_not_begun_again(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    ended = Checkpoint(3, ended=True, last=data, best=data, results=data)
    notes = Notes(tmp_path)

    assert train(base, task, data, tmp_path, SETTINGS, notes, ended) is ended
    assert not notes.epochs


def test_stripped_weights_are_a_model_and_tell_nothing_of_the_machine(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    notes = Notes(tmp_path / "kept")
    done = train(
        base, task, data, tmp_path / "run", SETTINGS.model_copy(update={"epochs": 1}), notes
    )

    strip(done.best, tmp_path / "best.pt")
    strip(done.best, tmp_path / "again.pt")

    from ultralytics.models import YOLO

    model = YOLO(tmp_path / "best.pt")
    assert model.task == task
    assert model.names == {0: "viable", 1: "non_viable"}
    raw = (tmp_path / "best.pt").read_bytes()
    assert str(tmp_path).encode() not in raw
    assert str(data.parent).encode() not in raw
    assert raw == (tmp_path / "again.pt").read_bytes()
    assert (tmp_path / "best.pt").stat().st_size < done.best.stat().st_size / 2


def breaking(monkeypatch: pytest.MonkeyPatch, error: Exception, *, above: int = 0) -> None:
    """Let the first forward passes of batches of more than ``above`` pictures end in an error."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    real: Any = DetectionTrainer.preprocess_batch

    def preprocess(trainer: Any, batch: Any) -> Any:  # noqa: ANN401
        if len(batch["img"]) > above:
            raise error
        return real(trainer, batch)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", preprocess)


def test_a_batch_that_does_not_fit_is_told_and_never_halved_silently(
    task: Task, base: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics would train with batches of two; the model would not be that of its settings."""
    breaking(monkeypatch, RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), above=2)
    notes = Notes(tmp_path / "kept")
    with pytest.raises(TrainingError, match=r"batches of 4 pictures of 128 px: lower batch \(to 2"):
        train(base, task, data, tmp_path / "run", SETTINGS, notes)
    assert not notes.checkpoints


def test_a_batch_larger_than_the_dataset_is_no_fault(
    task: Task, base: str, data: Path, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1, "batch": 64})
    assert train(base, task, data, tmp_path / "run", settings, Notes(tmp_path / "kept")).ended


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("Training failed: NaN persisted for 4 epochs"), "lower learning_rate"),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "run again"),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "lower workers"),
        (
            RuntimeError(
                "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
                "workers are out of shared memory."
            ),
            "/dev/shm",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed"),
            "make room",
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "last.pt"), "make room, or set TMPDIR"),
    ],
    ids=["nan", "cuda", "killed worker", "shared memory", "writer", "disk"],
)
def test_known_errors_come_with_their_remedy(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    breaking(monkeypatch, error)
    with pytest.raises(TrainingError, match=remedy) as told:
        train("yolov8n.yaml", "detect", data, tmp_path, SETTINGS, Notes(tmp_path))
    assert told.value.__cause__ is error
    assert str(error) in str(told.value)


def test_an_error_of_unknown_cause_stays_what_it_is(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking(monkeypatch, RuntimeError("shape '[3]' is invalid"))
    with pytest.raises(RuntimeError, match="shape") as told:
        train("yolov8n.yaml", "detect", data, tmp_path, SETTINGS, Notes(tmp_path))
    assert not isinstance(told.value, TrainingError)


@pytest.mark.parametrize(
    ("device", "driver", "torch_can", "chosen"),
    [
        ("auto", False, False, "cpu"),
        ("auto", True, True, "0"),
        ("auto", True, False, None),
        ("cuda", True, False, None),
        ("cpu", True, False, "cpu"),
    ],
)
def test_a_gpu_that_pytorch_can_not_use_is_told_and_the_cpu_not_taken_instead(
    monkeypatch: pytest.MonkeyPatch, device: str, driver: bool, torch_can: bool, chosen: str | None
) -> None:
    import torch

    monkeypatch.setattr("pollen.training.ultralytics_run.cuda_present", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: torch_can)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "0")
    settings = TrainSettings.model_validate({"device": device})
    if chosen is None:
        with pytest.raises(TrainingError, match="install a PyTorch made for its driver, or set"):
            device_name(settings)
    else:
        assert device_name(settings).startswith(chosen)


@pytest.mark.parametrize("field", sorted(TrainSettings.model_fields))
def test_every_setting_reaches_an_identity_or_only_the_run(field: str) -> None:
    learnt = SETTINGS.learnt_from() | TrainSettings(recipe="bundled").learnt_from()

    assert (field in learnt) != (field in TrainSettings.RUN_ONLY)


def test_a_setting_of_one_recipe_says_nothing_about_trainings_of_the_other() -> None:
    ours = TrainSettings(recipe="bundled").learnt_from()

    assert set(ours) == {"recipe", "recipe_share", "rendered_frames", "negatives", "seed"}
    assert set(ours) & set(SETTINGS.learnt_from()) == {"negatives", "seed"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"recipe": "bundled", "epochs": 5, "image_px": 320}, "epochs, image_px: not used"),
        ({"rendered_frames": 3}, "rendered_frames: not used by recipe ultralytics"),
    ],
)
def test_settings_that_a_recipe_does_not_look_at_are_refused(
    values: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        TrainSettings.model_validate(values)

    every = TrainSettings().model_dump()  # a form gives all of them
    assert TrainSettings.model_validate(every | {"recipe": "bundled"}).recipe == "bundled"
