"""One page of a TIFF: checked to be a readable colour picture, and its pixels found."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from pollen.arrays import Pixels
from pollen.frames.colour import GREY_REASON
from pollen.frames.frame_error import FrameError, refused_as
from pollen.frames.limits import check_frame_size, check_whole_size
from pollen.frames.planes import ColourRule, MappedPlane, Plane, Samples, Segments

if TYPE_CHECKING:
    from tifffile import TiffFrame, TiffPage

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
#: Compressions whose decoder turns YCbCr into RGB.
_JPEG = (6, 7, 34892, 33007)

_NOT_RGB = {
    4: "a mask",
    5: "print colours (CMYK)",
    8: "CIE L*a*b* colours",
    9: "ICC L*a*b* colours",
    10: "ITU L*a*b* colours",
    32803: "raw camera data (colour filter array)",
    32844: "LogL luminance",
    32845: "LogLuv colours",
    34892: "raw camera data",
}
_EXPORT_RGB = "export it as 8 or 16 bit RGB"
_NAME_OF_FORMAT = {2: "signed", 3: "floating point", 5: "complex", 6: "complex"}


def samples_per_pixel(page: "TiffPage") -> int:
    """Return the number of samples of a pixel in this page, interleaved or in planes of their own."""
    separate, _, _, _, interleaved = page.shaped
    return int(separate * interleaved)


def check_samples(page: "TiffPage") -> None:
    """Refuse anything but a flat picture of 8 or 16-bit unsigned samples in known colours.

    Raises:
        FrameError: If it is anything else; the text says what was found and what to export instead.
    """
    form = int(page.sampleformat or 1)
    if form not in (1, 4):
        kind = _NAME_OF_FORMAT.get(form, f"format {form}")
        raise FrameError(
            f"the samples are {kind} numbers of {page.bitspersample} bit, which say no white: "
            f"{_EXPORT_RGB}"
        )
    if page.dtype is None or page.dtype.kind != "u" or page.dtype.itemsize > 2:
        raise FrameError(f"the samples have {page.bitspersample} bit: {_EXPORT_RGB}")
    if page.shaped[1] != 1:
        raise FrameError(f"the page is a volume of {page.shaped[1]} layers: {_EXPORT_RGB}, flat")
    photometric = int(page.photometric)
    if photometric in _NOT_RGB:
        raise FrameError(f"the picture holds {_NOT_RGB[photometric]}: {_EXPORT_RGB}")
    if photometric == _YCBCR and int(page.compression) not in _JPEG:
        raise FrameError(f"the picture holds YCbCr colours without JPEG compression: {_EXPORT_RGB}")
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR):
        raise FrameError(f"the colours are of kind {photometric}, not known here: {_EXPORT_RGB}")
    check_frame_size(page.imagewidth, page.imagelength)


def colour_rule(page: "TiffPage", bits: int | None) -> ColourRule:
    """Return how the samples of a page that is a colour picture by itself become RGB.

    Args:
        page: Checked by `check_samples`.
        bits: Significant bits by metadata, None if not stated.

    Raises:
        FrameError: If the page is grey, or has more channels than a colour picture.
    """
    samples, photometric = samples_per_pixel(page), int(page.photometric)
    if photometric == _PALETTE:
        return ColourRule(8, palette=_palette(page))
    if samples < 3 or photometric == _WHITE_IS_ZERO:
        raise FrameError(GREY_REASON)
    extras = tuple(int(extra) for extra in page.extrasamples)
    if samples > 3 + len(extras) or samples > 4:
        raise FrameError(f"the picture has {samples} channels, expected 3 (RGB): {_EXPORT_RGB}")
    # Extra samples of kind 0 say nothing of opacity and are dropped.
    alpha = {1: "premultiplied", 2: "straight"}.get(extras[0]) if samples == 4 else None
    rule = sample_rule(page, bits)
    return ColourRule(rule.bits, rule.bits_known, alpha)


def sample_rule(page: "TiffPage", bits: int | None) -> ColourRule:
    """Return the bit depth of a page: its own if that is no multiple of 8, else the metadata's."""
    own = int(page.bitspersample)
    if own == 16 and bits is not None:
        return ColourRule(bits)
    return ColourRule(own, bits_known=own != 16)


def _palette(page: "TiffPage") -> Pixels:
    """Return the colour map as `(entries, 3)` uint8; some writers store 8-bit values in its 16 bits."""
    if page.colormap is None or page.dtype != np.uint8 or samples_per_pixel(page) != 1:
        raise FrameError(f"the picture is indexed but its palette cannot be read: {_EXPORT_RGB}")
    colours = np.asarray(page.colormap, np.uint32).reshape(3, -1).T
    if colours.max(initial=0) > 255:
        colours //= 256  # writers store 256 or 257 times the 8-bit value
    if (colours == colours[:, :1]).all():
        raise FrameError(GREY_REASON)
    return np.ascontiguousarray(colours, dtype=np.uint8)


