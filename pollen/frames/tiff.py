"""TIFF, BigTIFF, OME-TIFF and ImageJ hyperstacks: the pages that are frames.

Pages are read by region: uncompressed ones are mapped for the time of a read, others are decoded
strip by strip or tile by tile with a bounded cache, so the memory held does not grow with the size
of the slide. Measured at 20,000 x 20,000 px (1.2 GB as RGB), peak above the libraries' own: 37 MB
uncompressed, 235 to 239 MB for LZW or JPEG tiles and deflate strips. Thumbnails, pyramid levels
and masks are no frames.
"""

import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pollen.frames.colour import GREY_REASON, rgb_order
from pollen.frames.frame import Frame, FrameFile, new_lock, stack_notes
from pollen.frames.frame_error import FrameError, refused_as
from pollen.frames.metadata import ImageMetadata
from pollen.frames.orientation import valid_orientation
from pollen.frames.planes import ColourRule, Plane, PlanesSource
from pollen.frames.tiff_metadata import (
    image_metadata,
    page_bits,
    page_pixel_size_um,
)
from pollen.frames.tiff_pages import (
    check_samples,
    colour_rule,
    keyframe_of,
    mapped_plane,
    page_notes,
    page_plane,
    sample_rule,
    samples_per_pixel,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

#: Kinds whose first series is the slide; the others are labels, macros and thumbnails.
_WHOLE_SLIDE = ("svs", "ndpi", "scn", "bif", "qpi", "philips", "avs")
#: Bits of the tag NewSubfileType.
_REDUCED, _MASK = 1, 4


@dataclass(frozen=True)
class _Picture:
    """The makings of a frame: one plane, or three that are red, green and blue."""

    page: "TiffPage"
    planes: tuple[Plane, ...]
    rule: ColourRule
    pixel_size_um: float | None
    notes: tuple[str, ...] = ()


def open_tiff(path: Path, name: str, max_pixels: int) -> FrameFile:
    """Open a TIFF: one frame per page that is a picture of its own.

    Raises:
        FrameError: If it is damaged, truncated, not in colour, or of a kind that can't be read.
    """
    from tifffile import TiffFile

    # What tifffile would log about a damaged file is checked here and becomes the reason.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with refused_as("the TIFF cannot be opened (damaged or truncated)"):
        file = TiffFile(path)
    try:
        # A damaged file may claim tiles of no width, about which numpy would warn.
        with (
            np.errstate(all="ignore"),
            refused_as("the structure of the TIFF cannot be read (damaged or truncated)"),
        ):
            pictures = _pictures(file, path, max_pixels)
            frames = _frames(pictures, name)
    except BaseException:
        file.close()
        raise
    return FrameFile(name, frames, file.close)


def _frames(pictures: list[_Picture], name: str) -> tuple[Frame, ...]:
    if not pictures:
        raise FrameError(
            "the TIFF holds no picture (only thumbnails or masks): export the full picture"
        )
    lock = new_lock()
    return tuple(
        Frame(
            name if len(pictures) == 1 else f"{name}#page={number}",
            size_px=(picture.page.imagewidth, picture.page.imagelength),
            source=PlanesSource(picture.planes, picture.rule),
            lock=lock,
            pixel_size_um=picture.pixel_size_um,
            orientation=valid_orientation(picture.page.tags.valueof(274, 1)),
            notes=picture.notes,
        )
        for number, picture in enumerate(pictures, 1)
    )


def _pictures(file: "TiffFile", path: Path, max_pixels: int) -> list[_Picture]:
    _check_chain(file)
    if file.is_ome or file.is_imagej or file.is_shaped:
        series = file.series
        metadata = image_metadata(file, len(series))
        return [
            picture
            for image, stated in zip(series, metadata, strict=True)
            for picture in _series_pictures(image, stated, path, max_pixels)
        ]
    if any(getattr(file, f"is_{kind}", False) for kind in _WHOLE_SLIDE):
        return [_page_picture(file.series[0].keyframe, path, max_pixels)]
    pages = [page for page in map(keyframe_of, file.pages) if _is_picture(page)]
    return [
        _numbered(page, number if len(pages) > 1 else None, path, max_pixels)
        for number, page in enumerate(pages, 1)
    ]


def _check_chain(file: "TiffFile") -> None:
    """Refuse a file whose list of pages breaks off: tifffile would read the pages before it.

    Raises:
        FrameError: If there is no page, or the last one found points to one that is not there.
    """
    pages = len(file.pages)
    if pages == 0:
        raise FrameError("the TIFF holds no page (truncated or damaged): upload it again")
    form, handle = file.tiff, file.filehandle
    handle.seek(file.pages[pages - 1].offset)
    tags = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))[0]
    handle.seek(tags * form.tagsize, 1)
    following = struct.unpack(form.offsetformat, handle.read(form.offsetsize))[0]
    if following != 0:
        raise FrameError(
            f"the file ends early (truncated TIFF: page {pages + 1} is not there): upload it again"
        )


