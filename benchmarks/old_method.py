"""The method of the laboratory's old script, for comparison: large tiles, one model call each.

Tiles of 1600 px with a quarter overlap, each through Ultralytics' own `predict` in PyTorch at 1600 px,
doubles removed by non-maximum suppression, outlines drawn. Rewritten from its description.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

TILE_PX = 1600
STEP_PX = 1200
CONFIDENCE = 0.25
MERGE_IOU = 0.45
BORDER_PX = 10


def starts(length_px: int) -> list[int]:
    """Return the positions at which tiles begin along one axis."""
    return sorted(
        {min(start, max(0, length_px - TILE_PX)) for start in range(0, length_px, STEP_PX)}
    )


def count(model: Any, picture: Path, annotated: Path) -> int:  # noqa: ANN401  (Ultralytics has no types)
    """Count the grains of one full frame and draw them."""
    import torch
    from torchvision.ops import nms

    pixels = cv2.imread(str(picture))
    assert pixels is not None
    height, width = pixels.shape[:2]
    boxes: list[list[float]] = []
    scores: list[float] = []
    outlines: list[Any] = []
    for top in starts(height):
        for left in starts(width):
            tile = pixels[top : top + TILE_PX, left : left + TILE_PX]
            found = model.predict(
                tile, imgsz=TILE_PX, conf=CONFIDENCE, verbose=False, device="cpu"
            )[0]
            masks = found.masks.xy if found.masks is not None else []
            for box, outline in zip(found.boxes, masks, strict=True):
                x0, y0, x1, y1 = box.xyxy[0].tolist()
                cut = (
                    (x0 < BORDER_PX and left > 0)
                    or (y0 < BORDER_PX and top > 0)
                    or (x1 > TILE_PX - BORDER_PX and left + TILE_PX < width)
                    or (y1 > TILE_PX - BORDER_PX and top + TILE_PX < height)
                )
                if not cut:
                    boxes.append([x0 + left, y0 + top, x1 + left, y1 + top])
                    scores.append(float(box.conf[0]))
                    outlines.append(outline + np.array([left, top]))
    kept = nms(torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), MERGE_IOU).tolist()
    overlay = pixels.copy()
    for number in kept:
        cv2.fillPoly(overlay, [outlines[number].astype(np.int32)], (0, 200, 0))
    cv2.imwrite(str(annotated), cv2.addWeighted(overlay, 0.3, pixels, 0.7, 0))
    return len(kept)