def page_plane(page: "TiffPage | TiffFrame", path: Path, max_pixels: int) -> Plane:
    """Return the samples of a page: mapped if uncompressed in one stretch, else by segments.

    Raises:
        FrameError: If the file ends before the page does, or a segment is too large to decode.
    """
    keyframe = keyframe_of(page)
    _check_complete(page)
    separate, _, height, width, interleaved = keyframe.shaped
    if page.is_final and separate == 1:
        return mapped_plane(keyframe, path, page.dataoffsets[0])
    if keyframe.is_tiled:
        segment = (keyframe.tilelength, keyframe.tilewidth)
    else:
        segment = (min(keyframe.rowsperstrip, height), width)
    check_whole_size(segment[1], segment[0], max_pixels)
    assert keyframe.dtype is not None
    return Segments(
        shape=(height, width, separate * interleaved),
        segment_px=segment,
        decode=_decoder(page, segment),
        dtype=keyframe.dtype,
    )


def mapped_plane(page: "TiffPage", path: Path, offset: int) -> Plane:
    """Return uncompressed samples of the size and type of `page`, in one stretch from byte `offset`.

    Raises:
        FrameError: If the file ends before they do.
    """
    assert page.dtype is not None
    missing = offset + page.nbytes - page.parent.filehandle.size
    if missing > 0:
        raise FrameError(
            f"the file ends early (truncated TIFF: {missing} of {page.nbytes} bytes of a plane "
            "are missing): upload it again"
        )
    dtype = page.dtype.newbyteorder(page.parent.byteorder)
    return MappedPlane(path, offset, (page.imagelength, page.imagewidth, page.shaped[4]), dtype)


def _check_complete(page: "TiffPage | TiffFrame") -> None:
    """Refuse a page with pixels outside the file, or fewer segments than its size needs."""
    kind, expected = _segments_of(page)
    offsets = np.asarray(page.dataoffsets, np.uint64)
    counts = np.asarray(page.databytecounts, np.uint64)
    if len(offsets) != len(counts) or len(offsets) < expected:
        raise FrameError(
            f"the page lists {len(offsets)} of its {expected} {kind}: the TIFF is damaged, upload "
            "it again or export it anew"
        )
    whole = int(((offsets + counts) <= page.parent.filehandle.size)[:expected].sum())
    if whole < expected:
        raise FrameError(
            f"the file ends early (truncated TIFF: {whole} of {expected} {kind} are there): "
            "upload it again"
        )


def page_notes(page: "TiffPage | TiffFrame") -> tuple[str, ...]:
    """Return a note if parts of a page were left out, as scanners do around the specimen."""
    kind, expected = _segments_of(page)
    empty = sum(count == 0 for count in page.databytecounts[:expected])
    if not empty:
        return ()
    return (f"{empty} of {expected} {kind} hold no pixels and were read as black",)


def keyframe_of(page: "TiffPage | TiffFrame") -> "TiffPage":
    """Return the page whose tags describe `page`, mostly itself.

    Raises:
        FrameError: If there is none, which only happens in a damaged file.
    """
    if page.keyframe is None:
        raise FrameError("a page of the TIFF has no description: it is damaged, export it anew")
    return page.keyframe


def _segments_of(page: "TiffPage | TiffFrame") -> tuple[str, int]:
    """Return the name for the parts of a page, and how many its size needs."""
    keyframe = keyframe_of(page)
    return "tiles" if keyframe.is_tiled else "strips", int(np.prod(keyframe.chunked))


def _decoder(page: "TiffPage | TiffFrame", segment_px: tuple[int, int]) -> Callable[[int], Samples]:
    """Return a function that decodes segment i of the page as `(height, width, samples)`."""
    keyframe = keyframe_of(page)
    separate = int(keyframe.shaped[0])
    per_sample = int(np.prod(keyframe.chunked)) // separate
    tables = {}
    if int(keyframe.compression) in _JPEG:
        tables = {"jpegtables": page.jpegtables, "jpegheader": keyframe.jpegheader}
    file = page.parent.filehandle

    def decode_one(index: int) -> Samples:
        if page.databytecounts[index] == 0:
            return np.zeros((*segment_px, int(keyframe.shaped[4])), keyframe.dtype)
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        segment, _, _ = keyframe.decode(data, index, **tables)
        if segment is None:
            raise FrameError("a part of the TIFF holds no pixels: export it anew")
        return cast("Samples", segment[0])

    def decode(index: int) -> Samples:
        found = f"a part of the TIFF cannot be decoded ({_compression(keyframe)} compression)"
        with refused_as(found):
            parts = [decode_one(index + sample * per_sample) for sample in range(separate)]
            return parts[0] if separate == 1 else np.concatenate(parts, axis=2)

    return decode


def _compression(page: "TiffPage") -> str:
    return getattr(page.compression, "name", f"unknown {page.compression}")
