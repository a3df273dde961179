"""TIFF of every layout that microscopes and their programs write, read back to the pixel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from pollen.arrays import Pixels
from pollen.frames import FrameError, open_frames
from pollen.frames.colour import DARK_16_BIT_NOTE, STORED_ORDER_NOTE
from pollen.frames.frame import FOCUS_NOTE, TIME_NOTE

Refusal = Callable[[Path], str]
ReadWhole = Callable[[Path], list[Pixels]]
BOX = (33, 20, 131, 77)

LOSSLESS: dict[str, dict[str, Any]] = {
    "uncompressed": {},
    "uncompressed tiles": {"tile": (32, 48)},
    "LZW strips": {"compression": "lzw", "rowsperstrip": 7},
    "LZW tiles, predictor": {"compression": "lzw", "tile": (32, 48), "predictor": True},
    "deflate": {"compression": "deflate", "rowsperstrip": 16},
    "ZSTD tiles": {"compression": "zstd", "tile": (64, 64)},
    "PackBits": {"compression": "packbits"},
    "BigTIFF": {"bigtiff": True, "compression": "deflate"},
    "big-endian": {"byteorder": ">"},
    "JPEG 2000": {"compression": "jpeg2000"},
}


@pytest.mark.parametrize("options", LOSSLESS.values(), ids=LOSSLESS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bits", [8, 16])
def test_every_layout_gives_the_same_pixels(
    tmp_path: Path, picture: Pixels, options: dict[str, Any], planar: str, bits: int
) -> None:
    path = tmp_path / "a.tif"
    samples = picture if bits == 8 else picture.astype(np.uint16) * 257
    stored = samples.transpose(2, 0, 1) if planar == "separate" else samples
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, metadata=None, **options)
    with open_frames(path, "plant/a.tif") as file:
        (frame,) = file.frames
        assert (frame.name, frame.pixel_size_um, frame.notes) == ("plant/a.tif", None, ())
        x0, y0, x1, y1 = BOX
        part = frame.read(BOX)
        np.testing.assert_array_equal(part, picture[y0:y1, x0:x1])
        assert part.flags.c_contiguous
        np.testing.assert_array_equal(frame.read(), picture)
        frame.release()
        np.testing.assert_array_equal(frame.read((0, 0, 1, 1)), picture[:1, :1])


@pytest.mark.parametrize("writer", ["OpenCV", "Pillow", "Pillow LZW"])
def test_files_of_other_writers(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, writer: str
) -> None:
    path = tmp_path / "a.TIFF"
    if writer == "OpenCV":
        cv2.imwrite(str(path), picture[..., ::-1])
    else:
        compression = "tiff_lzw" if "LZW" in writer else None
        Image.fromarray(picture).save(path, compression=compression)
    np.testing.assert_array_equal(read_whole(path)[0], picture)


@pytest.mark.parametrize("layout", [{}, {"tile": (48, 64)}, {"subsampling": (1, 1)}])
def test_jpeg_inside_a_tiff(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, layout: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    quality = {"level": 98}
    tifffile.imwrite(
        path, picture, photometric="rgb", compression="jpeg", compressionargs=quality, **layout
    )
    # The last blocks are padded with black by the writer, which bleeds into their colours.
    inside = np.s_[:80, :128]
    assert np.abs(read_whole(path)[0].astype(int) - picture)[inside].max() <= 6
    Image.fromarray(picture).save(path, compression="jpeg", quality=98)
    assert np.abs(read_whole(path)[0].astype(int) - picture)[inside].max() <= 6


def test_a_palette_becomes_its_colours(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, refusal: Refusal
) -> None:
    path = tmp_path / "a.tif"
    indexed = Image.fromarray(picture).quantize(100)
    indexed.save(path)
    np.testing.assert_array_equal(read_whole(path)[0], np.asarray(indexed.convert("RGB")))
    Image.fromarray(picture).convert("L").convert("P").save(path)
    assert "the picture is grey" in refusal(path)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [("unassalpha", "over white"), ("assocalpha", "added to white"), ("unspecified", "dropped")],
)
def test_a_fourth_sample(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, extra: str, expected: str
) -> None:
    path = tmp_path / "a.tif"
    rgb = (picture * 0.2).astype(np.uint8)
    alpha = np.full(picture.shape[:2], 51, np.uint8)
    stored = np.dstack([rgb, alpha])
    tifffile.imwrite(path, stored, photometric="rgb", extrasamples=[extra])
    wanted = {
        "over white": np.rint(rgb * 0.2 + 204),
        "added to white": rgb + 204.0,
        "dropped": rgb,
    }[expected]
    assert np.abs(read_whole(path)[0] - wanted).max() <= 1


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_applied_to_regions(
    tmp_path: Path, picture: Pixels, orientation: int
) -> None:
    path = tmp_path / "a.tif"
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(path, picture, photometric="rgb", compression="lzw", extratags=[tag])
    turned = {1: picture, 3: picture[::-1, ::-1], 6: np.rot90(picture, -1)}[orientation]
    with open_frames(path, "a.tif") as file:
        (frame,) = file.frames
        assert (frame.height_px, frame.width_px) == turned.shape[:2]
        np.testing.assert_array_equal(frame.read((5, 7, 50, 80)), turned[7:80, 5:50])


def test_every_page_is_a_frame_but_thumbnails_and_pyramid_levels_are_not(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in (picture, picture[::-1, :77]):
            writer.write(page, photometric="rgb", metadata=None)
            writer.write(page[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    with open_frames(path, "k.tif") as file:
        assert [frame.name for frame in file.frames] == ["k.tif#page=1", "k.tif#page=2"]
        assert [frame.width_px for frame in file.frames] == [140, 77]
    first, second = read_whole(path)
    np.testing.assert_array_equal(first, picture)
    np.testing.assert_array_equal(second, picture[::-1, :77])
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, photometric="rgb", tile=(32, 32), subifds=1)
        writer.write(picture[::2, ::2], photometric="rgb", tile=(32, 32), subfiletype=1)
    (only,) = read_whole(path)
    np.testing.assert_array_equal(only, picture)


def test_of_a_scanners_file_only_the_slide_is_a_frame(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole
) -> None:
    path = tmp_path / "a.tif"
    said = "Aperio Image Library v10.0.50\r\n140x90 [0,0 140x90] (32x32) |AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, photometric="rgb", tile=(32, 32), metadata=None, description=said)
        writer.write(picture[::4, ::4], photometric="rgb", metadata=None, description=said)
        writer.write(
            picture[::2, ::2], photometric="rgb", tile=(32, 32), metadata=None, description=said
        )
    with tifffile.TiffFile(path) as written:
        assert written.is_svs
    (only,) = read_whole(path)
    np.testing.assert_array_equal(only, picture)


@pytest.mark.parametrize(
    "options", [{}, {"imagej": True}, {"ome": True}, {"ome": True, "compression": "lzw"}]
)
def test_stacks_give_a_frame_per_plane(
    tmp_path: Path, picture: Pixels, read_whole: ReadWhole, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.tif"
    stack = np.stack([picture, picture[::-1], picture[:, ::-1]])
    tifffile.imwrite(path, stack, photometric="rgb", metadata={"axes": "ZYXS"}, **options)
    np.testing.assert_array_equal(np.stack(read_whole(path)), stack)
    with open_frames(path, "a.tif") as file:
        assert {frame.notes for frame in file.frames} == {(FOCUS_NOTE,)}


@pytest.mark.parametrize("options", [{"compression": "deflate"}, {}])
def test_ome_channels_named_red_green_blue_are_one_picture(
    tmp_path: Path, picture: Pixels, options: dict[str, Any]
) -> None:
    path = tmp_path / "a.ome.tif"
    stack = np.stack([picture, picture[::-1]])
    channels = stack[..., [2, 0, 1]].transpose(0, 3, 1, 2)
    said = {"axes": "TCYX", "Channel": {"Name": ["Blue", "red", "G"]}}
    tifffile.imwrite(path, channels, photometric="minisblack", metadata=said, **options)
    with open_frames(path, "a.ome.tif") as file:
        assert len(file.frames) == 2
        assert file.frames[0].notes == (TIME_NOTE,)
        np.testing.assert_array_equal([frame.read() for frame in file.frames], stack)


def test_fluorescence_channels_are_refused_by_name(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = tmp_path / "a.ome.tif"
    said = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy5"]}}
    tifffile.imwrite(path, picture.transpose(2, 0, 1), photometric="minisblack", metadata=said)
    assert "3 separate grey channels (DAPI, GFP, Cy5)" in refusal(path)


def test_unnamed_channels_are_taken_in_order_with_a_note(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture.transpose(2, 0, 1), imagej=True, metadata={"axes": "CYX"})
    with open_frames(path, "a.tif") as file:
        assert file.frames[0].notes == (STORED_ORDER_NOTE,)
        np.testing.assert_array_equal(file.frames[0].read(), picture)


SCALES: dict[str, tuple[dict[str, Any], float | None]] = {
    "OME in um": ({"metadata": {"axes": "YXS", "PhysicalSizeX": 0.25}, "ome": True}, 0.25),
    "OME in nm": (
        {
            "metadata": {"axes": "YXS", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"},
            "ome": True,
        },
        0.25,
    ),
    "OME not square": (
        {"metadata": {"axes": "YXS", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}, "ome": True},
        None,
    ),
    "ImageJ in um": ({"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}, 0.25),
    "ImageJ, no unit": ({"imagej": True, "resolution": (4, 4)}, None),
    "ImageJ in inch": (
        {"imagej": True, "resolution": (300, 300), "metadata": {"unit": "inch"}},
        None,
    ),
    "tags in cm": ({"resolution": (20_000, 20_000), "resolutionunit": 3, "metadata": None}, 0.5),
    "tags without unit": ({"resolution": (20_000, 20_000), "resolutionunit": 1}, None),
    "96 dpi": ({"resolution": (96, 96), "resolutionunit": 2, "metadata": None}, None),
    "300 dpi": ({"resolution": (300, 300), "resolutionunit": 2, "metadata": None}, None),
    "4800 dpi": ({"resolution": (4800, 4800), "resolutionunit": 2, "metadata": None}, None),
}


@pytest.mark.parametrize(("options", "expected_um"), SCALES.values(), ids=SCALES)
def test_pixel_size(
    tmp_path: Path, picture: Pixels, options: dict[str, Any], expected_um: float | None
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", **options)
    with open_frames(path, "a.tif") as file:
        assert file.frames[0].pixel_size_um == pytest.approx(expected_um)


def test_bit_depth_comes_from_metadata_only(tmp_path: Path, picture: Pixels) -> None:
    twelve = np.rint(picture / 255.0 * 4095).astype(np.uint16)
    ways: dict[str, dict[str, Any]] = {
        "tag": {"extratags": [(281, "H", 3, (4095,) * 3, True)], "metadata": None},
        "OME": {"ome": True, "metadata": {"axes": "YXS", "SignificantBits": 12}},
    }
    for name, options in ways.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, twelve, photometric="rgb", **options)
        with open_frames(path, "a.tif") as file:
            np.testing.assert_array_equal(file.frames[0].read(), picture)
            assert file.frames[0].notes == ()


@pytest.mark.parametrize("largest", [None, 3210])
def test_without_metadata_16_bit_are_16_bit(
    tmp_path: Path, picture: Pixels, largest: int | None
) -> None:
    """A MaxSampleValue that is the picture's own maximum is no bit depth."""
    path = tmp_path / "a.tif"
    tags = [(281, "H", 3, (largest,) * 3, True)] if largest else []
    tifffile.imwrite(
        path, picture.astype(np.uint16) * 16, photometric="rgb", metadata=None, extratags=tags
    )
    with open_frames(path, "a.tif") as file:
        expected = np.rint(picture * (16 / 257))
        np.testing.assert_array_equal(file.frames[0].read(), expected)
        assert file.frames[0].notes == (DARK_16_BIT_NOTE,)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "grey": ({"photometric": "minisblack"}, "the picture is grey (one channel)"),
    "inverted grey": ({"photometric": "miniswhite"}, "the picture is grey (one channel)"),
    "CMYK": ({"photometric": "separated"}, "holds print colours (CMYK): export it as 8 or 16"),
    "L*a*b*": ({"photometric": "cielab"}, "holds CIE L*a*b* colours"),
    "float": ({"photometric": "rgb"}, "floating point numbers of 32 bit, which say no white"),
    "32 bit": ({"photometric": "rgb"}, "the samples have 32 bit: export it as 8 or 16 bit RGB"),
    "signed": ({"photometric": "rgb"}, "the samples are signed numbers of 16 bit"),
    "multispectral": ({"photometric": "rgb", "extrasamples": [0, 0]}, "has 5 channels, expected 3"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_rgb_is_refused(
    tmp_path: Path, picture: Pixels, refusal: Refusal, kind: str
) -> None:
    grey = picture[..., 0]
    stored = {
        "grey": grey,
        "inverted grey": grey,
        "CMYK": np.dstack([picture, grey]),
        "float": picture.astype(np.float32),
        "32 bit": picture.astype(np.uint32),
        "signed": picture.astype(np.int16),
        "multispectral": np.dstack([picture, grey, grey]),
    }.get(kind, picture)
    options, reason = REFUSED[kind]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **options)
    assert reason in refusal(path)


