"""The format of a file, by its first bytes, and whether its name agrees.

A wrongly named picture is refused even if it could be read: the tools that pictures come from and
go to (labelling, R scripts, viewers) trust the suffix, and a wrong one usually means that an
export went wrong. The reason names the true format and the remedy, which is a rename.
"""

import codecs
from enum import Enum
from pathlib import Path, PurePosixPath

from pollen.frames.frame_error import FrameError

#: Suffixes of pictures, lower case; names match in any case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".czi")

_HEAD_BYTES = 4096


class FileFormat(Enum):
    """File formats of pictures that can be read; the value is the name shown to people."""

    JPEG = "JPEG"
    PNG = "PNG"
    TIFF = "TIFF"
    CZI = "CZI"

    @property
    def suffix(self) -> str:
        """The suffix that a wrongly named picture should get."""
        return {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "CZI": ".czi"}[self.value]


_FORMAT_OF_SUFFIX = {
    ".jpg": FileFormat.JPEG,
    ".jpeg": FileFormat.JPEG,
    ".png": FileFormat.PNG,
    ".tif": FileFormat.TIFF,
    ".tiff": FileFormat.TIFF,
    ".czi": FileFormat.CZI,
}

_PICTURES: tuple[tuple[bytes, FileFormat], ...] = (
    (b"\xff\xd8\xff", FileFormat.JPEG),
    (b"\x89PNG\r\n\x1a\n", FileFormat.PNG),
    (b"II*\x00", FileFormat.TIFF),
    (b"MM\x00*", FileFormat.TIFF),
    (b"II+\x00", FileFormat.TIFF),
    (b"MM\x00+", FileFormat.TIFF),
    (b"ZISRAWFILE", FileFormat.CZI),
)

_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xd0\xcf\x11\xe0", "an old Office or microscope container"),
)

_REMEDY_OTHER = "export the picture as TIFF, PNG, JPEG or CZI and upload that"


def is_picture(name: str) -> bool:
    """Return whether a file or key is taken for a picture, by its suffix in any case."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def check_format(path: Path, name: str) -> FileFormat:
    """Return the format of the picture in `path`, which must be the one that the suffix of `name` promises.

    Raises:
        FrameError: If the file is empty, is no picture, or has another format than its name says.
    """
    suffix = PurePosixPath(name).suffix
    promised = _FORMAT_OF_SUFFIX.get(suffix.lower())
    if promised is None:
        raise FrameError(
            f"named {suffix or 'without a suffix'}, which is no picture suffix: "
            f"expected one of {' '.join(SUFFIXES)}"
        )
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    found = _picture_format(head)
    if found is promised:
        return found
    if found is not None:
        raise FrameError(
            f"named {suffix} but holds a {found.value} picture: rename it to end in {found.suffix}"
        )
    raise FrameError(_describe_other(head, path.stat().st_size, suffix))


def _picture_format(head: bytes) -> FileFormat | None:
    return next((form for magic, form in _PICTURES if head.startswith(magic)), None)


def _describe_other(head: bytes, size_bytes: int, suffix: str) -> str:
    """Return the reason to refuse a file that is no picture we read."""
    if size_bytes == 0:
        return "the file is empty (0 bytes): upload it again"
    if not head.strip(b"\0"):
        return (
            f"the file starts with zeros ({size_bytes} bytes): the copy broke off, upload it again"
        )
    if head.startswith(b"\x00\x05\x16\x07"):
        return "this is a side file of macOS (AppleDouble), not a picture: delete it"
    found = _other_content(head)
    if found is None:
        return (
            f"named {suffix} but the file starts like no known picture "
            f"({head[:8].hex(' ')}): it is damaged or of another kind, {_REMEDY_OTHER}"
        )
    return f"named {suffix} but holds {found}: {_REMEDY_OTHER}"


def _other_content(head: bytes) -> str | None:
    for magic, words in _OTHERS:
        if head.startswith(magic):
            return words
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP picture"
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or MP4 file"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page (HTML), perhaps an error page saved by the download"
    if start.startswith((b"<?xml", b"<svg", b"<error")):
        return "an XML text, perhaps an error message saved by the download"
    return "text" if _looks_like_text(head) else None


def _looks_like_text(head: bytes) -> bool:
    if any(byte < 32 and byte not in b"\t\r\n\f\x1b" for byte in head):
        return False
    try:
        # Incremental, because the head may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True
