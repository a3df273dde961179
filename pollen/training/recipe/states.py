"""States of the recipe's network as weights that anyone can load, and the other way round."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pollen.models.weights import load_state, load_yolo, quiet_ultralytics
from pollen.training.recipe.network import new_network

if TYPE_CHECKING:
    import torch


def average_weights(paths: Sequence[Path]) -> dict[str, "torch.Tensor"]:
    """Mean of several saved states of one network (whole numbers are taken from the last)."""
    import torch

    states = [_weights_in(load_state(path)) for path in paths]
    mean = dict(states[-1])
    for name, value in mean.items():
        if value.is_floating_point():
            mean[name] = torch.stack([state[name].float() for state in states]).mean(dim=0)
    return mean


def _weights_in(state: dict[str, Any]) -> dict[str, "torch.Tensor"]:
    """What a checkpoint of a stage has come to; a state that is none is its own."""
    kept: dict[str, torch.Tensor] = state.get("mean") or state.get("average") or state
    return kept


def start_weights(path: Path, scratch: Path) -> dict[str, "torch.Tensor"]:
    """Return the weights in a file, to start the recipe's network from.

    Args:
        path: The file.
        scratch: Where Ultralytics may keep its settings.

    Raises:
        ValueError: They are of another network, or can't be loaded.
    """
    quiet_ultralytics(scratch)
    state: dict[str, torch.Tensor] = load_yolo(path).model.float().state_dict()
    network = new_network(seed=0)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"{path} can't start the bundled recipe: expected YOLOv8n-seg for {len(network.names)} classes"
        ) from error
    return state


def write_result(checkpoint: Path, path: Path) -> None:
    """Write what a checkpoint has come to; equal checkpoints give equal files."""
    state = load_state(checkpoint)
    write_weights(_weights_in(state), path, state["date"])


def write_weights(state: dict[str, "torch.Tensor"], path: Path, date: str | None = None) -> None:
    """Save a state as a checkpoint that plain ``YOLO(path)`` loads, without optimiser or paths.

    Args:
        state: The weights.
        path: Where to.
        date: To note in the file; by default now.
    """
    import torch
    from ultralytics import __version__ as ultralytics_version

    network = new_network(seed=0)
    network.load_state_dict(state)
    network.criterion = None
    settings = {"task": "segment", "mode": "train", "single_cls": False}
    network.args = settings
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    checkpoint = {
        "epoch": -1,
        "best_fitness": None,
        "model": network.half().eval(),
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": settings,
        "train_metrics": {},
        "train_results": {},
        "date": date or datetime.now(UTC).isoformat(timespec="seconds"),
        "version": ultralytics_version,
        "license": "AGPL-3.0",
    }
    part = path.with_suffix(".part")
    with part.open("wb") as file:  # given a path, torch writes the path's name into the file
        torch.save(checkpoint, file)
    part.replace(path)
