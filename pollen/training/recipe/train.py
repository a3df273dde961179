"""Train by the recipe of the bundled model (`recipe: bundled`): its stages, one after the other.

A training that was killed resumes from its last checkpoint, with exactly the scenes that it would have seen.
"""

import csv
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pollen.detection.threads import keep_to_quota
from pollen.models.weights import load_state, quiet_ultralytics
from pollen.training.examples import Example
from pollen.training.recipe.fitting import FitOptions, Fitter, RecipeStage, checkpoint_of
from pollen.training.recipe.network import new_network
from pollen.training.recipe.rendered import render_split
from pollen.training.recipe.scenes import SceneMaker, prepare
from pollen.training.recipe.stages import RENDERED_SEED, SEEDS_APART, stages_of
from pollen.training.recipe.states import start_weights
from pollen.training.settings import TrainSettings
from pollen.training.ultralytics_run import (
    Checkpoint,
    Epoch,
    TrainingError,
    Watcher,
    chosen_device,
    explained,
)

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

TABLE_NAME = "results.csv"


def train_recipe(
    pictures: Sequence[Example],
    folder: Path,
    settings: TrainSettings,
    watcher: Watcher,
    start: Path | None = None,
    resume: Checkpoint | None = None,
) -> Checkpoint:
    """Train through all stages, each from the result of the one before.

    Args:
        pictures: Of the train split.
        folder: Where the run keeps its files; a checkpoint that is there is gone on from.
        settings: Steps, seed, rendered frames, and how to run.
        watcher: Hears of every fifty steps, and of checkpoints.
        start: Weights of YOLOv8n-seg to start from, whose hash was checked; random ones without.
        resume: Goes on from here instead.

    Returns:
        The last checkpoint; its weights are for `pollen.training.recipe.states.write_result`.

    Raises:
        TrainingError: If the training broke off for a known cause (memory, disk, GPU), or no grain is
            whole in any picture.
        ModelError: If `start` is another network.
    """
    quiet_ultralytics(folder / "ultralytics")
    if resume is not None and resume.ended:
        return resume
    import torch

    keep_to_quota(torch)
    stages = stages_of(settings)
    if resume is not None:
        _bring_back(resume, stages, folder)
    with explained():
        options = _options(settings)
        logger.info("%d pictures: cutting out grains and debris", len(pictures))
        real = [prepare(picture) for picture in pictures]
        if not any(stock.grains for stock in real):
            raise TrainingError(
                "no picture of the train split shows a whole labelled grain, and the bundled recipe pastes whole "
                "grains: label pictures that show some, or set recipe: ultralytics"
            )
        rendered = render_split(
            folder / "rendered",
            settings.rendered_frames,
            RENDERED_SEED + SEEDS_APART * settings.seed,
            options.workers,
        )

        def maker(stage: RecipeStage) -> SceneMaker:
            return SceneMaker(real, rendered, stage.mix, stage.side_px, stage.scale, stage.seed)

        course = _Course(stages, folder, watcher)
        weights = start_weights(start) if start else None
        return _run(stages, maker, course, options, weights, seed=1 + settings.seed)


def _options(settings: TrainSettings) -> FitOptions:
    device, _ = chosen_device(settings)
    cores = len(os.sched_getaffinity(0))
    return FitOptions(
        workers=min(settings.workers, cores), device="cpu" if device == "cpu" else f"cuda:{device}"
    )


def _bring_back(resume: Checkpoint, stages: Sequence[RecipeStage], folder: Path) -> None:
    """Put a checkpoint where its stage looks for it."""
    state = load_state(resume.last)
    stage = next(stage for stage in stages if stage.name == state["name"])
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(resume.last, checkpoint_of(stage, folder))
    shutil.copyfile(resume.results, folder / TABLE_NAME)


def _run(
    stages: Sequence[RecipeStage],
    maker: Callable[[RecipeStage], SceneMaker],
    course: "_Course",
    options: FitOptions,
    start: "dict[str, torch.Tensor] | None",
    seed: int,
) -> Checkpoint:
    """Run the stages from the newest one that has a checkpoint."""
    begun = [
        place for place, one in enumerate(stages) if checkpoint_of(one, course.folder).exists()
    ]
    weights = start
    for stage in stages[max(begun, default=0) :]:
        network = new_network(seed)
        if weights is not None:
            network.load_state_dict(weights)
        fitter = Fitter(network, stage, maker(stage), course.folder, options, course)
        fitter.resume()
        course.go_on(fitter)
        if fitter.step < stage.steps:
            fitter.run()
        weights = fitter.result()
    return course.checkpoint(fitter)


class _Course:
    """The course through all stages: tells a watcher, and keeps a table of it."""

    def __init__(self, stages: Sequence[RecipeStage], folder: Path, watcher: Watcher) -> None:
        self.folder = folder
        self._stages = stages
        self._watcher = watcher
        self._table = folder / TABLE_NAME
        self._begun: tuple[float, float] | None = None

    def go_on(self, fitter: Fitter) -> None:
        """Begin or resume a stage: rows beyond its step are of a killed run, and are removed."""
        done = self._done(fitter)
        if self._begun is None:
            self._begun = time.monotonic(), self._work(fitter)
        if self._table.exists():
            head, *rows = self._table.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if int(row.partition(",")[0]) <= done]
            self._table.write_text("\n".join([head, *kept, ""]), encoding="utf-8")

    def _before(self, fitter: Fitter) -> Sequence[RecipeStage]:
        return self._stages[: self._stages.index(fitter.stage)]

    def _done(self, fitter: Fitter) -> int:
        """Return the steps done, over all stages."""
        return sum(stage.steps for stage in self._before(fitter)) + fitter.step

    def _work(self, fitter: Fitter) -> float:
        """Return the work done in pixels: larger scenes take longer."""
        return sum(map(_pixels, self._before(fitter))) + _pixels(fitter.stage, fitter.step)

    def _seconds_left(self, fitter: Fitter) -> float:
        began, before = self._begun or (time.monotonic(), 0.0)
        left = sum(map(_pixels, self._stages)) - self._work(fitter)
        return left * (time.monotonic() - began) / max(self._work(fitter) - before, 1.0)

    def reported(self, fitter: Fitter, losses: dict[str, float]) -> None:
        """See `pollen.training.recipe.fitting.FitWatcher`."""
        done = self._done(fitter)
        head = ["step", "stage", *(f"train/{name}" for name in losses)]
        is_new = not self._table.exists()
        with self._table.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(head)
            writer.writerow([done, fitter.stage.name, *(f"{v:.5f}" for v in losses.values())])
        self._watcher.epoch_done(
            Epoch(
                number=done,
                of=sum(stage.steps for stage in self._stages),
                losses=losses,
                map50=None,
                map50_95=None,
                seconds_left=self._seconds_left(fitter),
                unit="step",
            )
        )

    def saved(self, fitter: Fitter) -> None:
        """See `pollen.training.recipe.fitting.FitWatcher`."""
        self._watcher.checkpoint(self.checkpoint(fitter))

    def checkpoint(self, fitter: Fitter) -> Checkpoint:
        """Return what a training needs to resume: one file holds the last state and the best."""
        last_stage = fitter.stage == self._stages[-1]
        return Checkpoint(
            epoch=self._done(fitter),
            ended=last_stage and fitter.step == fitter.stage.steps,
            last=fitter.checkpoint,
            best=fitter.checkpoint,
            results=self._table,
        )


def _pixels(stage: RecipeStage, steps: int | None = None) -> float:
    return float(stage.steps if steps is None else steps) * stage.batch * stage.side_px**2
