"""The training run itself: Ultralytics with our settings, checkpoints handed out, and goes on from one."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pollen.detection.gpu import cuda_present
from pollen.detection.threads import keep_to_quota
from pollen.errors import PollenError
from pollen.models.card import ModelError
from pollen.models.checkpoint_file import plain, read_file
from pollen.models.weights import (
    openable,
    quiet_ultralytics,
    read_weights,
    weights_in,
    write_weights,
)
from pollen.training.settings import TrainSettings
from pollen.training.tiles import Task


class TrainingError(PollenError):
    """A training that can't go on; the message says what to do."""


@dataclass(frozen=True)
class Epoch:
    """The outcome of one epoch, or of some steps.

    Attributes:
        number: From 1.
        of: How many are planned.
        losses: Mean training losses by name.
        map50: Box mAP50 on the val split, classes together; None: not measured while training.
        map50_95: Box mAP50-95 on it.
        seconds_left: Until the planned end, by the mean of this run.
        unit: What is numbered.
    """

    number: int
    of: int
    losses: dict[str, float]
    map50: float | None
    map50_95: float | None
    seconds_left: float
    unit: Literal["epoch", "step"] = "epoch"

    @property
    def sentence(self) -> str:
        """One line for people."""
        losses = ", ".join(f"{name} {value:.3f}" for name, value in self.losses.items())
        reached = (
            ""
            if self.map50 is None or self.map50_95 is None
            else f"mAP50 {self.map50:.3f}, mAP50-95 {self.map50_95:.3f}; "
        )
        return (
            f"{self.unit} {self.number} of {self.of}: {reached}losses {losses}; "
            f"about {_duration(self.seconds_left)} left"
        )


@dataclass(frozen=True)
class Checkpoint:
    """Everything a training needs to go on.

    Attributes:
        epoch: Epochs (or steps) completed.
        ended: No further epoch is to come.
        last: State after the last epoch, with the optimiser's.
        best: State after the best epoch so far.
        results: Table of losses and metrics by epoch.
    """

    epoch: int
    ended: bool
    last: Path
    best: Path
    results: Path


class Watcher(Protocol):
    """Receives what happens during a training, in its thread; what it raises ends the training."""

    def epoch_done(self, epoch: Epoch) -> None:
        """Take note of an epoch that has ended."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Take note of a state that may be kept; the next epoch overwrites its files."""


def train(
    base: str,
    task: Task,
    data: Path,
    folder: Path,
    settings: TrainSettings,
    watcher: Watcher,
    resume: Checkpoint | None = None,
) -> Checkpoint:
    """Train a model.

    Args:
        base: Weights whose hash was checked, or the name of an untrained architecture (`.yaml`).
        task: What the model is to learn.
        data: The dataset's description (`data.yaml`); its pictures are `settings.image_px` wide.
        folder: Where the run keeps its files.
        settings: How to train.
        watcher: Hears of every epoch and checkpoint.
        resume: Goes on from here.

    Returns:
        The last checkpoint.

    Raises:
        TrainingError: If the training broke off for a known cause (memory, disk, GPU, numbers), or came to nothing.
        ModelError: If the checkpoint to resume from can't be loaded, or holds more than a network.
    """
    if resume is not None and resume.ended:
        return resume
    quiet_ultralytics(folder / "ultralytics")
    import torch

    keep_to_quota(torch)
    if base.endswith(".pt"):
        base = str(write_weights(read_weights(Path(base)), folder / "base.pt", half=False))
    options = _options(base, data, folder, settings)
    if resume is not None:
        last = str(_written_anew(resume.last, folder / "resumed.pt", options))
        options |= {"model": last, "resume": last}
        _put(resume.results, folder / "run" / "results.csv")
        _put(resume.best, folder / "run" / "weights" / "best.pt")
    relay = _Relay(watcher, settings)
    trainer = _trainer(task, options, relay)
    with explained():
        trainer.train()
    if relay.newest is None:
        raise TrainingError("the training ended before its first epoch: see the log above")
    return relay.newest


