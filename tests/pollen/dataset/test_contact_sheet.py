"""The contact sheet stands for the dataset, shows labels in their colours, and is bounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.arrays import Pixels
from pollen.classes import GrainClass
from pollen.dataset import contact_sheet as module
from pollen.dataset.contact_sheet import (
    LONGEST_PX,
    UNSURE_COLOUR,
    chosen,
    contact_sheet,
    labelled_thumbnail,
)
from pollen.dataset.manifest import Manifest, Split
from pollen.reports.annotate import decode_jpeg
from pollen.reports.legend import CLASS_COLOURS, Colour
from tests.pollen.dataset.reporting import grain, image, manifest, thumbnail_of


def has_colour(picture: Pixels, colour: Colour) -> bool:
    """Whether a few pixels have about this colour."""
    distance = np.abs(picture.astype(int) - np.array(colour)).max(axis=2)
    return int((distance < 40).sum()) > 20


def of_many(groups: int, per_group: int) -> Manifest:
    return manifest(
        *(
            image(f"{g}-{n}.png", list(Split)[g % 3], f"plant {g}")
            for g in range(groups)
            for n in range(per_group)
        )
    )


def test_labels_are_drawn_in_the_colours_of_their_classes() -> None:
    even = np.full((200, 200, 3), 120, np.uint8)
    classes = {
        GrainClass.VIABLE: CLASS_COLOURS[GrainClass.VIABLE],
        GrainClass.NON_VIABLE: CLASS_COLOURS[GrainClass.NON_VIABLE],
        None: UNSURE_COLOUR,
    }
    for own, expected in classes.items():
        picture = decode_jpeg(labelled_thumbnail(even, [grain(own, 0.5, 0.5)], LONGEST_PX))
        assert has_colour(picture, expected)
        others = [colour for other, colour in classes.items() if other is not own]
        assert not any(has_colour(picture, colour) for colour in others)


def test_a_label_is_drawn_where_it_is() -> None:
    even = np.full((400, 800, 3), 120, np.uint8)
    jpeg = labelled_thumbnail(even, [grain(GrainClass.VIABLE, 0.75, 0.5, 0.1)], 400)
    picture = decode_jpeg(jpeg)
    assert picture.shape == (200, 400, 3)
    ys, xs = np.nonzero(np.abs(picture.astype(int) - 120).max(axis=2) > 60)
    assert (xs.min() + xs.max()) / 2 == pytest.approx(300, abs=2)
    assert (ys.min() + ys.max()) / 2 == pytest.approx(100, abs=2)
    assert xs.max() - xs.min() == pytest.approx(80, abs=6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 3), (50, 60)])
def test_pictures_of_any_shape_have_a_thumbnail(shape: tuple[int, int]) -> None:
    black = np.zeros((*shape, 3), np.uint8)
    jpeg = labelled_thumbnail(black, [grain(None, 0.5, 0.5)], LONGEST_PX)
    height, width = decode_jpeg(jpeg).shape[:2]
    assert max(height, width) == min(max(shape), LONGEST_PX)


@given(
    groups=st.integers(1, 12),
    per_group=st.integers(1, 6),
    most=st.integers(0, 40),
    new=st.sets(st.integers(0, 71)),
)
def test_as_many_as_wanted_each_once_and_every_plant_in_turn(
    groups: int, per_group: int, most: int, new: set[int]
) -> None:
    whole = of_many(groups, per_group)
    new_keys = {one.key for number, one in enumerate(whole.images) if number in new}
    picked = chosen(whole, new_keys, most)
    assert len(picked) == min(most, len(whole.images))
    assert len({one.key for one in picked}) == len(picked)
    # A picture of its split's kind comes before its turn, in each of three splits.
    if most >= groups + 3:
        assert {one.group for one in picked} == {one.group for one in whole.images}
    assert picked == chosen(Manifest(images=whole.images[::-1]), new_keys, most)


def test_every_kind_of_picture_of_every_split_is_there() -> None:
    kinds = [(3, 0), (0, 2), (2, 2), (0, 0), (1, 0, 1)]
    usual = [image(f"usual {n}.png", grains=(9, 0)) for n in range(40)]
    rare = [
        image(f"{split} {n}.png", split, grains=kind)
        for split in Split
        for n, kind in enumerate(kinds)
    ]
    picked = chosen(manifest(*usual, *rare), (), 15)
    assert {(one.split, one.grains.model_dump_json()) for one in picked if one in rare} >= {
        (one.split, one.grains.model_dump_json()) for one in rare if one.grains.viable != 3
    }


def test_new_pictures_come_first_and_say_so() -> None:
    whole = of_many(4, 30)
    new_keys = {one.key for one in whole.images if one.name.endswith("-17.png")}
    sheet = contact_sheet(whole, thumbnail_of, new_keys=new_keys, most=8)
    assert {picture.image.key for picture in sheet if picture.is_new} == new_keys
    assert len(sheet) == 8


def test_only_what_is_shown_is_read_and_what_is_gone_is_skipped() -> None:
    read: list[str] = []

    def reading(key: str, longest_px: int) -> bytes | None:
        read.append(key)
        return None if key.endswith("0-1.png") else thumbnail_of(key, longest_px)

    sheet = contact_sheet(of_many(5, 20), reading, most=7)
    assert len(read) == 7
    assert len(sheet) in (6, 7)
    assert contact_sheet(manifest(), thumbnail_of) == ()


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of_many(5, 5)
    sizes = [len(picture.jpeg) for picture in contact_sheet(whole, thumbnail_of)]
    monkeypatch.setattr(module, "MOST_BYTES", sum(sizes[:4]))
    assert [len(picture.jpeg) for picture in contact_sheet(whole, thumbnail_of)] == sizes[:4]
