"""Labelled pictures on disk, and detections whose mistakes are known."""

from pathlib import Path

import cv2
import pytest

from pollen.dataset.labelled import LabelledPicture, read_pictures
from pollen.synth import FrameSpec, render

SIDE_PX = 320


@pytest.fixture(scope="session")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rendered pictures of two plants, the first two of one slide, and one without grains."""
    folder = tmp_path_factory.mktemp("split")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    names = "1-1-A_2x_A1", "1-1-A_2x_A2", "2-5-C_4x_B1", "2-5-C_4x_B2"
    for seed, name in enumerate(names, start=1):
        spec = FrameSpec(
            width_px=SIDE_PX,
            height_px=SIDE_PX,
            n_grains=8 if seed < 4 else 0,
            grain_diameter_px=45,
            viable_fraction=0.6,
        )
        frame = render(spec, seed=seed)
        picture = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / "images" / f"{name}.png"), picture)
        (folder / "labels" / f"{name}.txt").write_text(frame.yolo_labels())
    return folder


@pytest.fixture(scope="session")
def pictures(split: Path) -> list[LabelledPicture]:
    """The same, read."""
    return read_pictures(split)
