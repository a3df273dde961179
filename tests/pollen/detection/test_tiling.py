import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pollen.counting.rules import EDGE_MARGIN_PX, touched_sides
from pollen.detection.grains import Grains
from pollen.detection.tiling import (
    PADDING_GREY,
    SNAP_MODEL_PX,
    ScaleError,
    Tile,
    TileGrid,
    join_tiles,
    spans,
)
from tests.pollen.grain_making import discs, equal

MERGE_IOU = 0.5
LARGEST = 60.0
GRID = TileGrid(tile_px=256, scale=1.0, largest_grain_px=LARGEST)


@given(st.integers(1, 30_000), st.integers(64, 1500), st.floats(0, 0.5))
def test_spans(length: int, window: int, overlap_part: float) -> None:
    overlap = overlap_part * window
    found = spans(length, window, overlap)
    assert found[0].start == 0
    assert found[-1].stop == length
    assert {span.stop - span.start for span in found} == {min(window, length)}
    for first, second in pairwise(found):
        assert first.start < second.start
        assert first.stop - second.start >= overlap
        assert first.core_stop == second.core_start
        # what the owner of a centre sees around it, on both sides of the seam
        assert first.stop - first.core_stop >= overlap / 2
        assert second.core_start - second.start >= overlap / 2
    assert found[0].core_start == -math.inf
    assert found[-1].core_stop == math.inf
    assert all(span.core_start < span.core_stop for span in found)