#: What errors of a training say, in lower case, and what to do about them; the first that fits counts.
_REMEDIES = (
    (("shared memory", "/shm"), "give the container a larger /dev/shm, or set workers to 0"),
    (
        ("out of memory",),
        "the GPU's memory is too small for batches of this size: lower batch, or image_px",
    ),
    (
        ("dataloader worker (pid", "cannot allocate memory", "can't allocate memory"),
        "this machine's memory is probably too small: lower workers, or set cache to none",
    ),
    (("nan persisted", "nan/inf"), "lower learning_rate, or look for wrong labels"),
    (
        ("cuda error", "cudnn", "cublas"),
        "the GPU failed: run again to resume from the last checkpoint; if it fails again, check the machine's GPU "
        "and driver",
    ),
    (
        ("pytorchstreamwriter failed", "no space left", "disk quota"),
        "the disk is probably full: make room, or set TMPDIR to a folder on a larger one",
    ),
)


@contextmanager
def explained() -> Iterator[None]:
    """Add remedies to errors of PyTorch, Ultralytics and the disk, if they are known."""
    try:
        yield
    except (RuntimeError, OSError) as error:
        said = str(error)
        for texts, remedy in _REMEDIES:
            if any(text in said.lower() for text in texts):
                raise TrainingError(f"the training broke off ({said}): {remedy}") from error
        raise


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source != target:
        target.write_bytes(source.read_bytes())


def _options(base: str, data: Path, folder: Path, settings: TrainSettings) -> dict[str, Any]:
    """Return the options for Ultralytics. Nothing that matters is left to its defaults."""
    device, precision = chosen_device(settings)
    return {
        "model": base,
        "data": str(data),
        "save_dir": str(folder / "run"),
        "exist_ok": True,
        "epochs": settings.epochs,
        "patience": settings.patience,
        "imgsz": settings.image_px,
        "batch": settings.batch,
        # Gradients would be gathered up to 64 pictures: with few hundred pictures, a few steps an epoch.
        "nbs": settings.batch,
        "optimizer": "AdamW",
        "lr0": settings.learning_rate,
        "lrf": settings.last_learning_rate,
        "cos_lr": True,
        "weight_decay": settings.weight_decay,
        "warmup_epochs": settings.warmup_epochs,
        "warmup_bias_lr": settings.learning_rate,
        "degrees": settings.rotation_degrees,
        "fliplr": settings.flip,
        "flipud": settings.flip,
        "scale": settings.zoom,
        "translate": 0.1,
        "mosaic": settings.mosaic,
        "close_mosaic": min(settings.mosaic_closed_epochs, settings.epochs),
        "hsv_h": 0.0,
        "hsv_s": 0.0,
        "hsv_v": settings.brightness,
        "erasing": 0.0,
        "seed": settings.seed,
        "deterministic": True,
        "device": device,
        "amp": precision,
        "workers": settings.workers,
        "cache": False if settings.cache == "none" else settings.cache,
        "plots": False,
        "verbose": False,
    }


def chosen_device(settings: TrainSettings) -> tuple[str, str | bool]:
    """Return the device and the precision. Ultralytics' own check of mixed precision wants to download a model.

    Raises:
        TrainingError: If there is a GPU, or one is asked for, and PyTorch can't use it.
    """
    import torch

    present = torch.cuda.is_available()
    # With auto, a GPU that is there is meant: days on the CPU instead would be nobody's wish.
    if not present and (
        settings.device == "cuda" or (settings.device == "auto" and cuda_present())
    ):
        raise TrainingError(
            f"PyTorch {torch.__version__} can't use the GPU of this machine: install a PyTorch made for its driver, or "
            "set device: cpu"
        )
    if settings.device == "cpu" or not present:
        return "cpu", False
    return "0", "bf16" if torch.cuda.is_bf16_supported() else False


def device_name(settings: TrainSettings) -> str:
    """Return the name of the device that a training runs on, for the record."""
    import torch

    device, precision = chosen_device(settings)
    if device == "cpu":
        return "cpu"
    return f"{torch.cuda.get_device_name(0)}, {precision or 'fp32'}"


