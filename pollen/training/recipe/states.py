"""States of the recipe's network as weights that anyone can load, and the other way round."""

from pathlib import Path
from typing import TYPE_CHECKING

from pollen.classes import GrainClass
from pollen.models.card import ModelError
from pollen.models.weights import (
    Weights,
    load_state,
    quiet_ultralytics,
    read_weights,
    write_weights,
)
from pollen.training.recipe.network import ARCHITECTURE

if TYPE_CHECKING:
    import torch


def start_weights(path: Path) -> dict[str, "torch.Tensor"]:
    """Return the weights in a file, to start the recipe's network from.

    Raises:
        ModelError: If they are of another network, or can't be loaded.
    """
    weights = read_weights(path)
    if (weights.architecture, len(weights.names)) != (ARCHITECTURE, len(GrainClass)):
        raise ModelError(
            f"{path} can't start the bundled recipe: expected YOLOv8n-seg for {len(GrainClass)} classes, found "
            f"{weights.architecture} for {len(weights.names)}"
        )
    return {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.state.items()
    }


def write_result(checkpoint: Path, path: Path) -> None:
    """Write the result of a stage as weights that plain `YOLO(path)` loads, without optimiser or paths.

    Equal checkpoints give equal files.

    Args:
        checkpoint: The checkpoint of the stage, see `pollen.training.recipe.fitting.Fitter.save`.
        path: The file to write.
    """
    quiet_ultralytics(path.parent / "ultralytics")
    state = load_state(checkpoint)
    write_weights(
        Weights(
            ARCHITECTURE,
            "segment",
            {int(item): item.label for item in GrainClass},
            state["mean"] or state["average"],
            {"task": "segment", "mode": "train", "single_cls": False},
            state["date"],
        ),
        path,
    )
