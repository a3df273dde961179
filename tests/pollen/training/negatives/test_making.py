"""Negatives: the same every time, made of the given pictures only, and without any grain."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pollen.arrays import Pixels
from pollen.dataset.findings import Severity
from pollen.errors import PollenError
from pollen.synth.patch import Patch
from pollen.training.collage import Outline
from pollen.training.negatives import (
    Background,
    DebrisPicture,
    DebrisStock,
    Negative,
    gather_debris,
    make_negatives,
    read_debris,
)
from pollen.training.negatives.cutouts import find_pieces, looks_like_grain
from tests.pollen.training.negatives.debris_making import background, plain, smudges

FRAMES = [background(seed) for seed in (1, 2, 3)]


def made(
    pictures: Sequence[DebrisPicture] | None = None,
    frames: Sequence[Background] = FRAMES,
    count: int = 6,
    seed: int = 7,
    side_px: int = 320,
) -> list[Negative]:
    debris = gather_debris(smudges() if pictures is None else pictures, frames, "smudges_raw")
    return list(make_negatives(debris, frames, count, seed=seed, side_px=side_px))


def same(one: Sequence[Negative], other: Sequence[Negative]) -> list[bool]:
    return [bool((a.pixels == b.pixels).all()) for a, b in zip(one, other, strict=True)]


def test_the_same_every_time_whatever_the_order_and_the_names() -> None:
    first = made()
    turned = made([replace(s, name=f"copy of {s.name}") for s in smudges()[::-1]], FRAMES[::-1])
    assert all(same(first, turned))
    assert [n.name for n in first] == [f"neg_syn_7_{i:05d}.png" for i in range(6)]
    assert same(first[:3], made(count=3)) == [True] * 3


def test_another_seed_debris_or_background_gives_other_pictures() -> None:
    first = made()
    assert not any(same(first, made(seed=8)))
    assert not any(same(first, made(smudges(5))))
    assert not any(same(first, made(frames=FRAMES[:2])))


def test_all_pictures_have_the_wanted_size_and_no_two_are_alike() -> None:
    negatives = made(count=12)
    assert {n.pixels.shape for n in negatives} == {(320, 320, 3)}
    assert len({n.pixels.tobytes() for n in negatives}) == 12


def test_sources_are_the_given_pictures() -> None:
    negatives = made(count=12)
    keys, names = {frame.key for frame in FRAMES}, {smudge.name for smudge in smudges()}
    for negative in negatives:
        background_key, *pieces = negative.sources
        assert background_key in keys
        assert set(pieces) <= names
        assert len(set(pieces)) == len(pieces)
    assert len({negative.sources[0] for negative in negatives}) == 3
    assert sum(len(negative.sources) > 1 for negative in negatives) >= 9


def test_debris_darkens_the_frame_and_never_lights_it_up() -> None:
    stock = gather_debris(smudges(), FRAMES, "smudges_raw")
    with_debris = list(make_negatives(stock, FRAMES, 6, seed=7, side_px=320))
    for negative in with_debris:
        ground = np.median(negative.pixels.reshape(-1, 3), axis=0)
        brighter = (negative.pixels.astype(float) > ground + 60).all(axis=2)
        assert brighter.mean() < 0.01
    assert any((negative.pixels.min(axis=2) < 120).mean() > 0.002 for negative in with_debris)


def test_nothing_in_a_negative_looks_like_a_grain() -> None:
    for negative in made(count=10):
        for piece in find_pieces(negative.name, negative.pixels):
            assert not looks_like_grain(piece.cutout, piece.cut_sides)


def test_what_a_border_cut_lies_at_the_border() -> None:
    half = plain(Patch(0, 0, np.ones((120, 120, 3), np.float32)))
    cv2.line(half, (0, 70), (60, 90), (150, 40, 110), 7)
    pictures = [DebrisPicture("half.png", half)]
    even = Background("even.png", "e", lambda: (np.full((330, 330, 3), 210, np.uint8), ()))
    for negative in made(pictures, [even], count=8):
        dark = negative.pixels[..., 1] < 150
        assert dark.any()
        rim = np.concatenate(
            [dark[:3].ravel(), dark[-3:].ravel(), dark[:, :3].ravel(), dark[:, -3:].ravel()]
        )
        assert rim.any()


def test_a_picture_of_debris_twice_counts_once() -> None:
    pictures = smudges(3)
    assert all(same(made(pictures), made([*pictures, replace(pictures[0], name="again.png")])))


def test_without_pictures_of_debris_that_among_grains_is_taken_and_it_is_said() -> None:
    stock = gather_debris([], FRAMES, "smudges_raw")
    assert stock.pieces
    (finding,) = stock.findings
    assert (finding.severity, finding.file) == (Severity.NOTE, "smudges_raw")
    assert "train" in finding.message
    assert len(list(make_negatives(stock, FRAMES, 2, seed=0, side_px=320))) == 2


def test_without_any_debris_the_background_alone_is_made_and_it_is_said() -> None:
    even = Background("even.png", "e", lambda: (np.full((330, 330, 3), 210, np.uint8), ()))
    stock = gather_debris([], [even], "smudges_raw")
    assert stock.pieces == ()
    assert "empty background" in stock.findings[0].message
    (negative,) = make_negatives(stock, [even], 1, seed=0, side_px=320)
    assert (negative.pixels == 210).all()


def test_useless_pictures_are_named_with_what_to_do() -> None:
    blank = DebrisPicture("blank.png", np.full((100, 100, 3), 200, np.uint8))
    stock = gather_debris([blank, *smudges(3)], FRAMES, "smudges_raw")
    assert [finding.file for finding in stock.findings] == ["blank.png"]
    assert "or remove it" in stock.findings[0].message


def test_without_a_usable_frame_the_reason_and_the_remedy_are_said() -> None:
    def tiny() -> tuple[Pixels, Sequence[Outline]]:
        return np.full((40, 40, 3), 200, np.uint8), ()

    frames = [Background("tiny.png", "t", tiny)]
    with pytest.raises(PollenError, match="set negatives to 0"):
        list(make_negatives(DebrisStock(()), frames, 1, seed=0, side_px=320))
    assert list(make_negatives(DebrisStock(()), [], 0, seed=0, side_px=320)) == []


def test_small_frames_make_small_pictures() -> None:
    negatives = made(side_px=640, count=4)
    assert {n.pixels.shape for n in negatives} == {(320, 320, 3)}


def test_of_a_large_frame_the_parts_that_are_fit_are_taken() -> None:
    def half_covered() -> tuple[Pixels, Sequence[Outline]]:
        pixels = np.full((400, 2000, 3), 205, np.uint8)
        pixels[:, :300] = (160, 90, 130)  # tissue, under a grain
        square = np.array([[100, 100], [180, 100], [180, 180], [100, 180]], np.float32)
        return pixels, [Outline(0, square)]

    frames = [Background("slide.png", "s", half_covered)]
    for negative in make_negatives(DebrisStock(()), frames, 6, seed=1, side_px=160):
        assert (negative.pixels == 205).all()


def test_files_of_debris_are_read_and_broken_ones_are_findings(tmp_path: Path) -> None:
    flake = tmp_path / "a.png"
    cv2.imwrite(str(flake), smudges(1)[0].pixels[..., ::-1])
    (picture,), findings = read_debris(flake, "smudges_raw/a.png")
    assert picture.name == "smudges_raw/a.png"
    assert not findings
    np.testing.assert_array_equal(picture.pixels, smudges(1)[0].pixels)

    flake.write_bytes(flake.read_bytes()[:200])
    pictures, (finding,) = read_debris(flake, "smudges_raw/a.png")
    assert pictures == []
    assert finding.file == "smudges_raw/a.png"
    assert "truncated" in finding.message


def test_transparent_debris_is_seen_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.zeros((60, 80, 4), np.uint8)
    cv2.ellipse(pixels, (40, 30), (30, 9), 15, 0, 360, (110, 40, 170, 255), -1)
    cv2.imwrite(str(path), pixels)
    (picture,), _ = read_debris(path, "a.png")
    assert (picture.pixels[0, 0] == 255).all()
    assert len(find_pieces("a.png", picture.pixels)) == 1
