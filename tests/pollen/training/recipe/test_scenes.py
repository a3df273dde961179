"""Scenes: repeatable, and their outlines lie on what they outline."""

from dataclasses import replace

import numpy as np
import pytest

from pollen.training.collage import Outline, fill_outlines
from pollen.training.examples import Example
from pollen.training.recipe.collating import collate, numbered_masks
from pollen.training.recipe.scenes import SceneMaker, SceneMix, Stock

EVERYTHING = SceneMix(real=1, collage=1, blank=1, rendered=1, mosaic=0.3)
SIDE = 160


@pytest.fixture(scope="module")
def maker(stock: list[Stock], pictures: list[Example]) -> SceneMaker:
    return SceneMaker(stock, pictures, EVERYTHING, SIDE, 0.5, seed=5)


def test_a_scene_is_the_same_whenever_and_by_whomever_it_is_made(
    maker: SceneMaker, stock: list[Stock], pictures: list[Example]
) -> None:
    first = [maker.make(number) for number in range(12)]
    other = SceneMaker(stock, pictures, EVERYTHING, SIDE, 0.5, seed=5)
    for number in (11, 3, 7):
        again = other.make(number)
        np.testing.assert_array_equal(again.pixels, first[number].pixels)
        assert len(again.outlines) == len(first[number].outlines)
    assert not np.array_equal(first[0].pixels, first[1].pixels)
    assert not np.array_equal(replace(maker, seed=6).make(0).pixels, first[0].pixels)


def test_outlines_lie_inside_the_scene_on_something_darker_than_around_it(
    maker: SceneMaker,
) -> None:
    darker, grains = 0, 0
    for number in range(60):
        scene = maker.make(number)
        assert scene.pixels.shape == (SIDE, SIDE, 3)
        everything = fill_outlines((SIDE, SIDE), scene.outlines)
        around = np.median(scene.pixels[everything == 0][:, 1]) if (everything == 0).any() else 255
        for outline in scene.outlines:
            x0, y0, x1, y1 = outline.box
            assert min(x0, y0) >= 0
            assert max(x1, y1) <= SIDE
            grains += 1
            inside = scene.pixels[fill_outlines((SIDE, SIDE), [outline]) > 0][:, 1]
            darker += bool(inside.size) and float(np.median(inside)) < around
    assert grains > 150
    # Green is what the stain takes; backgrounds of a mosaic's quarters differ, hence not all.
    assert darker / grains > 0.85


def test_collages_hold_more_grains_than_the_pictures_they_start_from(stock: list[Stock]) -> None:
    def grains(mix: SceneMix) -> int:
        maker = SceneMaker(stock, [], mix, SIDE, 0.5, seed=1)
        return sum(len(maker.make(number).outlines) for number in range(40))

    assert grains(SceneMix(real=0, collage=1)) > 1.3 * grains(SceneMix(real=1))
    assert grains(SceneMix(real=0, blank=1)) > 40


def test_numbered_masks_agree_with_the_boxes(maker: SceneMaker) -> None:
    for number in range(20):
        scene = maker.make(number)
        numbered, order = numbered_masks(scene, 2)
        for position, index in enumerate(order):
            rows, columns = np.nonzero(numbered == position + 1)
            if len(rows) < 20:
                continue  # hidden by a smaller grain
            x0, y0, x1, y1 = scene.outlines[index].box
            assert columns.min() * 2 >= x0 - 2.5
            assert columns.max() * 2 <= x1 + 2.5
            assert rows.min() * 2 >= y0 - 2.5
            assert rows.max() * 2 <= y1 + 2.5


@pytest.mark.parametrize("mask_ratio", [1, 2, 4])
@pytest.mark.parametrize("radius", [6.0, 11.3, 30.0])
def test_masks_are_as_large_as_the_grains(mask_ratio: int, radius: float) -> None:
    sizes = []
    for offset in np.linspace(0, 4, 9):
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        points = np.column_stack([80 + radius * np.cos(angle), 79 + radius * np.sin(angle)])
        outline = Outline(0, (points + offset).astype(np.float32))
        scene = Example(np.zeros((SIDE, SIDE, 3), np.uint8), (outline,))
        numbered, _ = numbered_masks(scene, mask_ratio)
        sizes.append(float((numbered > 0).sum()) * mask_ratio**2)
    # Diameters within 3 %: coarse pixels round each single grain, but none of the sizes is biased.
    assert np.sqrt(np.mean(sizes)) == pytest.approx(np.sqrt(np.pi) * radius, rel=0.03)


def test_a_batch_holds_every_grain_with_its_scene(maker: SceneMaker) -> None:
    scenes = [maker.make(number) for number in range(4)]
    batch = collate(scenes, mask_ratio=4)
    assert batch["img"].shape == (4, 3, SIDE, SIDE)
    assert batch["masks"].shape == (4, SIDE // 4, SIDE // 4)
    counts = [int((batch["batch_idx"] == number).sum()) for number in range(4)]
    assert counts == [len(scene.outlines) for scene in scenes]
    assert float(batch["bboxes"].min()) >= 0
    assert float(batch["bboxes"].max()) <= 1
