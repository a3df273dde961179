"""Decoding the raw output of a YOLO model for one tile into grains with classes.

The raw head output is decoded here instead of by Ultralytics, because its post-processing has
limits that silently shorten counts (`max_det`, a time limit of NMS that empties the rest of a
batch). The code here has neither.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.classes import GrainClass
from pollen.detection.grains import Grains, one_box_per_grain
from pollen.models.card import ModelError

#: Points of the ellipse that stands for the outline if a model makes no masks.
ELLIPSE_POINTS = 32
#: Boxes thinner than this are no grains: they can't even be measured.
LEAST_SIDE_PX = 2.0


class OutputError(ModelError):
    """The model's output for one tile can't be used; other pictures are not affected."""


@dataclass(frozen=True)
class Decoder:
    """Turns raw output into grains.

    Attributes:
        classes: Grain class of each of the model's class numbers.
        confidence: Least confidence of a grain.
        merge_iou: Boxes that overlap by more than this are one grain.
        tile_px: Side of the model's input.
        viable_odds: A grain is viable if its score as viable exceeds this many times its score as
            non-viable. Chosen with the model, because a model gives grains that it is unsure about
            the more frequent class.
    """

    classes: tuple[GrainClass, ...]
    confidence: float
    merge_iou: float
    tile_px: int
    viable_odds: float = 1.0

    def check(self, raw_shape: tuple[int, ...], with_masks: bool) -> None:
        """Refuse a model whose raw output is not `(4 + classes [+ mask terms], candidates)`.

        Raises:
            ModelError: If the head is of another kind (end-to-end heads cut their results short).
        """
        fixed = 4 + len(self.classes)
        right = len(raw_shape) == 2 and (
            raw_shape[0] > fixed if with_masks else raw_shape[0] == fixed
        )
        if not right or raw_shape[1] < raw_shape[0]:
            raise ModelError(
                f"the model's output has the shape {raw_shape}; expected "
                f"({fixed}{' + mask terms' if with_masks else ''}, candidates) as detection and "
                "segmentation models of YOLOv8, YOLO11 and YOLO26 give it. Export or train the "
                "model without an end-to-end head"
            )

    def decode(self, raw: FloatArray, prototypes: FloatArray | None) -> Grains:
        """Return the grains of one tile.

        Args:
            raw: `(4 + classes + mask terms, candidates)`; boxes as centre x, centre y, width,
                height in model-input pixels, then class scores in 0..1, then mask terms.
            prototypes: `(mask terms, h, w)` mask prototypes, `None` for box models.

        Returns:
            Grains in model-input pixels, the most confident first.

        Raises:
            OutputError: If numbers overflowed, so that grains would silently be missing.
        """
        if not (np.isfinite(raw).all() and (prototypes is None or np.isfinite(prototypes).all())):
            raise OutputError(
                "the model's output for this picture holds numbers that are not finite, so that grains would be "
                "missed: run it with precision: fp32; if that does not help, the weights are damaged"
            )
        number = len(self.classes)
        scores = raw[4 : 4 + number]
        likely = np.flatnonzero(scores.max(axis=0) >= self.confidence)
        centre, size = raw[:2, likely].T, raw[2:4, likely].T
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
        boxes = np.clip(boxes, 0, self.tile_px).astype(np.float32)
        solid = (boxes[:, 2:] - boxes[:, :2] >= LEAST_SIDE_PX).all(axis=1)
        likely, boxes = likely[solid], boxes[solid]
        confidence = scores[:, likely].max(axis=0).astype(np.float32)
        kept = one_box_per_grain(boxes, confidence, self.merge_iou)
        if not len(kept):
            return Grains.none()
        classes = self._classes(scores[:, likely[kept]])
        if prototypes is None:
            areas, outlines = _ellipses(boxes[kept])
        else:
            terms = raw[4 + number :, likely[kept]].T
            areas, outlines = self._masks(boxes[kept], terms, prototypes)
        return Grains(boxes[kept], confidence[kept], classes, areas, outlines)

    def _classes(self, scores: FloatArray) -> NDArray[np.int64]:
        """Return `(N,)` classes from `(2, N)` scores in the model's order."""
        viable = scores[self.classes.index(GrainClass.VIABLE)]
        non_viable = scores[self.classes.index(GrainClass.NON_VIABLE)]
        called = np.where(
            viable > self.viable_odds * non_viable, GrainClass.VIABLE, GrainClass.NON_VIABLE
        )
        return called.astype(np.int64)

    def _masks(
        self, boxes: FloatArray, terms: FloatArray, prototypes: FloatArray
    ) -> tuple[FloatArray, tuple[FloatArray, ...]]:
        """Return areas and outlines from the masks, each assembled inside its own box only."""
        stride = self.tile_px / prototypes.shape[2]
        areas, outlines = [], []
        for box, coefficients in zip(boxes, terms, strict=True):
            mask, origin = _mask_in_box(box, coefficients, prototypes, stride)
            area, outline = _measure(mask, origin)
            if outline is None:  # an all-empty mask: the box is what is known
                ellipse_areas, ellipse_outlines = _ellipses(box[None])
                area, outline = float(ellipse_areas[0]), ellipse_outlines[0]
            areas.append(area)
            outlines.append(outline)
        return np.asarray(areas, np.float32), tuple(outlines)


