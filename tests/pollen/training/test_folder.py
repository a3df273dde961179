from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from pollen.classes import GrainClass
from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.labels import LabelledGrain, write_labels
from pollen.detection.tiling import TileGrid
from pollen.errors import PollenError
from pollen.synth import FrameSpec, render
from pollen.training.collage import Outline
from pollen.training.examples import outlines_of
from pollen.training.folder import (
    GrainSizes,
    write_description,
    write_split,
)


@pytest.fixture
def labelled(tmp_path: Path) -> LabelledPicture:
    spec = FrameSpec(width_px=300, height_px=200, n_grains=5, touching_fraction=0)
    frame = render(spec, 1)
    path = tmp_path / "a b.png"
    assert cv2.imwrite(str(path), frame.pixels[..., ::-1])
    return LabelledPicture(path.name, path, frame.yolo_labels(), (300, 200))


def square(grain_class: GrainClass | None, *, is_box: bool) -> LabelledGrain:
    corners = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    return LabelledGrain(grain_class, corners, is_box)


def test_a_picture_larger_than_the_input_becomes_pieces_with_their_labels(
    labelled: LabelledPicture, tmp_path: Path
) -> None:
    written = write_split([labelled], "train", tmp_path / "out", TileGrid(128, 1.0, 60), "segment")

    images = sorted((tmp_path / "out/images/train").iterdir())
    assert written == len(images) > 4
    assert [path.stem for path in images] == sorted(
        path.stem for path in (tmp_path / "out/labels/train").iterdir()
    )
    assert {Image.open(path).size for path in images} == {(128, 128)}
    lines = sum(
        len(path.read_text().splitlines()) for path in (tmp_path / "out/labels/train").iterdir()
    )
    assert lines >= 5


def test_a_grain_people_were_unsure_of_is_covered_not_labelled(
    labelled: LabelledPicture, tmp_path: Path
) -> None:
    first, *others = labelled.grains
    doubtful = LabelledGrain(None, first.points)
    file = LabelledPicture(
        labelled.name, labelled.path, write_labels([doubtful, *others]), (300, 200)
    )

    write_split([file], "val", tmp_path / "out", TileGrid(320, 1.0, 60), "segment")

    (label,) = (tmp_path / "out/labels/val").iterdir()
    assert len(label.read_text().splitlines()) == 4
    (image,) = (tmp_path / "out/images/val").iterdir()
    painted = cv2.imread(str(image), cv2.IMREAD_COLOR_RGB)
    assert painted is not None
    x, y = (first.points.mean(axis=0) * [300, 200]).astype(int)
    before = labelled.pixels()
    background = np.median(before.reshape(-1, 3), axis=0)
    assert np.abs(painted[y, x] - background).max() < 25 < np.abs(before[y, x] - background).max()


def test_of_a_box_the_ellipse_inside_is_taken() -> None:
    (known,), none = outlines_of([square(GrainClass.NON_VIABLE, is_box=True)], (100, 60))

    assert not none
    assert known.grain_class == 1
    np.testing.assert_allclose(known.box, (25, 15, 75, 45), atol=1e-3)
    assert known.area_px == pytest.approx(np.pi / 4 * 50 * 30, rel=0.02)


def test_sizes_describe_the_grains(labelled: LabelledPicture) -> None:
    known, _ = outlines_of(labelled.grains, labelled.size_px)

    sizes = GrainSizes.of([known])

    assert sizes.low_px <= sizes.median_px <= sizes.high_px <= sizes.largest_px
    assert sizes.grid(640, 1.0).largest_grain_px > sizes.largest_px


def test_low_and_high_tell_magnifications_and_not_single_slivers() -> None:
    def discs(*diameters: float) -> list[Outline]:
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.sqrt(np.pi) / 4
        return [Outline(0, (corners * diameter).astype(np.float32)) for diameter in diameters]

    low, high = [discs(5, 40, 41)] * 10, [discs(98, 100, 200)] * 10

    sizes = GrainSizes.of([*low, *high, discs(3), []])

    assert (round(sizes.low_px), round(sizes.high_px)) == (40, 100)


def test_a_train_split_without_grains_is_refused() -> None:
    with pytest.raises(PollenError, match="no labelled grain"):
        GrainSizes.of([])


def test_a_broken_label_names_its_line(labelled: LabelledPicture, tmp_path: Path) -> None:
    file = LabelledPicture(labelled.name, labelled.path, "0 0.1 0.1\n", (300, 200))

    with pytest.raises(PollenError, match=r"a b\.png, line 1"):
        write_split([file], "train", tmp_path / "out", TileGrid(128, 1.0, 60), "detect")


def test_the_description_names_the_classes_in_order(tmp_path: Path) -> None:
    said = yaml.safe_load(write_description(tmp_path).read_text())

    assert said["names"] == {0: "viable", 1: "non_viable"}
    assert said["path"] == str(tmp_path)