def test_no_tile_is_needless() -> None:
    assert [span.start for span in spans(640, 640, 160)] == [0]
    assert [span.start for span in spans(641, 640, 160)] == [0, 1]
    assert [span.start for span in spans(640 + 480, 640, 160)] == [0, 480]
    assert [span.start for span in spans(640 + 481, 640, 160)] == [0, 480, 481]


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_every_point_has_one_owner(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tiles = GRID.tiles(width, height)
    for x, y in rng.uniform(0, (width, height), (20, 2)):
        owners = [
            tile
            for tile in tiles
            if tile.x.core_start <= x < tile.x.core_stop
            and tile.y.core_start <= y < tile.y.core_stop
        ]
        assert len(owners) == 1
        assert owners[0].x.start <= x <= owners[0].x.stop
        assert owners[0].y.start <= y <= owners[0].y.stop


@pytest.mark.parametrize(
    ("scale", "largest", "fits"),
    [(1, 128, True), (1, 129, False), (2, 65, False), (0.5, 200, True)],
)
def test_grains_must_fit_the_window(scale: float, largest: float, fits: bool) -> None:
    if fits:
        TileGrid(256, scale, largest)
        return
    with pytest.raises(ScaleError, match="do not fit the model's window of"):
        TileGrid(256, scale, largest)


# Joining: a slide of known grains, seen through tiles by a model that places each sighting a
# little differently and is of random confidence, also where the tile's border cuts the grain.


def strewn(
    size: tuple[int, int], number: int, rng: np.random.Generator, *, at: NDArray[np.float64]
) -> Grains:
    """Up to `number` grains that may touch but not overlap, preferably at the places `at`."""
    centres: list[tuple[float, float]] = []
    diameters: list[float] = []
    anywhere = rng.uniform(0, size, (number, 2))
    for x, y in np.concatenate([at, anywhere])[:number]:
        diameter = rng.uniform(20, 0.92 * LARGEST)
        gaps = [
            math.dist((x, y), other) - (diameter + theirs) / 2
            for other, theirs in zip(centres, diameters, strict=True)
        ]
        if 0 <= x < size[0] and 0 <= y < size[1] and min(gaps, default=0) >= 0:
            centres.append((float(x), float(y)))
            diameters.append(float(diameter))
    return clipped(
        discs(centres, diameters, classes=rng.integers(0, 2, len(centres))), (0, 0, *size)
    )


def clipped(grains: Grains, window: tuple[float, float, float, float]) -> Grains:
    """What can be seen of grains in a window, at least 3 px of each."""
    low, high = np.array(window[:2], np.float32), np.array(window[2:], np.float32)
    boxes = np.concatenate(
        [np.maximum(grains.boxes[:, :2], low), np.minimum(grains.boxes[:, 2:], high)], axis=1
    )
    seen = np.asarray((boxes[:, 2:] - boxes[:, :2] >= 3).all(axis=1))
    outlines = tuple(np.clip(outline, low, high) for outline in grains.outlines)
    return Grains(boxes, grains.confidence, grains.classes, grains.areas_px, outlines).take(seen)


def sightings(
    truth: Grains, tiles: Sequence[Tile], grid: TileGrid, rng: np.random.Generator, jitter: float
) -> list[Grains]:
    """What a model sees in each tile, in model-input pixels, each box shifted by a part of its size."""
    found = []
    for tile in tiles:
        seen = clipped(truth, (tile.x.start, tile.y.start, tile.x.stop, tile.y.stop))
        sides = seen.boxes[:, 2:] - seen.boxes[:, :2]
        shift = rng.uniform(-jitter, jitter, (len(seen), 2)) * sides
        seen = Grains(
            (seen.boxes + np.tile(shift, 2)).astype(np.float32),
            rng.uniform(0.3, 0.95, len(seen)).astype(np.float32),
            seen.classes,
            seen.areas_px,
            seen.outlines,
        )
        scale = grid.exact_scale
        found.append(seen.placed(scale, (-tile.x.start * scale, -tile.y.start * scale)))
    return found


def assert_each_once(
    joined: Grains, truth: Grains, off_px: float, frame: tuple[int, int, float] = (0, 0, 0)
) -> None:
    """Every true grain is there once, whole, at most `off_px` away on each side of its box.

    Sides may lie at the sides of the `frame` (width, height) if they are closer than its third
    number, pixels.
    """
    assert len(joined) == len(truth)
    width, height, snap_px = frame
    at_frame = joined.boxes == np.array([0, 0, width, height], np.float32)
    for box, grain_class in zip(truth.boxes, truth.classes, strict=True):
        sides = np.abs(joined.boxes - box)
        apart = np.where(at_frame & (sides <= snap_px + off_px), 0, sides).max(axis=1)
        assert apart.min() <= off_px
        assert joined.classes[apart.argmin()] == grain_class


#: Part of its size by which a sighting may be shifted; the largest grains may lose as much again
#: to the border of their tile.
JITTER = 0.05
SCALES = (1.0, 0.5, 0.37, 2.0)


@settings(max_examples=60)
@given(
    st.tuples(st.integers(40, 600), st.integers(40, 600)),
    st.sampled_from(SCALES),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 0.02, JITTER]),
)
def test_every_grain_is_counted_once(
    size: tuple[int, int], scale: float, seed: int, jitter: float
) -> None:
    rng = np.random.default_rng(seed)
    grid = TileGrid(round(256 * scale), scale, LARGEST)
    truth = strewn(size, 24, rng, at=near_seams(grid, size, rng))
    tiles = grid.tiles(*size)
    joined = join_tiles(tiles, sightings(truth, tiles, grid, rng, jitter), grid, size, MERGE_IOU)
    assert_each_once(joined, truth, 2 * jitter * LARGEST + 0.01, (*size, SNAP_MODEL_PX / scale))


