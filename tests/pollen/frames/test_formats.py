"""What is no picture, or another picture than its name says, is refused with a remedy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pollen.arrays import Pixels
from pollen.frames import is_picture
from pollen.frames.formats import check_format


@pytest.mark.parametrize(
    "name", ["a.jpg", "a.JPEG", "deep/folder/b c+%.Png", "x.ome.tif", "y.TIFF", "slide.CZI"]
)
def test_pictures_are_known_by_suffix_in_any_case(name: str) -> None:
    assert is_picture(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", ".tif", "a.jpg.zip", "a.jpg/", "a.svs", ""])
def test_other_names_are_no_pictures(name: str) -> None:
    assert is_picture(name) == (name == "a.jpg/")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jpg", b"", "the file is empty (0 bytes): upload it again"),
        ("a.czi", bytes(5000), "starts with zeros (5000 bytes): the copy broke off"),
        ("a.png", b"<!DOCTYPE html><p>404", "holds a web page (HTML)"),
        ("a.tif", b"<?xml version='1.0'?><Error>", "holds an XML text"),
        ("a.jpg", "pyl květu ěščř".encode(), "named .jpg but holds text"),
        ("a.JPG", "ů".encode() * 3000, "named .JPG but holds text"),
        ("a.tiff", b"PK\x03\x04" + b"z" * 99, "named .tiff but holds a ZIP archive"),
        ("a.jpg", b"RIFF\x00\x00\x00\x00WEBPVP8 ", "holds a WebP picture"),
        ("a.jpg", b"\x00\x00\x00\x18ftypheic", "holds a HEIC, AVIF or MP4 file"),
        ("a.png", b"GIF89a....", "holds a GIF picture"),
        ("a.jpg", b"\x00\x05\x16\x07\x00\x02", "side file of macOS"),
        ("a.png", b"\x01\x02\x03\x04", "starts like no known picture (01 02 03 04)"),
        ("a.bmp", b"BM", "named .bmp, which is no picture suffix"),
    ],
)
def test_what_is_no_picture_is_named(
    tmp_path: Path, refusal: Callable[[Path], str], name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("holds", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".czi"])
def test_a_wrong_suffix_is_refused_with_the_right_one(
    tmp_path: Path, picture: Pixels, refusal: Callable[[Path], str], holds: str, suffix: str
) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(picture).save(path, format=holds)
    right = {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif"}[holds]
    if suffix == right:
        assert check_format(path, path.name).value == holds
    else:
        expected = f"named {suffix} but holds a {holds} picture: rename it to end in {right}"
        assert refusal(path) == expected


def test_the_name_counts_and_not_the_scratch_path(tmp_path: Path, picture: Pixels) -> None:
    scratch = tmp_path / "download-0001"
    Image.fromarray(picture).save(scratch, format="PNG")
    assert check_format(scratch, "plant 1/slide.PNG").value == "PNG"
    assert np.asarray(Image.open(scratch)).shape == picture.shape