def test_a_page_that_cannot_be_read_is_named(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, photometric="rgb", metadata=None)
        writer.write(picture[..., 0], photometric="minisblack", metadata=None)
    assert refusal(path).startswith("page 2: the picture is grey")


def test_truncated_files_are_refused(tmp_path: Path, picture: Pixels, refusal: Refusal) -> None:
    path = tmp_path / "a.tif"
    layouts: list[dict[str, Any]] = [{}, {"compression": "lzw", "rowsperstrip": 10}]
    for options in layouts:
        tifffile.imwrite(path, picture, photometric="rgb", metadata=None, **options)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        assert "the file ends early (truncated TIFF: " in refusal(path)
    tifffile.imwrite(path, [picture, picture], photometric="rgb", metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[: picture.nbytes + 600])
    assert "page 2 is not there" in refusal(path)
    path.write_bytes(data[:8])
    assert "upload it again" in refusal(path)


def test_damage_inside_a_strip_is_found_when_it_is_read(
    tmp_path: Path, picture: Pixels, refusal: Refusal
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", compression="deflate", metadata=None)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    data[start + 40 : start + 60] = bytes(20)
    path.write_bytes(data)
    assert "cannot be decoded (DEFLATE compression)" in refusal(path)


def test_empty_tiles_are_black_and_noted(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "a.tif"
    tiles = [np.ascontiguousarray(picture[:64, :64]), None, None, None, None, None]
    tifffile.imwrite(
        path,
        iter(tiles),
        shape=picture.shape,
        dtype=np.uint8,
        tile=(64, 64),
        photometric="rgb",
        compression="deflate",
        metadata=None,
    )
    with open_frames(path, "a.tif") as file:
        (frame,) = file.frames
        assert frame.notes == ("5 of 6 tiles hold no pixels and were read as black",)
        pixels = frame.read()
    np.testing.assert_array_equal(pixels[:64, :64], picture[:64, :64])
    assert not pixels[64:].any()
    assert not pixels[:, 64:].any()


def test_a_huge_strip_is_refused_before_decoding(tmp_path: Path, picture: Pixels) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture, photometric="rgb", compression="lzw", rowsperstrip=90)
    with pytest.raises(FrameError, match="140 x 90 px would have to be decoded in one piece"):
        open_frames(path, "a.tif", max_pixels=10_000)
    tifffile.imwrite(path, picture, photometric="rgb", compression="lzw", rowsperstrip=10)
    with open_frames(path, "a.tif", max_pixels=10_000) as file:
        np.testing.assert_array_equal(file.frames[0].read(), picture)