def near_seams(
    grid: TileGrid, size: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    """`(N, 2)` places around the seams and their crossings, where tiles may disagree."""
    places = []
    tiles = grid.tiles(*size)
    for tile in tiles[: len(tiles) - 1]:
        x = tile.x.core_stop if math.isfinite(tile.x.core_stop) else rng.uniform(0, size[0])
        y = tile.y.core_stop if math.isfinite(tile.y.core_stop) else rng.uniform(0, size[1])
        places.append((x, y))
    around = np.array(places).reshape(-1, 2)
    return around + rng.uniform(-LARGEST, LARGEST, around.shape)


@pytest.mark.parametrize("diameter", [20.0, 46.0, LARGEST])
@pytest.mark.parametrize("jitter", [0.0, JITTER])
def test_a_grain_is_counted_once_wherever_it_lies(diameter: float, jitter: float) -> None:
    """One grain moved across the crossing of two seams in steps of a quarter pixel."""
    rng = np.random.default_rng(5)
    size = (452, 452)
    tiles = GRID.tiles(*size)
    seam = tiles[0].x.core_stop
    for distance in np.arange(-40, 40, 0.25):
        for place in ((seam + distance, 60), (60, seam + distance), (seam + distance,) * 2):
            truth = discs([place], diameter)
            found = sightings(truth, tiles, GRID, rng, jitter)
            joined = join_tiles(tiles, found, GRID, size, MERGE_IOU)
            assert_each_once(joined, truth, 2 * jitter * diameter + 0.01)


def test_the_whole_grain_wins_over_a_cut_one() -> None:
    """The tile that owns the centre sees the grain whole; another's sighting may be surer but is cut."""
    size = (452, 256)
    tiles = GRID.tiles(*size)
    seam = tiles[0].x.core_stop
    truth = discs([(seam + LARGEST / 2 - 1, 100)], LARGEST)
    found = sightings(truth, tiles, GRID, np.random.default_rng(0), 0.0)
    assert [len(seen) for seen in found] == [1, 1]
    cut, whole = found
    assert cut.boxes[0, 2] - cut.boxes[0, 0] < whole.boxes[0, 2] - whole.boxes[0, 0]
    sure = Grains(cut.boxes, np.ones(1, np.float32), cut.classes, cut.areas_px, cut.outlines)
    assert_each_once(join_tiles(tiles, [sure, whole], GRID, size, MERGE_IOU), truth, 0.01)


@given(st.floats(0, 2 * math.pi), st.floats(20, LARGEST), st.floats(20, LARGEST))
def test_touching_grains_across_a_seam_stay_two(angle: float, first: float, second: float) -> None:
    size = (452, 452)
    tiles = GRID.tiles(*size)
    seam = tiles[0].x.core_stop
    half = np.array([math.cos(angle), math.sin(angle)]) * (first + second) / 4
    truth = discs([tuple(seam - half), tuple(seam + half)], [first, second], classes=[0, 1])
    found = sightings(truth, tiles, GRID, np.random.default_rng(0), 0.0)
    assert_each_once(join_tiles(tiles, found, GRID, size, MERGE_IOU), truth, 0.01)


def test_nothing_found() -> None:
    tiles = GRID.tiles(400, 400)
    none = [Grains.none()] * len(tiles)
    assert equal(join_tiles(tiles, none, GRID, (400, 400), MERGE_IOU), Grains.none())


def test_what_lies_in_the_padding_is_dropped_and_the_rest_cut_to_the_frame() -> None:
    size = (200, 150)
    tiles = GRID.tiles(*size)
    found = discs([(100, 75), (230, 75), (100, 200), (190, 140)], 40)
    joined = join_tiles(tiles, [found], GRID, size, MERGE_IOU)
    assert joined.boxes.tolist() == [[80, 55, 120, 95], [170, 120, 200, 150]]
    assert all((outline <= size).all() for outline in joined.outlines)


# Pixels: what the model is given.


def chart(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture of noise, `(height, width, 3)`."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_whole_window_at_scale_1_is_not_touched() -> None:
    window = chart(256, 256)
    assert np.array_equal(GRID.model_input(window), window)


@given(st.integers(1, 256), st.integers(1, 256))
def test_small_frames_are_padded_and_never_scaled(width: int, height: int) -> None:
    window = chart(width, height)
    shown = GRID.model_input(window)
    assert shown.shape == (256, 256, 3)
    assert shown.dtype == np.uint8
    assert np.array_equal(shown[:height, :width], window)
    assert (shown[height:] == PADDING_GREY).all()
    assert (shown[:, width:] == PADDING_GREY).all()


@pytest.mark.parametrize("size", [(300, 200), (700, 5000)])
def test_a_small_frame_costs_little_however_large_its_stated_grains_are(
    size: tuple[int, int],
) -> None:
    grid = TileGrid(256, 0.001, LARGEST)  # a whole window would be 256,000 px wide
    shown = grid.model_input(np.zeros((*size, 3), np.uint8))
    assert shown.shape == (256, 256, 3)
    height, width = (-(-side // 1000) for side in size)
    assert (shown[:height, :width] < PADDING_GREY).all()
    assert (shown[height:] == PADDING_GREY).all()
    assert (shown[:, width:] == PADDING_GREY).all()


@pytest.mark.parametrize("scale", [0.5, 0.37, 0.81, 2.0])
def test_resampled_grains_are_found_where_they_are(scale: float) -> None:
    """A disc drawn in the frame, measured in the model's input and placed back: under 1 px off."""
    grid = TileGrid(256, scale, LARGEST)
    width, height = grid.window_px * 2 - 30, grid.window_px - 7
    y, x = np.mgrid[0:height, 0:width] + 0.5
    for tile in grid.tiles(width, height):
        for part in (0.2, 0.5, 0.83):
            centre = tile.x.start + part * grid.window_px, part * height
            frame = np.full((height, width, 3), 255, np.uint8)
            frame[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= 20**2] = 0
            shown = grid.model_input(frame[tile.y.start : tile.y.stop, tile.x.start : tile.x.stop])
            assert shown.shape == (256, 256, 3)
            dark = 255 - shown[..., 0].astype(float)
            dark[dark < 255 - PADDING_GREY + 20] = 0  # the padding
            v, u = np.mgrid[0:256, 0:256] + 0.5
            found = (dark * u).sum() / dark.sum(), (dark * v).sum() / dark.sum()
            placed = discs([found], 40 * scale).placed(
                1 / grid.exact_scale, (tile.x.start, tile.y.start)
            )
            assert placed.centres[0] == pytest.approx(centre, abs=0.5)
            assert placed.diameters_px[0] == pytest.approx(40, rel=0.005)


def test_making_smaller_averages_pixels() -> None:
    """Colour is the signal of viability: one pixel in four must not speak for all."""
    grid = TileGrid(128, 0.5, LARGEST)
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (grid.model_input(stripes) == 100).all()
    noise = chart(256, 256)
    assert grid.model_input(noise).mean() == pytest.approx(noise.mean(), abs=0.6)


def test_exact_scale_is_what_happens_to_the_pixels() -> None:
    grid = TileGrid(640, 0.37, 100)
    assert grid.window_px == 1730
    assert grid.exact_scale == pytest.approx(640 / 1730)
    assert grid.exact_scale == pytest.approx(0.37, rel=1e-3)


@pytest.mark.parametrize("scale", SCALES)
def test_boxes_that_end_close_to_the_frame_end_at_it(scale: float) -> None:
    """A cut grain's box ends a little early; the edge rules must see that it is cut."""
    size = (500, 400)
    grid = TileGrid(round(512 * scale), scale, LARGEST)
    near, far = 1.4 / scale, 1.6 / scale
    for gap, snapped in ((near, True), (far, False)):
        boxes = [
            (gap, 100, gap + 40, 140),
            (100, gap, 140, gap + 40),
            (size[0] - gap - 40, 200, size[0] - gap, 240),
            (200, size[1] - gap - 40, 240, size[1] - gap),
        ]
        truth = discs([((a + c) / 2, (b + d) / 2) for a, b, c, d in boxes], 40.0)
        joined = join_tiles(
            grid.tiles(*size), [truth.placed(grid.exact_scale, (0, 0))], grid, size, MERGE_IOU
        )
        touched = touched_sides(joined.boxes, *size).any(axis=1)
        assert touched.tolist() == [snapped or gap <= EDGE_MARGIN_PX] * 4
