import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.classes import GrainClass
from pollen.detection.backends import TorchBackend
from pollen.detection.decoding import LEAST_SIDE_PX, Decoder, OutputError
from pollen.detection.detector import Detector
from pollen.detection.grains import Grains, one_box_per_grain, overlaps
from pollen.models.card import ModelError
from tests.pollen.conftest import Prepared
from tests.pollen.model_making import rendered, write_model

TILE = 320
#: Prototypes of a YOLO segmentation model are a quarter of its input.
STRIDE = 4
ORDER = (GrainClass.VIABLE, GrainClass.NON_VIABLE)
DECODER = Decoder(ORDER, confidence=0.25, merge_iou=0.5, tile_px=TILE)


def head_output(
    boxes: list[tuple[float, float, float, float]],
    scores: list[tuple[float, float]],
    terms: NDArray[np.float64] | None = None,
    candidates: int = 2100,
) -> FloatArray:
    """Raw output `(4 + 2 [+ terms], candidates)`: boxes xyxy and class scores, the rest unlikely."""
    rows = np.concatenate([np.array(boxes).reshape(-1, 4), np.array(scores).reshape(-1, 2)], axis=1)
    low, high = rows[:, :2].copy(), rows[:, 2:4].copy()
    rows[:, :2], rows[:, 2:4] = (low + high) / 2, high - low
    if terms is not None:
        rows = np.concatenate([rows, terms], axis=1)
    raw = np.full((candidates, rows.shape[1]), 0.01)
    raw[: len(rows)] = rows
    return raw.T.astype(np.float32)


