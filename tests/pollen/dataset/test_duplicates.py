"""Copies are found however they were turned or saved; look-alikes are not."""

import itertools
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from pollen.arrays import Pixels
from pollen.dataset.duplicates import Copies, Look
from pollen.dataset.pictures import decode
from pollen.synth import FrameSpec, render
from tests.pollen.dataset.making import encoded


def micrograph(seed: int, n_grains: int = 8) -> Pixels:
    spec = FrameSpec(width_px=320, height_px=256, n_grains=n_grains)
    return render(spec, seed).pixels


def jpeg(picture: Pixels, quality: int) -> Pixels:
    bgr = np.ascontiguousarray(picture[..., ::-1])
    data = bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
    return decode(data, "a.jpg", 10**8)


def resized(picture: Pixels, scale: float) -> Pixels:
    return np.asarray(cv2.resize(picture, None, fx=scale, fy=scale), np.uint8)


def pairs(pictures: list[Pixels]) -> list[tuple[int, int]]:
    """All pairs, the later picture first."""
    return compared([Look.of(np.ascontiguousarray(picture)) for picture in pictures])


def compared(looks: list[Look], first: int = 0, *, alone: bool = True) -> list[tuple[int, int]]:
    """Pairs of looks, those from ``first`` on queried; each alone in its component, or all in one."""
    copies = Copies(
        {str(at): look.hash for at, look in enumerate(looks)},
        {str(at): look.turned_hashes for at, look in enumerate(looks) if at >= first},
        lambda one: looks[int(one)],
    )
    for at in range(len(looks)):
        before = {str(earlier): str(earlier) if alone else "one" for earlier in range(at)}
        copies.of(str(at), before.get)
    return [(int(one), int(other)) for one, other in copies.pairs]


@pytest.mark.parametrize("turn", range(8))
def test_turned_and_mirrored_copies_are_found(turn: int) -> None:
    original = micrograph(1)
    turned = np.rot90(original, turn % 4)
    copy = turned[:, ::-1] if turn >= 4 else turned
    assert pairs([original, copy, micrograph(2)]) == [(1, 0)]


def test_saved_again_resized_and_brightened_copies_are_found() -> None:
    original = micrograph(1)
    copies = [
        jpeg(original, 60),
        resized(original, 0.6),
        resized(original, 1.7),
        np.clip(original * 1.05 + 6, 0, 255).astype(np.uint8),
        jpeg(resized(np.ascontiguousarray(np.rot90(original)[::-1]), 0.8), 70),
    ]
    found = pairs([original, *copies])
    assert {(one, 0) for one in range(1, 6)} <= set(found)


def test_different_pictures_are_none() -> None:
    assert pairs([micrograph(seed, n_grains=seed) for seed in range(12)]) == []


def near_empty(seed: int) -> Pixels:
    """A frame of the same slide without a grain: the same shading and burnt-in scale bar, other noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:256, 0:256] / 256
    shading = 200 + 20 * np.sin(x * 2) - 25 * (y - 0.4) ** 2
    frame = np.repeat(shading[..., None], 3, axis=2) + rng.normal(0, 1.5, (256, 256, 3))
    pixels = np.clip(frame, 0, 255).astype(np.uint8)
    pixels[240:245, 200:247] = 20
    return pixels


def test_near_empty_frames_are_not_taken_for_one_another() -> None:
    assert pairs([near_empty(seed) for seed in range(8)]) == []


def test_a_near_empty_frame_is_still_found_in_its_copy() -> None:
    assert pairs([near_empty(1), np.ascontiguousarray(near_empty(1)[::-1])]) == [(1, 0)]


def on_canvas(picture: Pixels, side: int = 400) -> Pixels:
    canvas = np.zeros((side, side, 3), np.uint8)
    top, left = (side - picture.shape[0]) // 2, (side - picture.shape[1]) // 2
    canvas[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return canvas


def test_a_black_canvas_is_nothing_to_have_in_common() -> None:
    crops = [micrograph(seed, 12)[60:180, 80:200] for seed in range(6)]
    assert pairs([on_canvas(crop) for crop in crops]) == []
    assert pairs([on_canvas(crops[0]), jpeg(on_canvas(crops[0], 500), 80)]) == [(1, 0)]


def test_flat_and_black_pictures_are_no_copies_and_do_no_harm() -> None:
    flat = np.full((50, 50, 3), 200, np.uint8)
    assert pairs([flat, flat.copy(), np.zeros((50, 50, 3), np.uint8), flat[:1]]) == []


def test_a_picture_of_another_shape_is_no_copy() -> None:
    original = micrograph(1)
    squeezed = np.asarray(cv2.resize(original, (320, 160)), np.uint8)
    assert pairs([original, squeezed]) == []


def test_only_queried_pictures_are_compared() -> None:
    looks = [Look.of(micrograph(seed)) for seed in (1, 1, 2, 1)]
    assert compared(looks, 3) == [(3, 0), (3, 1)]
    assert compared(looks, 4) == []
    # The other way round: a picture that was there before comes after one that is queried.
    copies = Copies(
        {"a": looks[0].hash, "b": looks[1].hash},
        {"b": looks[1].turned_hashes},
        {"a": looks[0], "b": looks[1]}.__getitem__,
    )
    assert copies.of("b", lambda _: None) == []
    assert copies.of("a", {"b": "one"}.get) == ["b"]


def test_frames_of_one_field_are_not_compared_each_with_each() -> None:
    number, asked = 400, Counter[str]()
    look = Look.of(micrograph(1))

    def counted(one: str) -> Look:
        asked[one] += 1
        return look

    ids = [str(at) for at in range(number)]
    copies = Copies(dict.fromkeys(ids, look.hash), dict.fromkeys(ids, look.turned_hashes), counted)
    for at, one in enumerate(ids):
        copies.of(one, dict.fromkeys(ids[:at], "one").get)

    assert copies.pairs == [(one, "0") for one in ids[1:]]
    assert set(asked.values()) == {1}


def test_real_pictures(real_pictures: Path) -> None:
    paths = sorted((real_pictures / "val" / "images").iterdir())[::2]
    pictures = [decode(path.read_bytes(), path.name, 10**8) for path in paths]
    assert pairs(pictures) == []
    copies = [decode(encoded(picture[::-1], ".jpg"), "a.jpg", 10**8) for picture in pictures]
    found = set(pairs([*pictures, *copies]))
    assert found == {(len(paths) + at, at) for at in range(len(paths))}


def test_hashes_name_every_symmetry_once() -> None:
    turned = Look.of(micrograph(3)).turned_hashes
    assert len(set(turned)) == 8
    assert turned[0] == Look.of(micrograph(3)).hash
    for one, other in itertools.combinations(turned, 2):
        assert one != other
