"""The facts about a picture that a manifest records, found by decoding it once."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Final

from pollen.arrays import Pixels
from pollen.dataset.duplicates import Look
from pollen.frames import FrameError, open_frames

#: Kinds of picture that training reads.
TRAINED_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class PictureFacts:
    """Facts about a picture.

    Attributes:
        sha256: Of the file.
        pixels_sha256: Of size and pixels: equal for a picture saved twice without loss.
        look: Perceptual hash.
        width_px: Width as shown.
        height_px: Height as shown.
        turned: Perceptual hashes of the picture turned and mirrored; empty if it is known from
            before and only looked for, never looked up.
    """

    sha256: str
    pixels_sha256: str
    look: str
    width_px: int
    height_px: int
    turned: tuple[str, ...] = ()


def examine(data: bytes, name: str, max_pixels: int) -> PictureFacts:
    """Decode a picture and note what it is.

    Raises:
        FrameError: See `decode`.
    """
    pixels = decode(data, name, max_pixels)
    height, width = pixels.shape[:2]
    look = Look.of(pixels)
    digest = hashlib.sha256(f"{width}x{height}".encode())
    digest.update(pixels.data)
    return PictureFacts(
        sha256=hashlib.sha256(data).hexdigest(),
        pixels_sha256=digest.hexdigest(),
        look=look.hash,
        width_px=width,
        height_px=height,
        turned=look.turned_hashes,
    )


def decode(data: bytes, name: str, max_pixels: int) -> Pixels:
    """Return the pixels of a picture file, `(H, W, 3)` RGB.

    Raises:
        FrameError: If it can't be read, is too large, or is no single picture that training reads.
    """
    suffix = PurePosixPath(name).suffix
    if suffix.lower() not in TRAINED_SUFFIXES:
        raise FrameError(
            f"a {suffix or 'nameless'} file is not read for training: save the picture as PNG, JPEG or "
            "TIFF, in the labelling tool too"
        )
    with TemporaryDirectory(prefix="pollen-picture-") as folder:
        path = Path(folder, "picture")
        path.write_bytes(data)
        with open_frames(path, name, max_pixels=max_pixels) as opened:
            if len(opened.frames) != 1:
                raise FrameError(
                    f"holds {len(opened.frames)} pictures, expected one: save the labelled page alone"
                )
            (frame,) = opened.frames
            if frame.width_px * frame.height_px > max_pixels:
                raise FrameError(
                    f"{frame.width_px} x {frame.height_px} px, more than {max_pixels / 1e6:g} megapixels: "
                    "cut it into smaller pictures before labelling, or raise the limit in the settings"
                )
            return frame.read()
