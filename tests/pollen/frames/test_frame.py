"""What every frame promises, whatever its file."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from pylibCZIrw.czi import create_czi

from pollen.arrays import Pixels
from pollen.frames import Frame, FrameError, FrameFile, open_frames
from pollen.frames.planes import Segments

NAMES = ["a.png", "b.jpg", "plain.tif", "tiles.tif", "c.czi"]
"""A file of every kind."""


@pytest.fixture(params=NAMES)
def file(request: pytest.FixtureRequest, tmp_path: Path, picture: Pixels) -> Iterator[FrameFile]:
    """The same picture as a file of every kind."""
    with written(tmp_path / request.param, picture) as opened:
        yield opened


def written(path: Path, picture: Pixels) -> FrameFile:
    """The picture as a file of the kind its name tells, opened."""
    if path.suffix == ".czi":
        with create_czi(str(path)) as writer:
            writer.write(np.ascontiguousarray(picture[..., ::-1]))
            writer.write_metadata()
    elif path.suffix == ".tif":
        tiles = {"tile": (16, 32), "compression": "deflate"} if "tiles" in path.name else {}
        tifffile.imwrite(path, picture, photometric="rgb", **tiles)  # type: ignore[arg-type]
    else:
        Image.fromarray(picture).save(path, quality=100, subsampling=0)
    return open_frames(path, path.name)


def test_threads_read_regions_as_one_would(file: FrameFile) -> None:
    (frame,) = file.frames
    whole = frame.read()
    rng = np.random.default_rng(3)
    corners = [(int(rng.integers(100)), int(rng.integers(60))) for _ in range(200)]

    def part(corner: tuple[int, int]) -> Pixels:
        x, y = corner
        if (x + y) % 7 == 0:
            frame.release()
        return frame.read((x, y, x + 40, y + 30))

    with ThreadPoolExecutor(8) as pool:
        for (x, y), pixels in zip(corners, pool.map(part, corners), strict=True):
            np.testing.assert_array_equal(pixels, whole[y : y + 30, x : x + 40])


def test_what_is_read_is_the_callers_own(file: FrameFile) -> None:
    (frame,) = file.frames
    first = frame.read()
    first[:] = 0
    assert frame.read().any()


@pytest.mark.parametrize(
    "box", [(0, 0, 141, 90), (0, 0, 140, 91), (-1, 0, 5, 5), (5, 5, 5, 9), (9, 9, 5, 20)]
)
def test_a_box_outside_the_frame_is_a_mistake_of_the_caller(
    file: FrameFile, box: tuple[int, int, int, int]
) -> None:
    with pytest.raises(IndexError, match=r"not inside the frame \(140 x 90 px\)"):
        file.frames[0].read(box)


def test_reading_after_closing_is_a_mistake_of_the_caller(file: FrameFile) -> None:
    file.close()
    with pytest.raises(RuntimeError, match="its file was closed before this read"):
        file.frames[0].read()


@pytest.mark.parametrize("name", NAMES)
def test_a_grey_picture_saved_in_colour_is_told_once_all_was_read(
    tmp_path: Path, picture: Pixels, name: str
) -> None:
    grey = np.repeat(picture[..., :1], 3, axis=2)
    with written(tmp_path / name, grey) as file:
        frame = file.frames[0]
        frame.check_colour()
        frame.read((0, 0, 140, 40))
        frame.read((0, 40, 140, 90))
        with pytest.raises(FrameError, match="the picture is grey although saved in colour"):
            frame.check_colour()


@pytest.mark.parametrize("name", NAMES)
def test_little_colour_is_colour_and_an_even_field_is_a_picture(
    tmp_path: Path, picture: Pixels, name: str
) -> None:
    mostly_grey = np.repeat(picture[..., :1], 3, axis=2)
    mostly_grey[70:, 120:] = (200, 40, 110)
    for number, pixels in enumerate((mostly_grey, np.full_like(picture, 230))):
        with written(tmp_path / f"{number} {name}", pixels) as file:
            file.frames[0].read((0, 0, 140, 40))
            file.frames[0].read((0, 40, 140, 90))
            file.frames[0].check_colour()


def test_frames_print_as_name_and_size(file: FrameFile) -> None:
    frame: Frame = file.frames[0]
    assert repr(frame) == f"Frame('{file.name}', 140 x 90 px)"


def test_segments_forget_the_least_recently_used() -> None:
    decoded: list[int] = []

    def decode(index: int) -> Pixels:
        decoded.append(index)
        return np.full((10, 10, 3), index, np.uint8)

    plane = Segments((20, 30, 3), (10, 10), decode, np.dtype(np.uint8), cache_bytes=900)
    assert plane.resident_bytes == 900
    assert plane.read((5, 5, 25, 15))[:, :, 0].tolist()[0] == [0] * 5 + [1] * 10 + [2] * 5
    assert decoded == [0, 1, 2, 3, 4, 5]
    plane.read((0, 10, 30, 20))
    assert decoded == [0, 1, 2, 3, 4, 5]
    plane.read((0, 0, 1, 1))
    assert decoded[6:] == [0]
    plane.read((10, 10, 11, 11))
    assert decoded[7:] == []
    plane.read((0, 10, 1, 11))
    assert decoded[7:] == [3]
