"""Models with random weights, for tests of what runs them: their output is wild, but not empty."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pollen.models.card import ModelCard, sha256_of
from pollen.synth import random_spec, render

TILE_PX = 128


def write_model(
    path: Path,
    architecture: str = "yolov8n.yaml",
    names: Sequence[str] = ("viable", "non_viable"),
    seed: int = 0,
) -> ModelCard:
    """Write an Ultralytics model and give back its card.

    Args:
        path: Where to write the ``.pt`` file.
        architecture: Name of an Ultralytics model configuration.
        names: Its class names, in order.
        seed: Of the weights.
    """
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(seed)
    task = {"seg": "segment", "cls": "classify"}.get(Path(architecture).stem[-3:], "detect")
    kinds: dict[str, Any] = {
        "segment": tasks.SegmentationModel,
        "classify": tasks.ClassificationModel,
        "detect": tasks.DetectionModel,
    }
    network = kinds[task](architecture, nc=len(names), verbose=False)
    network.names, network.task = dict(enumerate(names)), task
    for branch in getattr(network.model[-1], "cv3", ()):  # the class scores, one branch per stride
        torch.nn.init.normal_(branch[-1].weight, std=0.03)
        torch.nn.init.normal_(branch[-1].bias, mean=-1.0, std=0.1)
    for branch in getattr(network.model[-1], "cv2", ()):  # distances to the sides: mostly short
        bins = branch[-1].bias.numel() // 4
        branch[-1].weight.data *= 0.2
        branch[-1].bias.data = torch.linspace(3, -3 if bins > 1 else 3, bins).repeat(4)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
    pictures = np.stack(rendered(4, TILE_PX, seed=1)).transpose(0, 3, 1, 2)
    with torch.no_grad():  # normalised by pictures, or all activations would die out
        network.train()(torch.from_numpy(pictures) / 255)
    torch.save({"model": network.eval(), "train_args": {"task": task}}, path)
    return ModelCard(version="random", sha256=sha256_of(path), tile_px=TILE_PX, max_grain_px=60)


def rendered(number: int, side_px: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """``number`` rendered micrographs, ``(side_px, side_px, 3)`` RGB each."""
    rng = np.random.default_rng(seed)
    frames = []
    for place in range(number):
        spec = random_spec(rng, width_px=side_px, height_px=side_px)
        frames.append(render(spec, seed + place).pixels)
    return frames


class Bomb:
    """A pickle that, once loaded, makes a folder: what a hostile model file could do."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """What unpickling calls."""
        return os.mkdir, (str(self._folder),)
