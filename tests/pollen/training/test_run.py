"""Real trainings of the smallest network on a few rendered pictures."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pollen.collage import Outline
from pollen.synth import FrameSpec, render
from pollen.tiling import TileGrid
from pollen.training.pieces import Task, cut
from pollen.training.run import Checkpoint, Epoch, strip, train
from pollen.training.settings import TrainSettings

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
        outlines = [Outline(g.grain_class, np.asarray(g.polygon, np.float32)) for g in frame.grains]
        (piece,) = cut(frame.pixels, outlines, TileGrid(SIDE_PX, 1.0, 60))
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(piece.pixels).save(folder / "images" / split / f"{number}.png")
        (folder / "labels" / split / f"{number}.txt").write_text(piece.label_text(task))
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


@pytest.mark.parametrize("field", sorted(TrainSettings.model_fields))
def test_every_setting_reaches_the_identity_or_only_the_run(field: str) -> None:
    learnt = SETTINGS.learnt_from()

    assert (field in learnt) != (field in TrainSettings.RUN_ONLY)
