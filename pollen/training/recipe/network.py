"""The network and its loss: plain YOLOv8n-seg, trained in bfloat16 where the CPU is faster so."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pollen.classes import GrainClass

if TYPE_CHECKING:
    import torch

ARCHITECTURE: Final = "yolov8n-seg.yaml"
"""The smallest YOLOv8 with masks: 3.3 million parameters."""


def new_network(seed: int) -> Any:  # noqa: ANN401 - Ultralytics gives no types
    """Return a network with random weights for the two classes."""
    import torch
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(seed)
    model_class: Any = SegmentationModel
    network = model_class(ARCHITECTURE, nc=len(GrainClass), verbose=False)
    network.names = {int(item): item.label for item in GrainClass}
    network.args = get_cfg(overrides={"task": "segment", "mode": "train"})
    return network


def to_float32(item: Any) -> Any:  # noqa: ANN401 - mirrors Ultralytics' nested outputs
    """Return every tensor of a nested output in single precision."""
    import torch

    if isinstance(item, torch.Tensor):
        return item.float() if item.is_floating_point() else item
    if isinstance(item, Mapping):
        return {key: to_float32(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(to_float32(value) for value in item)
    return item


def batch_loss(
    network: Any,  # noqa: ANN401
    batch: dict[str, "torch.Tensor"],
    *,
    bfloat16: bool,
) -> tuple["torch.Tensor", dict[str, float]]:
    """Return the loss of one batch: forward in bfloat16 if asked, the loss itself always in float32.

    Args:
        network: In training mode, channels-last.
        batch: `img` `(B, 3, S, S)` RGB 0..1, `cls` `(N, 1)`, `bboxes` `(N, 4)` xywh
            0..1, `batch_idx` `(N,)`, `masks` `(B, S/r, S/r)` numbered from 1.
        bfloat16: About twice as fast on CPUs with bfloat16 arithmetic.

    Returns:
        The sum to differentiate, and its parts by name per picture.
    """
    import torch

    if getattr(network, "criterion", None) is None:
        network.criterion = network.init_criterion()
    device = batch["img"].device.type
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        outputs = network(batch["img"].contiguous(memory_format=torch.channels_last))
    loss, parts = network.criterion(to_float32(outputs), batch)
    return loss.sum(), {name: float(value) for name, value in parts.items()}
