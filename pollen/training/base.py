"""The base of a training: weights, or an architecture with random ones."""

from dataclasses import dataclass
from pathlib import Path

from pollen.models.weights import ARCHITECTURE, read_weights
from pollen.training.lineage import Lineage
from pollen.training.tiles import Task


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


def from_weights(weights: Path, sha256: str) -> Base:
    """Return the base that a file of weights is.

    Raises:
        ModelError: If the file is no Ultralytics model, or one of another kind.
    """
    task = read_weights(weights).task
    return Base(
        str(weights), sha256, "segment" if task == "segment" else "detect", Lineage.unknown()
    )
