"""The base of a training: weights, or an architecture with random ones."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pollen.models.card import ModelError
from pollen.models.weights import load_yolo, quiet_ultralytics
from pollen.training.lineage import Lineage
from pollen.training.tiles import Task

#: Architectures that Ultralytics describes without any download, as detector or with outlines.
ARCHITECTURE: Final = re.compile(r"yolo(v8|11|26)[nsmlx](?P<outlines>-seg)?\.yaml")


@dataclass(frozen=True)
class Base:
    """The base of a training.

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
    """Return an architecture by its name (`yolov8n-seg.yaml`), None for any other name."""
    match = ARCHITECTURE.fullmatch(name)
    if match is None:
        return None
    return Base(name, name, "segment" if match["outlines"] else "detect", Lineage())


def from_weights(weights: Path, sha256: str, scratch: Path) -> Base:
    """Return the base that a file of weights is.

    Raises:
        ModelError: If the file is no Ultralytics model, or one of another kind.
    """
    quiet_ultralytics(scratch)
    task = load_yolo(weights).task
    if task not in ("detect", "segment"):
        raise ModelError(
            f"{weights} is a model for '{task}': expected one that detects or segments objects"
        )
    return Base(str(weights), sha256, task, Lineage.unknown())
