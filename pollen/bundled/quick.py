"""Detections straight from a network in memory, without export: for looks during training."""

from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np

from pollen.bundled.pictures import LabelledPicture
from pollen.classes import GrainClass
from pollen.decoding import Decoder
from pollen.grains import Grains
from pollen.tiling import PADDING_GREY

LEAST_CONFIDENCE: Final = 0.001


def detect_pictures(
    network: Any,  # noqa: ANN401 - Ultralytics gives no types
    pictures: Sequence[LabelledPicture],
    scale: float,
    merge_iou: float = 0.5,
    confidence: float = LEAST_CONFIDENCE,
) -> list[Grains]:
    """Grains of every picture as one tile each, in picture pixels, boxes only.

    Args:
        network: In any mode; put into evaluation mode.
        pictures: Small pictures; each is one square tile.
        scale: Model pixels per picture pixel.
        merge_iou: Overlap beyond which two boxes are one grain.
        confidence: Least confidence.
    """
    import torch

    network.eval()
    found = []
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        side = int(np.ceil(max(height, width) * scale / 32)) * 32
        size = round(width * scale), round(height * scale)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        canvas = np.full((side, side, 3), PADDING_GREY, np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(picture.pixels, size, interpolation=method)
        tile = torch.from_numpy(canvas.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        with torch.inference_mode():
            raw = network(tile)[0]
        while isinstance(raw, (tuple, list)):
            raw = raw[0]
        decoder = Decoder(tuple(GrainClass), confidence, merge_iou, side)
        grains = decoder.decode(raw[0].numpy(), None)
        found.append(grains.placed(1 / scale, (0.0, 0.0)))
    return found
