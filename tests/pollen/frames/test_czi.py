"""CZI written by the maker's library and read back."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw.czi import create_czi, edit_czi, open_czi

from pollen.arrays import Pixels
from pollen.frames import open_frames
from pollen.frames.colour import DARK_16_BIT_NOTE
from pollen.frames.czi import read_metadata
from pollen.frames.frame import FOCUS_NOTE
from tasks.faults import failure_reason

Refusal = Callable[[Path], str]
Tile = tuple[NDArray[np.uint8] | NDArray[np.uint16], tuple[int, int], int, dict[str, int]]


def write_czi(
    path: Path, tiles: Iterable[Tile], *, scale_um: float = 0.0, compression: str = "uncompressed:"
) -> Path:
    """A CZI of RGB (or one-channel) tiles: pixels, location, scene and plane of each."""
    with create_czi(str(path)) as writer:
        for pixels, location, scene, plane in tiles:
            writer.write(
                np.ascontiguousarray(pixels[..., ::-1]),  # stored as BGR
                location=location,
                scene=scene,
                plane=plane,
                compression_options=compression,
            )
        writer.write_metadata(scale_x=scale_um * 1e-6, scale_y=scale_um * 1e-6)
    return path


def test_without_the_makers_library_the_environment_is_named(
    tmp_path: Path, picture: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Python 3.14. No FrameError: the picture is to be tried again where the library is."""
    path = write_czi(tmp_path / "a.czi", [(picture, (0, 0), 0, {})])
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", None)
    with pytest.raises(OSError, match=r"CZI files can't be read .*Python 3\.11 to 3\.13") as caught:
        open_frames(path, "a.czi")
    assert failure_reason(caught.value) == (str(caught.value), True)


@pytest.mark.parametrize(
    "compression", ["uncompressed:", "zstd0:ExplicitLevel=1", "zstd1:ExplicitLevel=1"]
)
def test_colours_regions_and_scale(tmp_path: Path, picture: Pixels, compression: str) -> None:
    tiles: list[Tile] = [(picture, (0, 0), 0, {})]
    path = write_czi(tmp_path / "a.czi", tiles, scale_um=0.25, compression=compression)
    with open_frames(path, "p/a.czi") as file:
        (frame,) = file.frames
        assert (frame.name, frame.width_px, frame.height_px) == ("p/a.czi", 140, 90)
        assert frame.pixel_size_um == pytest.approx(0.25)
        assert frame.notes == ()
        whole, part = frame.read(), frame.read((33, 20, 131, 77))
    np.testing.assert_array_equal(whole, picture)
    np.testing.assert_array_equal(part, picture[20:77, 33:131])
    assert part.flags.c_contiguous


def test_scenes_are_frames_and_gaps_between_tiles_are_black(
    tmp_path: Path, picture: Pixels
) -> None:
    tiles: list[Tile] = [
        (picture, (-30, 40), 0, {}),
        (picture[::-1], (1000, 500), 1, {}),
        (picture[:, ::-1], (1200, 550), 1, {}),
    ]
    path = write_czi(tmp_path / "a.czi", tiles)
    with open_frames(path, "a.czi") as file:
        first, second = file.frames
        assert (first.name, second.name) == ("a.czi#scene=1", "a.czi#scene=2")
        assert first.pixel_size_um is None
        assert (second.width_px, second.height_px) == (340, 140)
        np.testing.assert_array_equal(first.read(), picture)
        mosaic = second.read()
        np.testing.assert_array_equal(second.read((190, 40, 260, 100)), mosaic[40:100, 190:260])
    np.testing.assert_array_equal(mosaic[:90, :140], picture[::-1])
    np.testing.assert_array_equal(mosaic[50:, 200:], picture[:, ::-1])
    assert not mosaic[90:, :200].any()
    assert not mosaic[:50, 140:].any()


def test_a_focus_stack_gives_a_frame_per_plane(tmp_path: Path, picture: Pixels) -> None:
    stack = [picture, picture[::-1], picture[:, ::-1]]
    tiles: list[Tile] = [(plane, (0, 0), 0, {"Z": z}) for z, plane in enumerate(stack)]
    path = write_czi(tmp_path / "a.czi", tiles)
    with open_frames(path, "a.czi") as file:
        assert [frame.name for frame in file.frames] == [f"a.czi#z={z}" for z in (1, 2, 3)]
        assert {frame.notes for frame in file.frames} == {(FOCUS_NOTE,)}
        np.testing.assert_array_equal([frame.read() for frame in file.frames], stack)