class _Relay:
    """Turns Ultralytics' callbacks into a watcher's."""

    def __init__(self, watcher: Watcher, settings: TrainSettings) -> None:
        self._watcher = watcher
        self._batch = settings.batch
        self._started = time.monotonic()
        self.newest: Checkpoint | None = None

    def epoch_begun(self, trainer: Any) -> None:  # noqa: ANN401  (Ultralytics gives no types)
        """Refuse an epoch with a smaller batch: if memory is short, Ultralytics halves the batch and begins again.

        What is learnt then would not be what the settings, and with them the training's identity, say.
        """
        if trainer.batch_size != self._batch:
            raise TrainingError(
                f"the GPU's memory is too small for batches of {self._batch} pictures of {trainer.args.imgsz} px: "
                f"lower batch (to {trainer.batch_size}, say), or image_px"
            )

    def saved(self, trainer: Any) -> None:  # noqa: ANN401
        """Pass the files of an epoch on to the watcher."""
        self.newest = Checkpoint(
            epoch=trainer.epoch + 1,
            ended=bool(trainer.stop),
            last=Path(trainer.last),
            best=Path(trainer.best),
            results=Path(trainer.csv),
        )
        self._watcher.checkpoint(self.newest)

    def epoch_over(self, trainer: Any) -> None:  # noqa: ANN401
        """Report an epoch after its validation."""
        done = trainer.epoch + 1 - trainer.start_epoch
        mean = (time.monotonic() - self._started) / max(done, 1)
        self._watcher.epoch_done(
            Epoch(
                number=trainer.epoch + 1,
                of=trainer.epochs,
                losses={name: float(value) for name, value in (trainer.tloss or {}).items()},
                map50=float(trainer.metrics.get("metrics/mAP50(B)", math.nan)),
                map50_95=float(trainer.metrics.get("metrics/mAP50-95(B)", math.nan)),
                seconds_left=mean * (trainer.epochs - trainer.epoch - 1),
            )
        )

    @staticmethod
    def begun(trainer: Any) -> None:  # noqa: ANN401
        """Set the seed of a resumed run, which would see the pictures of the first epochs again."""
        if trainer.start_epoch:
            from ultralytics.utils import torch_utils

            init_seeds: Any = torch_utils.init_seeds
            init_seeds(trainer.args.seed + trainer.start_epoch, deterministic=True)


def _trainer(task: Task, options: dict[str, Any], relay: _Relay) -> Any:  # noqa: ANN401
    """Return an Ultralytics trainer that reports to the relay and does not evaluate at its end."""
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.models.yolo.segment import SegmentationTrainer

    base: Any = SegmentationTrainer if task == "segment" else DetectionTrainer

    class Trainer(base):  # type: ignore[misc]
        def final_eval(self) -> None:
            """Do nothing: weights are stripped and judged elsewhere."""

    trainer = Trainer(overrides=options)
    callbacks: dict[str, Callable[[Any], None]] = {
        "on_train_epoch_start": relay.epoch_begun,
        "on_model_save": relay.saved,
        "on_fit_epoch_end": relay.epoch_over,
        "on_pretrain_routine_end": relay.begun,
    }
    for event, callback in callbacks.items():
        trainer.add_callback(event, callback)
    return trainer


def _written_anew(checkpoint: Path, path: Path, options: dict[str, Any]) -> Path:
    """Write a checkpoint anew from its numbers, to resume from, and return its path.

    The trainer takes its options from the checkpoint, so they are ours, whatever the file says.

    Raises:
        ModelError: If the checkpoint can't be loaded, or holds no state of a training.
    """
    import torch

    saved = read_file(checkpoint)
    weights = weights_in(saved, checkpoint)
    try:
        state = {name: plain(saved[name]) for name in _RESUMED}
        stopper = state["stopper"] or {}
        state |= {
            "epoch": int(state["epoch"]),
            "updates": int(state["updates"]),
            "best_fitness": None if state["best_fitness"] is None else float(state["best_fitness"]),
            "stopper": {
                "best_fitness": float(stopper.get("best_fitness") or 0.0),
                "best_epoch": int(stopper.get("best_epoch") or 0),
            },
        }
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{checkpoint} is no checkpoint that a training can resume from ({type(error).__name__}: {error}): train "
            "with fresh"
        ) from error
    state |= {
        "model": None,
        "ema": weights.network().half(),
        "train_args": options | {"task": weights.task, "mode": "train"},
    }
    state |= {"modelopt": None, "train_metrics": {}, "date": weights.date}
    with explained(), openable(path).open("wb") as file:
        torch.save(state, file)
    return path


#: What a checkpoint holds besides the network.
_RESUMED = ("epoch", "updates", "best_fitness", "stopper", "optimizer", "scaler")


def strip(checkpoint: Path, weights: Path) -> None:
    """Write the weights of a checkpoint alone: without optimiser, paths and names of this machine.

    The checkpoint's own date is kept, so that equal checkpoints give equal files.

    Raises:
        ModelError: If the checkpoint can't be loaded, or holds no model.
        TrainingError: If the disk is full.
    """
    quiet_ultralytics(weights.parent / "ultralytics")
    with explained():
        write_weights(read_weights(checkpoint), weights)


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
