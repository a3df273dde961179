"""What a training starts from: weights, or an architecture with random ones."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pollen.backends import quiet_ultralytics
from pollen.training.lineage import Lineage
from pollen.training.pieces import Task

#: Architectures that Ultralytics describes without any download, as detector or with outlines.
ARCHITECTURE: Final = re.compile(r"yolo(v8|11|26)[nsmlx](?P<outlines>-seg)?\.yaml")


@dataclass(frozen=True)
class Base:
    """Where the weights come from.

    Attributes:
        source: Path of weights whose hash was checked, or the name of an architecture.
        identity: Their SHA-256, or the same name.
        task: What it learns.
        lineage: What the weights have learnt from.
    """

    source: str
    identity: str
    task: Task
    lineage: Lineage


def untrained(name: str) -> Base | None:
    """An architecture by its name (``yolov8n-seg.yaml``), ``None`` for any other name."""
    match = ARCHITECTURE.fullmatch(name)
    if match is None:
        return None
    return Base(name, name, "segment" if match["outlines"] else "detect", Lineage())


def from_weights(weights: Path, sha256: str, scratch: Path) -> Base:
    """Weights whose hash was checked: reading what they were made for runs code they hold.

    Raises:
        ValueError: They are no Ultralytics model, or one of another kind.
    """
    quiet_ultralytics(scratch)
    from ultralytics.nn import tasks

    load: Any = tasks.load_checkpoint
    try:
        task = str(getattr(load(weights)[0], "task", ""))
    except Exception as error:
        raise ValueError(
            f"{weights} is no Ultralytics model ({type(error).__name__}: {error}): expected a .pt file of YOLOv8, "
            "YOLO11 or YOLO26"
        ) from error
    if task not in ("detect", "segment"):
        raise ValueError(
            f"{weights} is a model for '{task}': expected one that detects or segments objects"
        )
    what: Task = "segment" if task == "segment" else "detect"
    return Base(str(weights), sha256, what, Lineage.unknown())