def _mask_in_box(
    box: FloatArray, coefficients: FloatArray, prototypes: FloatArray, stride: float
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the mask inside `box` at model-input resolution, and the pixel (x, y) of its corner.

    Mask = sigmoid(coefficients @ prototypes) > 0.5, which is a sign test on the logits (Bolya et
    al., YOLACT, ICCV 2019). Logits are enlarged before the test, so that outlines are smooth.
    """
    height, width = prototypes.shape[1:]
    x0, y0 = np.maximum(np.floor(box[:2] / stride).astype(int) - 1, 0)
    x1 = min(int(np.ceil(box[2] / stride)) + 1, width)
    y1 = min(int(np.ceil(box[3] / stride)) + 1, height)
    logits = np.tensordot(coefficients, prototypes[:, y0:y1, x0:x1], axes=1).astype(np.float32)
    size = round((x1 - x0) * stride), round((y1 - y0) * stride)
    enlarged = cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR)
    left, top = round(x0 * stride), round(y0 * stride)
    mask = (enlarged > 0).astype(np.uint8)
    # Rounded: the pixels whose centres lie in the box.
    inner_x0, inner_y0 = np.maximum(np.round(box[:2]).astype(int) - (left, top), 0)
    inner_x1, inner_y1 = np.round(box[2:]).astype(int) - (left, top)
    return np.ascontiguousarray(mask[inner_y0:inner_y1, inner_x0:inner_x1]), (
        left + inner_x0,
        top + inner_y0,
    )


def _measure(mask: NDArray[np.uint8], origin: tuple[int, int]) -> tuple[float, FloatArray | None]:
    """Return the area in square pixels and the outer contour `(K, 2)` of the largest part of a mask."""
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0.0, None
    largest = max(contours, key=cv2.contourArea)
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, [largest], -1, 1, cv2.FILLED)
    # A contour runs through the centres of the border pixels: half a pixel leads to their middle.
    return float(np.count_nonzero(filled)), (largest[:, 0, :] + np.asarray(origin) + 0.5).astype(
        np.float32
    )


def _ellipses(boxes: FloatArray) -> tuple[FloatArray, tuple[FloatArray, ...]]:
    """Return area and outline of the ellipse that fills each box: the best guess without a mask."""
    size = boxes[:, 2:] - boxes[:, :2]
    angle = np.linspace(0, 2 * np.pi, ELLIPSE_POINTS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    outlines = tuple(
        ((low + high) / 2 + circle * (high - low) / 2).astype(np.float32)
        for low, high in zip(boxes[:, :2], boxes[:, 2:], strict=True)
    )
    return (np.pi / 4 * size.prod(axis=1)).astype(np.float32), outlines