def _is_picture(page: "TiffPage") -> bool:
    """Return whether a page is a picture of its own: no reduced copy and no mask."""
    return not (page.subfiletype & (_REDUCED | _MASK)) and page.tags.valueof(255) != 2


def _numbered(page: "TiffPage", number: int | None, path: Path, max_pixels: int) -> _Picture:
    try:
        return _page_picture(page, path, max_pixels)
    except FrameError as error:
        if number is None:
            raise
        raise error.within(f"page {number}") from error


def _page_picture(page: "TiffPage", path: Path, max_pixels: int) -> _Picture:
    """Read a page that is a colour picture by itself."""
    check_samples(page)
    rule = colour_rule(page, page_bits(page))
    plane = page_plane(page, path, max_pixels)
    return _Picture(page, (plane,), rule, page_pixel_size_um(page), page_notes(page))


def _series_pictures(
    series: "TiffPageSeries", stated: ImageMetadata, path: Path, max_pixels: int
) -> list[_Picture]:
    """Return the pictures of an image whose axes are known: T, Z... one by one, C put together."""
    page = series.keyframe
    check_samples(page)
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    # A TIFF page may hold the channels itself, as samples in planes of their own.
    inside = "YXSC" if page.shaped[0] > 1 else "YXS"
    outer = [(axis, size) for axis, size in zip(axes, shape, strict=True) if axis not in inside]
    planes = _planes(series, int(np.prod([size for _, size in outer])), path, max_pixels)
    channels = dict(outer).get("C", 1)
    size = stated.pixel_size_um or page_pixel_size_um(page)
    bits = stated.bits or page_bits(page)
    if channels == 1 or samples_per_pixel(page) > 1:
        rule, notes = colour_rule(page, bits), stack_notes(dict(outer))
        return [_Picture(page, (plane,), rule, size, notes) for plane in planes]
    if int(page.photometric) != 1:
        raise FrameError(GREY_REASON)
    order, notes = rgb_order(*stated.channels(channels))
    numbers = np.arange(len(planes)).reshape([length for _, length in outer])
    by_channel = np.moveaxis(numbers, [axis for axis, _ in outer].index("C"), -1)
    rule, notes = sample_rule(page, bits), (*notes, *stack_notes(dict(outer)))
    return [
        _Picture(page, tuple(planes[row[channel]] for channel in order), rule, size, notes)
        for row in by_channel.reshape(-1, channels)
    ]


def _planes(series: "TiffPageSeries", count: int, path: Path, max_pixels: int) -> list[Plane]:
    """Return the planes of an image in the order of its axes: a page each, or one stretch of the file."""
    pages: list[TiffPage | TiffFrame | None] = list(series.pages)
    if series.is_multifile or any(page is None for page in pages):
        raise FrameError(
            "the OME-TIFF refers to planes in other files: export it as one self-contained file"
        )
    if any(keyframe_of(page).hash != series.keyframe.hash for page in pages if page is not None):
        raise FrameError(
            "the planes of one image differ in size or type: the TIFF is damaged, export it anew"
        )
    if len(pages) == count:
        return [page_plane(page, path, max_pixels) for page in pages if page is not None]
    page, start = series.keyframe, series.dataoffset
    if start is None or page.shaped[0] != 1:
        raise FrameError(
            f"the TIFF lists {len(pages)} of its {count} planes: it is damaged, export it anew"
        )
    return [mapped_plane(page, path, start + number * page.nbytes) for number in range(count)]
