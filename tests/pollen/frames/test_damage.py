"""Whatever happened to a file, it is read or refused with a reason, never anything else."""

import contextlib
import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pylibCZIrw.czi import create_czi

from pollen.frames import FrameError, open_frames
from pollen.frames.frame_error import refused_as

SUFFIX_OF = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "palette PNG": ".png",
    "TIFF": ".tif",
    "tiled LZW TIFF": ".tif",
    "OME-TIFF of channels": ".tif",
    "ImageJ stack": ".tif",
    "CZI": ".czi",
}


@cache
def valid_file(kind: str, folder: Path) -> bytes:
    """The bytes of a small sound file."""
    pixels = np.random.default_rng(1).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    channels = pixels.transpose(2, 0, 1)
    target = io.BytesIO()
    match kind:
        case "JPEG" | "PNG":
            Image.fromarray(pixels).save(target, format=kind)
        case "palette PNG":
            Image.fromarray(pixels).quantize(9).save(target, format="PNG")
        case "TIFF":
            tifffile.imwrite(target, np.stack([pixels] * 2), photometric="rgb", metadata=None)
        case "tiled LZW TIFF":
            tifffile.imwrite(target, pixels, compression="lzw", tile=(16, 16), predictor=True)
        case "OME-TIFF of channels":
            tifffile.imwrite(target, channels, ome=True, metadata={"axes": "CYX"})
        case "ImageJ stack":
            tifffile.imwrite(target, np.stack([pixels] * 3), imagej=True)
        case _:
            path = folder / "valid.czi"
            with create_czi(str(path)) as writer:
                writer.write(pixels)
                writer.write(pixels, location=(90, 0), scene=1)
                writer.write_metadata(scale_x=2.5e-7)
            return path.read_bytes()
    return target.getvalue()


def read_some(path: Path) -> None:
    with open_frames(path, path.name, max_pixels=4_000_000) as file:
        for frame in file.frames[:3]:
            width, height = min(frame.width_px, 300), min(frame.height_px, 300)
            pixels = frame.read((0, 0, width, height))
            assert pixels.shape == (height, width, 3)
            assert pixels.dtype == np.uint8
            assert pixels.flags.c_contiguous


@contextlib.contextmanager
def naming_no_path(folder: Path) -> Iterator[None]:
    try:
        yield
    except FrameError as error:
        if str(folder) in str(error):
            raise AssertionError(error) from error
        raise


@pytest.mark.parametrize("kind", SUFFIX_OF)
@settings(
    max_examples=60,
    deadline=5_000,  # milliseconds: a file that hangs is a failure
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(valid_file(kind, folder))
    flips = data.draw(
        st.lists(
            st.tuples(
                # Headers are at either end, so that is where most flips go.
                st.one_of(
                    st.integers(0, min(600, len(content) - 1)),
                    st.integers(-min(900, len(content)), -1),
                    st.integers(0, len(content) - 1),
                ),
                st.integers(1, 255),
            ),
            max_size=6,
        )
    )
    for position, change in flips:
        content[position] ^= change
    keep = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    path = folder / f"damaged{SUFFIX_OF[kind]}"
    path.write_bytes(content[:keep])
    # The reason is for people: it says nothing of scratch files.
    with contextlib.suppress(FrameError), naming_no_path(folder):
        read_some(path)


@pytest.mark.parametrize("kind", SUFFIX_OF)
def test_sound_files_are_read(
    tmp_path: Path, kind: str, read_whole: Callable[[Path], list[np.ndarray]]
) -> None:
    path = tmp_path / f"sound{SUFFIX_OF[kind]}"
    path.write_bytes(valid_file(kind, tmp_path))
    assert all(pixels.shape[:2] == (40, 56) for pixels in read_whole(path))


def test_a_system_error_is_not_the_pictures_fault(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_frames(tmp_path / "gone.tif", "gone.tif")
    with pytest.raises(PermissionError), refused_as("the TIFF cannot be opened"):
        raise PermissionError(13, "denied")


def test_a_decoders_error_becomes_a_reason_of_one_line() -> None:
    with pytest.raises(FrameError) as caught, refused_as("it broke", "mend it"):
        raise KeyError("line one\nline two")
    assert str(caught.value) == "it broke ('line one\\nline two'): mend it"
    assert isinstance(caught.value.__cause__, KeyError)
