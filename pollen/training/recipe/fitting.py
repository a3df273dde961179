"""One stage of training: steps, learning rate, moving average, checkpoints to go on from."""

import logging
import math
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pollen.models.weights import load_state
from pollen.training.recipe.collating import batches
from pollen.training.recipe.network import batch_loss
from pollen.training.recipe.scenes import SceneMaker, SceneMix

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecipeStage:
    """A stretch of training with one kind of scenes.

    Attributes:
        name: Also the name of its checkpoint.
        mix: What scenes are made of.
        side_px: Side of a scene.
        scale: Scene pixels per picture pixel.
        steps: Optimiser steps.
        batch: Scenes per step.
        rate: Learning rate at the start, after warm-up.
        last_rate: Learning rate at the end (cosine between).
        warmup: Steps over which the learning rate rises from 0.
        mask_ratio: Scene pixels per mask pixel in the loss.
        seed: Start of the scenes' randomness.
        mean_every: The stage's result is the mean of the running averages after so many steps each;
            0: the running average at its end.
    """

    name: str
    mix: SceneMix
    side_px: int
    scale: float
    steps: int
    batch: int = 8
    rate: float = 1e-3
    last_rate: float = 1e-3
    warmup: int = 100
    mask_ratio: int = 4
    seed: int = 0
    mean_every: int = 0

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step."""
        progress = min(step / max(self.steps, 1), 1.0)
        cosine = (1 + math.cos(math.pi * progress)) / 2
        return (self.last_rate + (self.rate - self.last_rate) * cosine) * min(
            1.0, (step + 1) / max(self.warmup, 1)
        )


@dataclass(frozen=True)
class FitOptions:
    """Options of a stage's run; none of them changes what is learnt.

    Attributes:
        workers: Processes that make scenes.
        save_every: Steps between checkpoints.
        bfloat16: Forward and backward in bfloat16.
        device: Where PyTorch computes.
    """

    workers: int = 2
    save_every: int = 50
    bfloat16: bool = True
    device: str = "cpu"


class FitWatcher(Protocol):
    """Hears how a stage goes on; what it raises ends the training."""

    def reported(self, fitter: "Fitter", losses: dict[str, float]) -> None:
        """Take note of more steps; `losses` are running means by name."""

    def saved(self, fitter: "Fitter") -> None:
        """Take note of a written state; its file is replaced by the next one."""


class Fitter:
    """Trains one stage and can be killed at any time: it goes on from its last checkpoint."""

    def __init__(
        self,
        network: Any,  # noqa: ANN401 - Ultralytics gives no types
        stage: RecipeStage,
        maker: SceneMaker,
        folder: Path,
        options: FitOptions,
        watcher: FitWatcher | None = None,
    ) -> None:
        import torch
        from ultralytics.utils.torch_utils import ModelEMA

        self.stage, self.maker, self.folder, self.options = stage, maker, folder, options
        self.watcher = watcher
        self.network = network.to(options.device, memory_format=torch.channels_last)
        self.optimizer = _optimizer(self.network, stage.rate)
        averaging: Any = ModelEMA
        self.average = averaging(self.network)
        self.average.decay = averaging_decay
        self.mean: dict[str, torch.Tensor] = {}
        self.means = 0
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint(self) -> Path:
        """The file of this stage's state."""
        return checkpoint_of(self.stage, self.folder)

    def result(self) -> "dict[str, torch.Tensor]":
        """Return the weights that result from the stage, see `RecipeStage.mean_every`."""
        state: dict[str, torch.Tensor] = self.average.ema.state_dict()
        return self.mean if self.means else state

    def resume(self) -> None:
        """Resume from the stage's own checkpoint if there is one."""
        if not self.checkpoint.exists():
            return
        state = load_state(self.checkpoint)
        self.network.load_state_dict(state["network"])
        self.average.ema.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean, self.means = state["mean"], state["means"]
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("%s: resumes at step %d of %d", self.stage.name, self.step, self.stage.steps)

    def run(self) -> None:
        """Train to the end of the stage."""
        stage = self.stage
        stream = batches(
            self.maker,
            start=self.step * stage.batch,
            stop=stage.steps * stage.batch,
            batch_size=stage.batch,
            mask_ratio=stage.mask_ratio,
            workers=self.options.workers,
        )
        self.network.train()
        before, shown = time.monotonic(), dict[str, float]()
        for batch in stream:
            parts = self._one_step(batch)
            shown = {k: 0.98 * shown.get(k, v) + 0.02 * v for k, v in parts.items()}
            now = time.monotonic()
            self.seconds, before = self.seconds + now - before, now
            if self.step % 50 == 0 or self.step == stage.steps:
                self._report(shown)
            if self.step % self.options.save_every == 0 or self.step == stage.steps:
                self.save()

    def _one_step(self, batch: dict[str, "torch.Tensor"]) -> dict[str, float]:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = self.stage.rate_at(self.step)
        batch = {name: part.to(self.options.device) for name, part in batch.items()}
        batch["img"] = batch["img"].float() / 255
        loss, parts = batch_loss(self.network, batch, bfloat16=self.options.bfloat16)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 10.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network)
        self.step += 1
        if self.stage.mean_every and self.step % self.stage.mean_every == 0:
            self._take_into_mean()
        return parts

    def _take_into_mean(self) -> None:
        """Take the running average into the mean; whole numbers are taken as they are."""
        self.means += 1
        for name, value in self.average.ema.state_dict().items():
            if self.means > 1 and value.is_floating_point():
                self.mean[name] += (value.cpu() - self.mean[name]) / self.means
            else:
                self.mean[name] = value.cpu().clone()

    def _report(self, parts: dict[str, float]) -> None:
        losses = " ".join(f"{name}={value:.3f}" for name, value in parts.items() if value)
        logger.info(
            "%s step %d/%d rate %.5f %s %.2f s/step",
            self.stage.name,
            self.step,
            self.stage.steps,
            self.stage.rate_at(self.step),
            losses,
            self.seconds / self.step,
        )
        if self.watcher is not None:
            self.watcher.reported(self, parts)

    def save(self) -> None:
        """Write the state beside its place, then move it there: never half a checkpoint."""
        import torch

        state: dict[str, Any] = {
            "network": self.network.state_dict(),
            "average": self.average.ema.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "mean": self.mean,
            "means": self.means,
            "step": self.step,
            "seconds": self.seconds,
            "name": self.stage.name,
            "stage": repr(asdict(self.stage)),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)
        if self.watcher is not None:
            self.watcher.saved(self)


def checkpoint_of(stage: RecipeStage, folder: Path) -> Path:
    """Return the file of a stage's state."""
    return folder / f"{stage.name}.pt"


def averaging_decay(updates: int) -> float:
    """Return the share of the running average that an update keeps: it spans the last quarter of a stage.

    Ultralytics' own ramp hardly averages during the first thousands of updates, and from one
    hundred steps to the next the wrong classes of unaveraged weights double.
    """
    return min(0.999, (1 + updates) / (5 + updates))


def _optimizer(network: Any, rate: float) -> "torch.optim.Optimizer":  # noqa: ANN401
    """Return AdamW without weight decay on biases and normalisation."""
    import torch

    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999))
