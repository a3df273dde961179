"""What belongs together, from file names."""

from pathlib import Path

import pytest

from pollen.dataset.families import (
    family_of,
    group_of,
    one_spelling,
    tells_plant,
    without_upload_prefix,
)
from pollen.dataset.settings import DatasetSettings

PATTERN = DatasetSettings().sample_pattern


@pytest.mark.parametrize(
    "names",
    [
        # One picture, as it was taken and as tools hand it on.
        ["1-3-F_S4x_BCrop_2.png", "1-3-F_S4x_BCrop_2_png.rf.0a1b2c3d4e.jpg"],
        ["a.tif", "A.JPG", "a_tif.rf.ab12.png", "a_png.rf.ab12_jpg.rf.cd34.jpg", "x/y/a.png"],
        ["s 1(2).png", "s-1-2-_png.rf.99.jpg", "s-1-2.jpg"],
        ["a.png", "a_aug_3.png", "a_aug_rot90_1.jpg", "a_aug_1_jpg.rf.77aa.jpg"],
        ["a.png", "neg_syn_a.jpg", "neg_syn_a_pad_4_png.rf.5e.jpg", "a_pad_1.png"],
        ["slide.png", "a1b2c3d4-slide.jpg", "0f0f0f0f-slide_aug_1.jpg"],
    ],
)
def test_copies_of_one_picture_share_a_family(names: list[str]) -> None:
    assert len({family_of(name) for name in names}) == 1


def test_different_pictures_have_different_families() -> None:
    names = [
        "1-3-F_S4x_BCrop_1.png",
        "1-3-F_S4x_BCrop_10.png",
        "1-3-F_S4x_B_train1.png",
        "20240101-a.png",  # a date, no upload prefix
        "20240102-a.png",
        "a.png",
        "rf.png",
        "aug_1.png",
    ]
    assert len({family_of(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name", [".png", "_aug_.png", "_png.jpg", "a1b2c3d4-.png", "---.png", "é.png"]
)
def test_a_family_is_never_empty(name: str) -> None:
    assert family_of(name)


def test_a_date_is_no_upload_prefix() -> None:
    assert without_upload_prefix("a1b2c3d4-slide.jpg") == "slide.jpg"
    assert without_upload_prefix("20240101-slide.jpg") == "20240101-slide.jpg"
    assert without_upload_prefix("a1b2c3d4-") == "a1b2c3d4-"


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("1-3-F_S4x_BCrop_2.png", "1-3-F_S4x"),
        ("train/images/1-3-F_s4X_C_train1_png.rf.aa.jpg", "1-3-F_S4x"),
        ("1-3-F_4x_B.png", "1-3-F_4x"),
        ("neg_syn_8-12-A_4x_C_selection_16.jpg", "8-12-A_4x"),
        ("Holiday (3).png", "holiday-3"),
    ],
)
def test_groups_are_plants_with_their_ploidy(name: str, group: str) -> None:
    assert group_of(name, PATTERN) == group


def test_a_name_tells_a_plant_or_not() -> None:
    assert tells_plant("train/images/1-3-F_S4x_B_2.png", PATTERN)
    assert tells_plant("neg_syn_a1b2c3d4-8-12-A_4x_C_16.jpg", PATTERN)
    assert not tells_plant("plantA_slide1_0001.png", PATTERN)
    assert not tells_plant("1-3-F_S4x/IMG_001.jpg", PATTERN)


def test_a_pattern_that_names_only_slides() -> None:
    pattern = r"slide(?P<replicate>\d+)"
    assert tells_plant("slide7_a.png", pattern)
    assert group_of("slide7_a.png", pattern) == group_of("slide7_b.png", pattern) == "7"


def test_real_names_share_no_plant_between_the_splits(real_pictures: Path) -> None:
    train, val = (
        {group_of(path.name, PATTERN) for path in (real_pictures / split / "images").iterdir()}
        for split in ("train", "val")
    )
    assert len(train) > 20
    assert not train & val


def test_a_plant_is_written_as_it_is_most_often() -> None:
    names = ["1-3-f_4x", "1-3-F_4x", "1-3-F_4x", "2-1-b", "2-1-B"]

    assert one_spelling(names) == {
        "1-3-f_4x": "1-3-F_4x",
        "1-3-F_4x": "1-3-F_4x",
        "2-1-b": "2-1-B",
        "2-1-B": "2-1-B",
    }
