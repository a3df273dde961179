"""Reading labelled pictures without their pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from pollen.classes import GrainClass
from pollen.dataset.labelled import Origin, origin_by_name, read_pictures
from pollen.errors import PollenError
from pollen.frames import FrameError


def write(split: Path, name: str, label: str | None, width: int = 100, height: int = 50) -> None:
    for part in ("images", "labels"):
        (split / part).mkdir(exist_ok=True)
    cv2.imwrite(str(split / "images" / name), np.full((height, width, 3), 200, np.uint8))
    if label is not None:
        (split / "labels" / f"{Path(name).stem}.txt").write_text(label)


def test_polygons_and_boxes_come_in_pixels(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "1 0.1 0.2 0.5 0.2 0.5 0.8\n\n")
    write(tmp_path, "a.png", "0 0.5 0.5 0.4 0.4\n")
    box, polygon = read_pictures(tmp_path)
    assert (box.name, polygon.name) == ("a.png", "b.png")
    assert polygon.size_px == (100, 50)
    np.testing.assert_allclose(polygon.truth.boxes, [[10, 10, 50, 40]], atol=1e-4)
    assert polygon.truth.classes.tolist() == [GrainClass.NON_VIABLE]
    np.testing.assert_allclose(polygon.truth.areas_px, [40 * 30 / 2], rtol=1e-5)
    np.testing.assert_allclose(box.truth.boxes, [[30, 15, 70, 35]], atol=1e-4)
    np.testing.assert_allclose(box.truth.areas_px, [np.pi / 4 * 40 * 20], rtol=1e-5)


def test_no_label_and_an_empty_one_mean_no_grain(tmp_path: Path) -> None:
    write(tmp_path, "a.png", None)
    write(tmp_path, "b.png", "")
    assert [len(picture.truth) for picture in read_pictures(tmp_path)] == [0, 0]


def test_grains_people_were_unsure_of_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "2 0.5 0.5 0.4 0.4\n0 0.1 0.1 0.2 0.2\n")
    (picture,) = read_pictures(tmp_path)
    assert len(picture.truth) == 1
    np.testing.assert_allclose(picture.unsure, [[30, 15, 70, 35]], atol=1e-4)


def test_plant_and_slide_are_read_from_the_file_name(tmp_path: Path) -> None:
    assert origin_by_name("1-3-F_S4x_BCrop_2.png") == Origin("1-3-F_S4x", "1-3-F_S4x_B")
    negative = "neg_syn_8-12-A_4x_C_selection_16.jpg"
    assert origin_by_name(negative) == Origin("8-12-A_4x", "8-12-A_4x_C")
    assert origin_by_name("7-3-1_4x_C_pad_21_png.rf.9d02.jpg") == Origin("7-3-1_4x", "7-3-1_4x_C")
    assert origin_by_name("holiday.jpg") == Origin("holiday.jpg", "holiday.jpg", plant_known=False)
    write(tmp_path, "1-3-F_S4x_B_1.png", "")
    (picture,) = read_pictures(tmp_path)
    assert (picture.group, picture.slide) == ("1-3-F_S4x", "1-3-F_S4x_B")


def test_a_wrong_label_line_is_named(tmp_path: Path) -> None:
    write(tmp_path, "x.png", "0 0.1 0.1 0.2 0.2\n7 0.5 0.5 0.1 0.1\n")
    with pytest.raises(PollenError, match=r"x\.png, line 2: class 7 has no name"):
        read_pictures(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match="expected pictures, found none"):
        read_pictures(tmp_path)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(FrameError, match=r"bad\.jpg"):
        read_pictures(tmp_path)


def test_labels_of_several_pages_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    pages = np.full((2, 64, 64, 3), 200, np.uint8)
    tifffile.imwrite(tmp_path / "images" / "two.tif", pages, photometric="rgb")
    with pytest.raises(PollenError, match=r"two\.tif: expected one picture, found 2"):
        read_pictures(tmp_path)


def test_a_plant_written_in_two_ways_is_one(tmp_path: Path) -> None:
    for name in ("1-3-F_S4x_B_1.png", "1-3-F_S4x_B_2.png", "1-3-f_s4x_b_3.png"):
        write(tmp_path, name, "")

    origins = {picture.origin for picture in read_pictures(tmp_path)}

    assert origins == {Origin("1-3-F_S4x", "1-3-F_S4x_B")}
