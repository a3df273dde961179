import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from pollen.classes import GrainClass
from pollen.synth import FrameSpec, render, sample_frames, write_frame, write_samples


def test_the_short_set_shows_every_kind_of_plant() -> None:
    frames = dict(sample_frames(4))
    assert list(frames) == [
        "1-3-F_S4x_B_001.jpg",
        "5-8-J_2x_C_001.jpg",
        "7-4-E_4x_A_001.jpg",
        "1-3-F_S4x_B_002.jpg",
    ]
    viability = [
        frame.truth_counts()[GrainClass.VIABLE] / max(len(frame.grains), 1)
        for frame in frames.values()
    ]
    assert viability[0] > 0.9
    assert 0.6 < viability[1] < 0.9
    assert viability[2] < 0.4
    assert frames["1-3-F_S4x_B_002.jpg"].grains == ()
    assert np.mean([g.touching for g in frames["5-8-J_2x_C_001.jpg"].grains]) > 0.6


def test_names_are_unique_beyond_the_hand_made_ones() -> None:
    from pollen.synth import demo_pictures  # the frames themselves are not needed here

    assert (
        len({sample.name for sample in demo_pictures._SAMPLES}) == len(demo_pictures._SAMPLES) == 8
    )


def test_written_pictures_and_truth_agree(tmp_path: Path) -> None:
    paths = write_samples(tmp_path / "frames", 2, seed=3, truth_csv=True)
    frames = dict(sample_frames(2, seed=3))
    assert [path.name for path in paths] == list(frames)
    for path in paths:
        picture = cv2.imread(str(path))
        assert picture is not None
        difference = picture[..., ::-1].astype(int) - frames[path.name].pixels
        assert np.abs(difference).mean() < 2
    with (tmp_path / "frames" / "truth.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == sorted(frames)
    for row in rows:
        counts = frames[row["filename"]].truth_counts()
        assert int(row["viable"]) == counts[GrainClass.VIABLE]
        assert int(row["non_viable"]) == counts[GrainClass.NON_VIABLE]
        assert int(row["total"]) == len(frames[row["filename"]].grains)


def test_tiff_carries_the_pixel_size(tmp_path: Path) -> None:
    frame = render(FrameSpec(width_px=64, height_px=48, n_grains=1, pixel_size_um=0.36), 0)
    write_frame(tmp_path / "a.tif", frame)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages.first.tags
        numerator, denominator = tags["XResolution"].value
        assert tags["ResolutionUnit"].value == 3  # per centimetre
        assert 1e4 / (numerator / denominator) == pytest.approx(0.36)
        np.testing.assert_array_equal(file.asarray(), frame.pixels)


def test_an_unknown_suffix_is_refused_by_name(tmp_path: Path) -> None:
    frame = render(FrameSpec(width_px=32, height_px=32, n_grains=0), 0)
    with pytest.raises(ValueError, match=r"frame\.gif: can write \.jpg"):
        write_frame(tmp_path / "frame.gif", frame)
