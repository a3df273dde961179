from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.detection.tiling import TileGrid
from pollen.synth import FrameSpec, render
from pollen.training.collage import Outline, clip_to_canvas, fill_outlines
from pollen.training.examples import Example, cover, ellipse_in
from pollen.training.tiles import Task, cut, label_text


def disc(x: float, y: float, radius: float, grain_class: int = 0) -> Outline:
    return ellipse_in((x - radius, y - radius, x + radius, y + radius), grain_class)


def test_a_picture_of_the_models_size_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    grain = disc(64, 30, 12, grain_class=1)

    (piece,) = cut(Example(pixels, (grain,)), TileGrid(128, 1.0, 40))

    assert np.array_equal(piece.pixels, pixels)
    assert piece.outlines[0].grain_class == 1
    np.testing.assert_allclose(piece.outlines[0].points, grain.points, atol=1e-4)


def test_a_smaller_picture_is_padded_not_enlarged() -> None:
    pixels = np.full((50, 80, 3), 200, np.uint8)

    (piece,) = cut(Example(pixels, (disc(40, 25, 10),)), TileGrid(128, 1.0, 40))

    assert (piece.pixels[:50, :80] == 200).all()
    assert (piece.pixels[50:] == 114).all()
    np.testing.assert_allclose(piece.outlines[0].diameter_px, 20, rtol=0.02)


def test_a_working_scale_shrinks_pictures_and_outlines_alike() -> None:
    pixels = np.full((256, 256, 3), 230, np.uint8)
    pixels[fill_outlines((256, 256), [disc(100, 150, 30)]) > 0] = (150, 20, 80)

    (piece,) = cut(Example(pixels, (disc(100, 150, 30),)), TileGrid(128, 0.5, 80))

    dark = piece.pixels[..., 1] < 120
    drawn = fill_outlines((128, 128), piece.outlines) > 0
    assert (dark & drawn).sum() / (dark | drawn).sum() > 0.95


@given(st.floats(0, 300), st.floats(0, 200), st.floats(8, 20))
def test_some_piece_shows_all_of_a_grain_that_the_picture_shows(
    x: float, y: float, radius: float
) -> None:
    grain = disc(x, y, radius)
    in_picture = clip_to_canvas(grain, 300, 200)
    assert in_picture is not None

    pieces = cut(Example(np.zeros((200, 300, 3), np.uint8), (grain,)), TileGrid(128, 1.0, 42))

    areas = [seen.area_px for piece in pieces for seen in piece.outlines]
    assert max(areas) == pytest.approx(in_picture.area_px, rel=1e-3)


def test_what_a_seam_leaves_of_a_grain_is_a_label_only_where_it_can_be_seen() -> None:
    grid = TileGrid(128, 1.0, 40)
    first, second = cut(Example(np.zeros((128, 200, 3), np.uint8), (disc(73, 60, 10),)), grid)
    assert len(first.outlines) == 1
    assert len(second.outlines) == 1  # from x = 72: 11 px of it

    first, second = cut(Example(np.zeros((128, 200, 3), np.uint8), (disc(65, 60, 10),)), grid)
    assert len(first.outlines) == 1
    assert not second.outlines  # 3 px of it


@pytest.mark.parametrize("task", get_args(Task))
def test_labels_are_written_as_the_task_wants_them(task: Task) -> None:
    (piece,) = cut(
        Example(np.zeros((128, 128, 3), np.uint8), (disc(64, 32, 16, 1),)), TileGrid(128, 1.0, 40)
    )

    fields = label_text(piece, task).split()

    assert fields[0] == "1"
    if task == "detect":
        np.testing.assert_allclose(
            [float(f) for f in fields[1:]], [0.5, 0.25, 0.25, 0.25], atol=1e-4
        )
    else:
        points = np.array(fields[1:], float).reshape(-1, 2) * 128
        np.testing.assert_allclose(points, piece.outlines[0].points, atol=1e-3)


def test_a_covered_grain_is_gone_and_its_neighbour_stays() -> None:
    scene = render(FrameSpec(width_px=400, height_px=400, n_grains=8, touching_fraction=0), 3)
    grains = [Outline(int(g.grain_class), np.asarray(g.polygon, np.float32)) for g in scene.grains]
    hidden, kept = grains[:1], grains[1:]

    covered = cover(scene.pixels, hidden, kept)

    where = fill_outlines((400, 400), hidden) > 0
    background = np.median(scene.pixels.reshape(-1, 3), axis=0)
    assert np.abs(covered[where].mean(axis=0) - background).max() < 25
    assert np.abs(scene.pixels[where].mean(axis=0) - background).max() > 25
    stay = fill_outlines((400, 400), kept) > 0
    assert np.array_equal(covered[stay], scene.pixels[stay])
