"""PNG of every colour type and depth."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pollen.arrays import Pixels
from pollen.frames import FrameError, open_frames
from pollen.frames.colour import DARK_16_BIT_NOTE

Refusal = Callable[[Path], str]
ReadWhole = Callable[[Path], list[Pixels]]


def test_8_and_16_bit_give_the_same_rgb(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    np.testing.assert_array_equal(read_whole(path)[0], picture)
    cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_whole(path)[0], picture)


def test_a_dark_16_bit_picture_is_not_stretched_but_noted(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), picture[..., ::-1].astype(np.uint16) * 16)
    with open_frames(path, "a.png") as file:
        (frame,) = file.frames
        assert not frame.notes
        assert frame.read().max() == round(int(picture.max()) * 16 / 257)
        assert frame.notes == (DARK_16_BIT_NOTE,)


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_a_palette_becomes_its_colours(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, colours: int
) -> None:
    path = tmp_path / "a.png"
    indexed = Image.fromarray(picture).quantize(colours)
    indexed.save(path)
    np.testing.assert_array_equal(read_whole(path)[0], np.asarray(indexed.convert("RGB")))


def test_transparency_is_laid_over_white(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole
) -> None:
    path = tmp_path / "a.png"
    alpha = np.full(picture.shape[:2], 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 51
    Image.fromarray(np.dstack([picture, alpha])).save(path)
    (pixels,) = read_whole(path)
    assert (pixels[:10] == 255).all()
    np.testing.assert_array_equal(pixels[10:20], np.rint(picture[10:20] * 0.2 + 204))
    np.testing.assert_array_equal(pixels[20:], picture[20:])


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_is_applied(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, orientation: int
) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(path, exif=exif)
    turned = {1: picture, 3: picture[::-1, ::-1], 6: np.rot90(picture, -1), 8: np.rot90(picture)}
    np.testing.assert_array_equal(read_whole(path)[0], turned[orientation])


def test_grey_is_refused(tmp_path: Path, picture: Pixels, refusal: Refusal) -> None:
    path = tmp_path / "a.png"
    grey = Image.fromarray(picture).convert("L")
    for form in (grey, grey.convert("LA"), grey.convert("P"), grey.convert("I;16")):
        form.save(path)
        assert "the picture is grey (one channel)" in refusal(path)


def test_truncated_and_damaged_files_are_refused(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)).save(path)
    data = path.read_bytes()
    for keep in (20, 33, 60, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:keep])
        assert refusal(path) == "the file ends early (truncated PNG): upload it again"
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :])
    assert refusal(path).startswith("the PNG is damaged")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
    )
    with pytest.raises(FrameError, match="60000 x 60000 px would have to be decoded in one piece"):
        open_frames(path, "a.png")
