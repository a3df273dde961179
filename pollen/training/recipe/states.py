"""States of the recipe's network as weights that anyone can load, and the other way round."""

from pathlib import Path
from typing import TYPE_CHECKING

from pollen.models.card import ModelError
from pollen.models.weights import load_state, load_yolo, quiet_ultralytics
from pollen.training.recipe.network import new_network

if TYPE_CHECKING:
    import torch


def start_weights(path: Path, scratch: Path) -> dict[str, "torch.Tensor"]:
    """Return the weights in a file, to start the recipe's network from.

    Args:
        path: The file.
        scratch: Where Ultralytics may keep its settings.

    Raises:
        ModelError: If they are of another network, or can't be loaded.
    """
    quiet_ultralytics(scratch)
    state: dict[str, torch.Tensor] = load_yolo(path).model.float().state_dict()
    network = new_network(seed=0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{path} can't start the bundled recipe: expected YOLOv8n-seg for {len(network.names)} classes"
        ) from error
    return state


def write_result(checkpoint: Path, path: Path) -> None:
    """Write the result of a stage as weights that plain `YOLO(path)` loads, without optimiser or paths.

    Equal checkpoints give equal files.

    Args:
        checkpoint: The checkpoint of the stage, see `pollen.training.recipe.fitting.Fitter.save`.
        path: The file to write.
    """
    import torch
    from ultralytics import __version__ as ultralytics_version

    state = load_state(checkpoint)
    network = new_network(seed=0)
    network.load_state_dict(state["mean"] or state["average"])
    network.criterion = None
    settings = {"task": "segment", "mode": "train", "single_cls": False}
    network.args = settings
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    weights = {
        "epoch": -1,
        "best_fitness": None,
        "model": network.half().eval(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": settings,
        "train_metrics": {},
        "train_results": {},
        "date": state["date"],
        "version": ultralytics_version,
        "license": "AGPL-3.0",
    }
    part = path.with_suffix(".part")
    with part.open("wb") as file:  # given a path, torch writes the path's name into the file
        torch.save(weights, file)
    part.replace(path)