def disc_logits(centre: tuple[float, float], diameter: float, steepness: float = 0.5) -> FloatArray:
    """`(80, 80)` mask logits of a disc, falling linearly across its rim."""
    y, x = (np.mgrid[0 : TILE // STRIDE, 0 : TILE // STRIDE] + 0.5) * STRIDE
    distance = np.hypot(x - centre[0], y - centre[1])
    return np.asarray((diameter / 2 - distance) * steepness, np.float32)


def test_boxes_scores_and_classes_are_exact() -> None:
    boxes = [(10.0, 20.0, 50.5, 70.25), (100.0, 110.0, 140.0, 150.0)]
    found = DECODER.decode(head_output(boxes, [(0.3, 0.1), (0.2, 0.875)]), None)
    assert found.boxes.tolist() == [list(boxes[1]), list(boxes[0])]  # the most confident first
    assert found.confidence.tolist() == [np.float32(0.875), np.float32(0.3)]
    assert found.classes.tolist() == [GrainClass.NON_VIABLE, GrainClass.VIABLE]
    assert found.areas_px == pytest.approx([math.pi / 4 * 1600, math.pi / 4 * 40.5 * 50.25])


@pytest.mark.parametrize("order", [ORDER, ORDER[::-1]])
def test_viable_is_what_is_likelier_by_the_odds(order: tuple[GrainClass, ...]) -> None:
    strict = Decoder(order, 0.25, 0.5, TILE, viable_odds=3)
    viable_scores = {0.59: GrainClass.NON_VIABLE, 0.61: GrainClass.VIABLE}
    for score, expected in viable_scores.items():
        scores = (score, 0.2) if order is ORDER else (0.2, score)
        found = strict.decode(head_output([(10, 10, 50, 50)], [scores]), None)
        assert found.classes.tolist() == [expected]
        assert found.confidence.tolist() == [np.float32(score)]


def test_classes_go_by_the_models_names() -> None:
    turned = Decoder(ORDER[::-1], 0.25, 0.5, TILE)
    raw = head_output([(10, 10, 50, 50)], [(0.9, 0.1)])
    assert DECODER.decode(raw, None).classes.tolist() == [GrainClass.VIABLE]
    assert turned.decode(raw, None).classes.tolist() == [GrainClass.NON_VIABLE]


def test_an_ellipse_stands_for_a_grain_without_mask() -> None:
    found = DECODER.decode(head_output([(10, 20, 50, 80)], [(0.9, 0)]), None)
    x, y = found.outlines[0].T
    assert ((x - 30) / 20) ** 2 + ((y - 50) / 30) ** 2 == pytest.approx(1, abs=1e-5)
    assert [x.min(), y.min(), x.max(), y.max()] == pytest.approx(found.boxes[0])


@pytest.mark.parametrize("confidence", [0.25, 0.3, 0.1 + 0.2, 0.77])
def test_the_least_confidence_is_enough(confidence: float) -> None:
    decoder = Decoder(ORDER, confidence, 0.5, TILE)
    least = np.float32(confidence)
    below = np.nextafter(least, np.float32(0))
    boxes = [(10.0, 10.0, 50.0, 50.0), (100.0, 100.0, 150.0, 150.0)]
    raw = head_output(boxes, [(0, 0), (0, 0)])
    raw[4, 0], raw[5, 1] = least, below
    assert decoder.decode(raw, None).boxes.tolist() == [list(boxes[0])]


def test_one_grain_of_two_classes_is_one_grain() -> None:
    """Suppression goes across classes: the surer class wins."""
    raw = head_output([(10, 10, 50, 50), (11, 10, 51, 50)], [(0.6, 0), (0, 0.7)])
    found = DECODER.decode(raw, None)
    assert found.classes.tolist() == [GrainClass.NON_VIABLE]


def test_boxes_end_at_the_tile_and_slivers_are_dropped() -> None:
    raw = head_output(
        [(-10, -5, 40, 40), (300, 100, 345, 140), (-30, 200, 1.5, 240), (200, -20, 240, 2)],
        [(0.9, 0), (0.8, 0), (0.7, 0), (0.6, 0)],
    )
    found = DECODER.decode(raw, None)
    assert found.boxes.tolist() == [[0, 0, 40, 40], [300, 100, 320, 140], [200, 0, 240, 2]]


def test_thousands_of_grains_are_not_cut_short() -> None:
    corners = [(float(8 * column), float(8 * row)) for row in range(40) for column in range(40)]
    boxes = [(x, y, x + 7, y + 7) for x, y in corners]
    found = DECODER.decode(head_output(boxes, [(0.9, 0.0)] * 1600), None)
    assert len(found) == 1600


@pytest.mark.parametrize("candidates", [2100, 84])
def test_no_likely_candidate_is_no_grain(candidates: int) -> None:
    assert len(DECODER.decode(head_output([], [], candidates=candidates), None)) == 0
    nothing = DECODER.decode(
        head_output([], [], np.zeros((0, 3)), candidates), np.zeros((3, 80, 80), np.float32)
    )
    assert len(nothing) == 0


@given(
    st.tuples(st.floats(60, 260), st.floats(60, 260)),
    st.floats(30, 110),
    st.floats(0.05, 3),
)
def test_masks_of_discs(centre: tuple[float, float], diameter: float, steepness: float) -> None:
    """Area, diameter, centre and extent of the mask are those of the disc behind the prototypes."""
    low, high = np.array(centre) - diameter / 2, np.array(centre) + diameter / 2
    prototypes = np.stack([disc_logits(centre, diameter, steepness), np.ones((80, 80))])
    raw = head_output([(*low, *high)], [(0.9, 0.1)], np.array([[1.0, 0.0]]))
    found = DECODER.decode(raw, prototypes.astype(np.float32))
    assert found.diameters_px[0] == pytest.approx(diameter, rel=0.02)
    assert found.areas_px[0] == pytest.approx(math.pi * diameter**2 / 4, rel=0.04)
    outline = found.outlines[0]
    assert outline.min(axis=0) == pytest.approx(low, abs=1.5)
    assert outline.max(axis=0) == pytest.approx(high, abs=1.5)
    radii = np.hypot(*(outline - np.array(centre)).T)
    assert radii == pytest.approx(diameter / 2 - 0.5, abs=1.5)  # through the outermost pixels


def test_mask_terms_are_weighed() -> None:
    """Two discs share two prototypes; each grain's terms choose its own."""
    places = [(80.0, 80.0), (240.0, 200.0)]
    sizes = [40.0, 90.0]
    prototypes = np.stack([disc_logits(*both) for both in zip(places, sizes, strict=True)])
    boxes = [
        (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
        for (x, y), size in zip(places, sizes, strict=True)
    ]
    raw = head_output(boxes, [(0.9, 0), (0.8, 0)], np.eye(2))
    assert DECODER.decode(raw, prototypes).diameters_px == pytest.approx(sizes, rel=0.02)
    swapped = DECODER.decode(head_output(boxes, [(0.9, 0), (0.8, 0)], np.eye(2)[::-1]), prototypes)
    # Nothing of the other disc lies in the box: its ellipse is what is known.
    assert swapped.diameters_px == pytest.approx(sizes, rel=0.01)


def test_a_mask_ends_at_its_box_and_is_its_largest_piece_without_holes() -> None:
    ring = np.minimum(disc_logits((160, 160), 100), -disc_logits((160, 160), 40))
    crumb = disc_logits((100, 100), 14)
    prototypes = np.maximum(ring, crumb)[None]
    whole = head_output([(90, 90, 210, 210)], [(0.9, 0)], np.ones((1, 1)))
    assert DECODER.decode(whole, prototypes).diameters_px == pytest.approx(100, rel=0.02)
    half = head_output([(90, 90, 160, 210)], [(0.9, 0)], np.ones((1, 1)))
    found = DECODER.decode(half, prototypes)
    assert found.outlines[0][:, 0].max() <= 160
    assert found.areas_px[0] == pytest.approx(math.pi * 2500 / 2 - math.pi * 400 / 2, rel=0.03)


def test_masks_at_the_border_of_a_tile() -> None:
    """A quarter of a disc in the corner of the tile: area and outline stay inside."""
    prototypes = disc_logits((TILE, TILE), 80)[None]
    raw = head_output([(280, 280, 320, 320)], [(0.9, 0)], np.ones((1, 1)))
    found = DECODER.decode(raw, prototypes)
    assert found.areas_px[0] == pytest.approx(math.pi * 1600 / 4, rel=0.04)
    assert found.outlines[0].max() <= TILE


@pytest.mark.parametrize(
    ("shape", "with_masks"),
    [
        ((300, 6), False),  # an end-to-end head: rows of boxes, at most 300 of them
        ((300, 38), True),
        ((6, 2100), True),  # no mask terms
        ((38, 2100), False),  # masks, but no prototypes
        ((5, 2100), False),  # one class
        ((84, 8400), False),  # the 80 classes of COCO
        ((2100,), False),
        ((1, 6, 2100), False),
    ],
)
def test_other_heads_are_refused(shape: tuple[int, ...], with_masks: bool) -> None:
    with pytest.raises(ModelError, match="without an end-to-end head") as refused:
        DECODER.check(shape, with_masks)
    assert str(shape) in str(refused.value)


@pytest.mark.parametrize(
    ("shape", "with_masks"), [((6, 2100), False), ((38, 2100), True), ((38, 84), True)]
)
def test_our_heads_pass(shape: tuple[int, ...], with_masks: bool) -> None:
    DECODER.check(shape, with_masks)


@pytest.mark.parametrize("row", [2, 5])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_overflowed_are_an_error_and_never_a_shorter_count(
    row: int, value: float
) -> None:
    raw = head_output([(10, 10, 50, 50)], [(0.9, 0)])
    raw[row, 7] = value
    with pytest.raises(OutputError, match="not finite"):
        DECODER.decode(raw, None)


# Against Ultralytics, where its own post-processing has no limits.


def unlimited_suppression(raw: FloatArray, confidence: float) -> FloatArray:
    """`(N, 6 + terms)` Ultralytics' boxes, scores, classes and mask terms of one raw output."""
    import torch
    from ultralytics.utils.nms import non_max_suppression

    clipped = raw.copy()
    low = np.clip(raw[:2] - raw[2:4] / 2, 0, TILE)  # it clips boxes later, after suppression
    high = np.clip(raw[:2] + raw[2:4] / 2, 0, TILE)
    clipped[:2], clipped[2:4] = (low + high) / 2, high - low
    clipped[4:6, ((high - low) < LEAST_SIDE_PX).any(axis=0)] = 0
    (kept,) = non_max_suppression(
        torch.from_numpy(clipped[None]),
        conf_thres=confidence,
        iou_thres=0.5,
        agnostic=True,
        nc=2,
        max_det=100_000,
        max_nms=1_000_000,
        max_time_img=1e6,
    )
    return np.asarray(kept, np.float32)


def unmatched(found: Grains, theirs: FloatArray) -> int:
    """How many grains are not the same in both: box, score and class."""
    same = 0
    for box, confidence, grain_class in zip(
        found.boxes, found.confidence, found.classes, strict=True
    ):
        by_union, _ = overlaps(box, theirs[:, :4])
        alike = (np.abs(theirs[:, 4] - confidence) < 1e-5) & (theirs[:, 5] == grain_class)
        same += bool(((by_union > 0.99) & alike).any())
    return len(found) + len(theirs) - 2 * same


@pytest.mark.parametrize("architecture", ["yolov8n.yaml", "yolov8n-seg.yaml", "yolo26n-seg.yaml"])
def test_wild_models_as_ultralytics_reads_them(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = write_model(tmp_path / "wild.pt", architecture).model_copy(update={"tile_px": TILE})
    backend = TorchBackend(tmp_path / "wild.pt", card, tmp_path, device="cpu", half=False)
    # Its suppression knows no containment.
    monkeypatch.setattr(
        "pollen.detection.decoding.one_box_per_grain", partial(one_box_per_grain, contained=1.0)
    )
    compared, different = 0, 0

    def compare(_number: int, raw: FloatArray, prototypes: FloatArray | None) -> None:
        nonlocal compared, different
        assert (prototypes is not None) == ("seg" in architecture)
        confidence = float(np.quantile(raw[4:6].max(axis=0), 0.5))
        decoder = Decoder(ORDER, confidence, 0.5, TILE)
        decoder.check(raw.shape, prototypes is not None)
        theirs = unlimited_suppression(raw, confidence)
        compared = len(theirs)
        different = unmatched(decoder.decode(raw, prototypes), theirs)

    backend.run(rendered(1, TILE, seed=1), compare)
    assert compared > 100
    assert different <= 0.01 * compared  # boxes may overlap by half to the last bit


def test_the_bundled_model_as_ultralytics_reads_it(
    bundled: Prepared, on_torch: Detector, tiles: list[NDArray[np.uint8]]
) -> None:
    """From pixels to masks, through Ultralytics' own predictor."""
    from ultralytics.models import YOLO

    yolo: Any = YOLO(bundled.weights)
    ratios: list[float] = []
    for tile, found in zip(tiles, on_torch.detect(tiles), strict=True):
        result = yolo.predict(
            np.ascontiguousarray(tile[..., ::-1]),  # it expects BGR
            imgsz=bundled.card.tile_px,
            conf=bundled.card.confidence,
            iou=bundled.card.merge_iou,
            max_det=100_000,
            agnostic_nms=True,
            device="cpu",
            verbose=False,
        )[0]
        assert unmatched(found, np.asarray(result.boxes.data, np.float32)) == 0
        if len(found):
            centres = np.asarray(result.boxes.xywh)[:, :2]
            for centre, area in zip(found.centres, found.areas_px, strict=True):
                other = int(np.abs(centres - centre).sum(axis=1).argmin())
                ratios.append(float(area) / float(result.masks.data[other].sum()))
    assert len(ratios) > 20
    # It rounds the box that ends a mask up, not to the nearest pixel.
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.08)
    assert np.mean(ratios) == pytest.approx(1, abs=0.015)
