"""Reading labelled pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from pollen.training.recipe.pictures import read_outlines, read_split
from pollen.training.ultralytics_run import TrainingError


def test_pictures_come_with_outlines_in_pixels_by_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    red_first = np.zeros((50, 100, 3), np.uint8)
    red_first[..., 2] = 200
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / "images" / name), red_first)
    (tmp_path / "labels" / "a.txt").write_text("1 0.1 0.2 0.5 0.2 0.5 0.8\n\n")

    with_grain, without = read_split(tmp_path)

    assert (with_grain.name, without.name) == ("a.png", "b.png")
    assert with_grain.pixels[0, 0].tolist() == [200, 0, 0]
    assert with_grain.outlines[0].grain_class == 1
    np.testing.assert_allclose(with_grain.outlines[0].points, [[10, 10], [50, 10], [50, 40]])
    assert without.outlines == ()


@pytest.mark.parametrize("line", ["2 0 0 1 0 0 1", "0 0.5 0.5 0.1 0.1", "0 0 0 1 0 1 1 0"])
def test_a_wrong_label_line_is_named(tmp_path: Path, line: str) -> None:
    label = tmp_path / "x.txt"
    label.write_text(f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(TrainingError, match=r"x\.txt, line 2: expected"):
        read_outlines(label, 10, 10)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected \.jpg or \.png"):
        read_split(tmp_path)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"bad\.jpg: can't be read"):
        read_split(tmp_path)
