"""Write the shipped files: plain Ultralytics weights and the machine-readable card."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pollen.bundled.pictures import LabelledPicture
from pollen.classes import GrainClass
from pollen.model_card import CARD_NAME, sha256_of

if TYPE_CHECKING:
    import torch

WEIGHTS_NAME = "best.pt"
LARGEST_GRAIN_PX = 140
"""Diameter of the largest grain to expect, picture pixels; the largest labelled one has 126."""


def average_weights(paths: Sequence[Path]) -> dict[str, "torch.Tensor"]:
    """Mean of several saved states of one network (whole numbers are taken from the last)."""
    import torch

    states = [torch.load(path, map_location="cpu", weights_only=True) for path in paths]
    states = [state.get("average", state) for state in states]
    mean = dict(states[-1])
    for name, value in mean.items():
        if value.is_floating_point():
            mean[name] = torch.stack([state[name].float() for state in states]).mean(dim=0)
    return mean


def write_weights(state: dict[str, "torch.Tensor"], path: Path) -> None:
    """Save a state as a checkpoint that plain ``YOLO(path)`` loads, without optimiser or paths."""
    import torch
    from ultralytics import __version__

    from pollen.bundled.network import new_network

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
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "license": "AGPL-3.0",
    }
    part = path.with_suffix(".part")
    torch.save(checkpoint, part)
    part.replace(path)


def grain_diameter(pictures: Sequence[LabelledPicture]) -> float:
    """Median equivalent diameter of the viable grains, pixels: the scale a card states."""
    diameters = [
        outline.diameter_px
        for picture in pictures
        for outline in picture.outlines
        if outline.grain_class == GrainClass.VIABLE
    ]
    return float(np.median(diameters))


def write_card(weights: Path, facts: dict[str, Any]) -> Path:
    """Write ``model.json`` beside weights.

    Args:
        weights: The file the card speaks of.
        facts: Version, scale, thresholds, metrics, training: everything but hash and names.
    """
    card = {
        "weights": weights.name,
        "sha256": sha256_of(weights),
        "task": "segment",
        "classes": [item.label for item in GrainClass],
        "pixel_size_um": None,
        "max_grain_px": LARGEST_GRAIN_PX,
        "licence": "AGPL-3.0",
        **facts,
    }
    path = weights.with_name(CARD_NAME)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
    return path
