"""JPEG: colours, orientation, and damage that other decoders hide behind a grey area."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pollen.arrays import Pixels
from pollen.frames import FrameError, open_frames

Refusal = Callable[[Path], str]


def as_opencv(path: Path) -> Pixels:
    """Pixels as OpenCV reads them, in RGB order."""
    return np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1]


@pytest.fixture
def noisy(picture: Pixels) -> bytes:
    """A JPEG large enough to lose its middle."""
    large = np.tile(picture, (8, 6, 1)) + np.random.default_rng(0).integers(
        0, 30, (720, 840, 3), dtype=np.uint8
    )
    done, data = cv2.imencode(".jpg", large[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done
    return data.tobytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_colours_come_as_rgb(
    tmp_path: Path,
    picture: Pixels,
    read_whole: Callable[[Path], list[Pixels]],
    options: dict[str, bool | int],
) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(picture).save(path, format="JPEG", quality=98, **options)
    (pixels,) = read_whole(path)
    assert pixels.flags.c_contiguous
    assert np.abs(pixels.astype(int) - picture).max() <= 6


def test_pixels_are_those_of_opencv(tmp_path: Path, noisy: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(noisy)
    with open_frames(path, "a.jpg") as file:
        (frame,) = file.frames
        assert (frame.name, frame.width_px, frame.height_px) == ("a.jpg", 840, 720)
        assert frame.pixel_size_um is None
        assert frame.resident_bytes == 840 * 720 * 3
        np.testing.assert_array_equal(frame.read(), as_opencv(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_to_all_and_to_regions(
    tmp_path: Path, picture: Pixels, orientation: int
) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(path, quality=95, exif=exif)
    with open_frames(path, "a.jpg") as file:
        (frame,) = file.frames
        whole, part = frame.read(), frame.read((11, 23, 60, 85))
    # OpenCV applies the orientation too; so did the tool that this one replaces.
    np.testing.assert_array_equal(whole, as_opencv(path))
    assert whole.shape == (frame.height_px, frame.width_px, 3)
    np.testing.assert_array_equal(part, whole[23:85, 11:60])
    assert part.flags.c_contiguous


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_never_passes(
    tmp_path: Path, noisy: bytes, refusal: Refusal, keep: float
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(noisy[: int(len(noisy) * keep)])
    assert refusal(path) == "the file ends early (truncated JPEG): upload it again"


def test_a_missing_end_marker_is_a_truncation(
    tmp_path: Path, noisy: bytes, refusal: Refusal
) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(noisy[:-2])
    assert "truncated JPEG" in refusal(path)


def test_damage_before_the_end_marker_is_seen(
    tmp_path: Path, noisy: bytes, refusal: Refusal
) -> None:
    half, path = len(noisy) // 2, tmp_path / "a.jpg"
    path.write_bytes(noisy[:half] + b"\xff\xd9")
    assert "break off in the middle (damaged JPEG): upload it again" in refusal(path)
    path.write_bytes(noisy[:half] + bytes(20_000) + noisy[half + 20_000 :])
    assert "damaged" in refusal(path)
    path.write_bytes(noisy[:half] + bytes(len(noisy) - half))
    assert "truncated" in refusal(path)


def test_grey_and_print_colours_are_refused(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).convert("L").save(path)
    assert "the picture is grey (one channel)" in refusal(path)
    Image.fromarray(picture).convert("CMYK").save(path)
    assert "print colours (CMYK)" in refusal(path)


def test_size_is_checked_before_decoding(tmp_path: Path, noisy: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(noisy[:2000])  # the header only: decoding it would say truncated
    with pytest.raises(FrameError, match=r"840 x 720 px .* in one piece.*tiled TIFF"):
        open_frames(path, "a.jpg", max_pixels=100_000)


def test_real_pictures_decode_without_a_warning(
    read_whole: Callable[[Path], list[Pixels]], real_pictures: Path
) -> None:
    paths = sorted((real_pictures / "train" / "images").glob("*.jpg"))[:20]
    assert paths
    for path in paths:
        np.testing.assert_array_equal(read_whole(path)[0], as_opencv(path))
