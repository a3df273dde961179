"""A contact sheet of a dataset: small pictures with their labels, so that wrong ones catch the eye."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from pollen.arrays import Pixels
from pollen.dataset.labels import LabelledGrain
from pollen.dataset.manifest import GrainCounts, Manifest, ManifestImage
from pollen.reports.annotate import encode_jpeg
from pollen.reports.legend import CLASS_COLOURS, HALO, Colour

#: Grains that the person who labelled was unsure of.
UNSURE_COLOUR: Final[Colour] = (238, 240, 244)
#: Most pictures of a sheet, the longer side of each, and all of them together.
MOST_PICTURES: Final = 60
LONGEST_PX: Final = 300
MOST_BYTES: Final = 4_000_000

_SHIFT: Final = 3


#: Gives a small JPEG of a picture with its labels, by the picture's key or name and the longest side in pixels;
#: None if the picture is not available.
ThumbnailOf = Callable[[str, int], bytes | None]


@dataclass(frozen=True)
class SheetPicture:
    """A small picture of the sheet.

    Attributes:
        image: What the manifest says of it.
        jpeg: It with its labels, encoded.
        is_new: Whether the version before did not have it.
    """

    image: ManifestImage
    jpeg: bytes
    is_new: bool = False


def contact_sheet(
    manifest: Manifest,
    thumbnail_of: ThumbnailOf,
    *,
    new_keys: Collection[str] = (),
    most: int = MOST_PICTURES,
) -> tuple[SheetPicture, ...]:
    """Return small pictures that stand for the dataset.

    Fewer than `most` where they would be too many bytes for a page.

    Args:
        manifest: The dataset.
        thumbnail_of: Called for no more pictures than are shown.
        new_keys: Pictures that the version before did not have; shown first.
        most: Most pictures.
    """
    sheet: list[SheetPicture] = []
    size = 0
    for image in chosen(manifest, new_keys, most):
        jpeg = thumbnail_of(image.key, LONGEST_PX)
        if jpeg is None:
            continue
        size += len(jpeg)
        if size > MOST_BYTES:
            break
        sheet.append(SheetPicture(image, jpeg, image.key in new_keys))
    return tuple(sheet)


def chosen(manifest: Manifest, new_keys: Collection[str], most: int) -> list[ManifestImage]:
    """Choose the pictures of the sheet: in every split one of each kind, then every plant in turn.

    New ones come first; else the order is that of their hashes, which is as good as random and
    the same every time.
    """
    turn = sorted(manifest.images, key=lambda image: (image.key not in new_keys, image.sha256))
    kinds = _first_of_each((image for image in turn), lambda one: (one.split, _kind(one.grains)))
    by_group: dict[str, list[ManifestImage]] = {}
    for image in turn:
        by_group.setdefault(image.group, []).append(image)
    return _distinct([*kinds, *_in_turn(list(by_group.values()))])[:most]


def labelled_thumbnail(pixels: Pixels, grains: Sequence[LabelledGrain], longest_px: int) -> bytes:
    """Return a small JPEG of a picture `(H, W, 3)` with its labels drawn in the colours of their classes.

    Grains of class `unsure` are white.
    """
    height, width = pixels.shape[:2]
    ratio = min(1.0, longest_px / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    picture = np.ascontiguousarray(small)
    # First all halos, so that no halo covers a neighbour's line.
    for thickness, has_own_colour in ((4, False), (2, True)):
        for grain in grains:
            points = np.round((grain.points * size - 0.5) * 2**_SHIFT).astype(np.int32)
            colour = _colour(grain) if has_own_colour else HALO
            cv2.polylines(picture, [points], True, colour, thickness, cv2.LINE_AA, _SHIFT)
    return encode_jpeg(picture, quality=80)


def _colour(grain: LabelledGrain) -> Colour:
    return UNSURE_COLOUR if grain.grain_class is None else CLASS_COLOURS[grain.grain_class]


def _kind(grains: GrainCounts) -> tuple[bool, bool, bool]:
    """Return the classes that a picture shows, as flags."""
    return grains.viable > 0, grains.non_viable > 0, grains.unsure > 0


def _first_of_each(
    images: Iterable[ManifestImage], key: Callable[[ManifestImage], object]
) -> list[ManifestImage]:
    first: dict[object, ManifestImage] = {}
    for image in images:
        first.setdefault(key(image), image)
    return list(first.values())


def _in_turn(groups: Sequence[Sequence[ManifestImage]]) -> Iterator[ManifestImage]:
    """Yield one of every group, then the second ones, and so on."""
    for place in range(max(map(len, groups), default=0)):
        yield from (group[place] for group in groups if place < len(group))


def _distinct(images: Iterable[ManifestImage]) -> list[ManifestImage]:
    return list({image.key: image for image in images}.values())