def test_16_bit_without_bit_depth_is_full_16_bit(tmp_path: Path, picture: Pixels) -> None:
    tiles: list[Tile] = [(picture.astype(np.uint16) * 257, (0, 0), 0, {})]
    with open_frames(write_czi(tmp_path / "a.czi", tiles), "a.czi") as file:
        np.testing.assert_array_equal(file.frames[0].read(), picture)
        assert file.frames[0].notes == ()
    dark: list[Tile] = [(picture.astype(np.uint16) * 16, (0, 0), 0, {})]
    with open_frames(write_czi(tmp_path / "b.czi", dark), "b.czi") as file:
        np.testing.assert_array_equal(file.frames[0].read(), np.rint(picture * (16 / 257)))
        assert file.frames[0].notes == (DARK_16_BIT_NOTE,)


def test_bit_depth_and_channel_colours_come_from_the_metadata(
    tmp_path: Path, picture: Pixels
) -> None:
    twelve = np.rint(picture / 255.0 * 4095).astype(np.uint16)
    path = write_czi(tmp_path / "a.czi", [(twelve, (0, 0), 0, {})])
    change_xml(path, "<SizeX>", "<ComponentBitCount>12</ComponentBitCount><SizeX>")
    with open_frames(path, "a.czi") as file:
        np.testing.assert_array_equal(file.frames[0].read(), picture)
        assert file.frames[0].notes == ()
    channels: list[Tile] = [
        (picture[..., sample : sample + 1], (0, 0), 0, {"C": channel})
        for channel, sample in enumerate((1, 2, 0))
    ]
    path = write_czi(tmp_path / "b.czi", channels)
    for channel, name in enumerate(("Green", "Blue", "Red")):
        change_xml(path, f'Id="Channel:{channel}"', f'Id="Channel:{channel}" Name="{name}"')
    with open_frames(path, "b.czi") as file:
        np.testing.assert_array_equal(file.frames[0].read(), picture)
        assert file.frames[0].notes == ()


def change_xml(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in the metadata by `new`."""
    with edit_czi(str(path)) as editor, editor.edit_session() as builder:
        xml = builder.get_xml()
        assert old in xml
        builder.set_xml(xml.replace(old, new, 1))


def test_grey_channels_are_refused(tmp_path: Path, picture: Pixels, refusal: Refusal) -> None:
    one: list[Tile] = [(picture[..., :1], (0, 0), 0, {"C": 0})]
    assert "the picture is grey" in refusal(write_czi(tmp_path / "a.czi", one))
    two: list[Tile] = [(picture[..., :1], (0, 0), 0, {"C": c}) for c in (0, 1)]
    assert "2 separate grey channels" in refusal(write_czi(tmp_path / "b.czi", two))


def test_truncated_files_are_refused(tmp_path: Path, picture: Pixels, refusal: Refusal) -> None:
    path = write_czi(tmp_path / "a.czi", [(picture, (0, 0), 0, {})])
    data = path.read_bytes()
    for keep in (20, 1000, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:keep])
        assert refusal(path).startswith("the CZI cannot be opened (damaged or truncated)")


def test_a_damaged_directory_does_not_make_millions_of_frames(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = write_czi(tmp_path / "a.czi", [(picture, (0, 0), 0, {"Z": z}) for z in (0, 1)])
    dimension, start, damaged = b"Z\0\0\0", b"\1\0\0\0", b"\1\0\0\x10"
    data = path.read_bytes()
    assert dimension + start in data
    path.write_bytes(data.replace(dimension + start, dimension + damaged))
    assert "the file says it holds 268435458 pictures" in refusal(path)


def test_metadata_of_real_files() -> None:
    xml = """<ImageDocument><Metadata><Information><Image>
        <ComponentBitCount>14</ComponentBitCount>
        <Dimensions><Channels><Channel Id="Channel:0" Name="Red"/></Channels></Dimensions>
        </Image></Information>
        <Scaling><Items><Distance Id="X"><Value>3.45E-07</Value></Distance>
        <Distance Id="Y"><Value>3.45E-07</Value></Distance></Items></Scaling>
        <DisplaySetting><Channels><Channel><Color>#FFFF0000</Color></Channel></Channels>
        </DisplaySetting></Metadata></ImageDocument>"""
    metadata = read_metadata(xml)
    assert metadata.pixel_size_um == pytest.approx(0.345)
    assert metadata.bits == 14
    assert metadata.channels(2) == (("Red", ""), ((255, 0, 0), None))
    assert read_metadata("").pixel_size_um is None
    assert read_metadata("<ImageDocument/>").bits is None


def test_what_the_library_reads_is_what_we_read(tmp_path: Path, picture: Pixels) -> None:
    path = write_czi(tmp_path / "a.czi", [(picture, (7, 9), 0, {})])
    with open_czi(str(path)) as document, open_frames(path, "a.czi") as file:
        np.testing.assert_array_equal(document.read()[..., ::-1], file.frames[0].read())
