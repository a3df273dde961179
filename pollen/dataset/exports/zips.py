"""Zips from outside: checked before anything is read, counted while it is, never unpacked by their own names."""

import hashlib
import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Self

from pollen.dataset.exports.trees import TreeError, is_junk, too_large
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.settings import Limits

_AGAIN: Final = "make the export again with the labelling tool and stage that zip"
_LISTED: Final = 20
_CHUNK_BYTES: Final = 1 << 20
_LONGEST_NAME: Final = 512
#: Bytes of an entry in the central directory: the fixed part, and a long name with extra fields.
_DIRECTORY_ENTRY_BYTES: Final = 46 + _LONGEST_NAME
_ARCHIVES: Final = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"})
_UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a compression that the library does not know
    RuntimeError,  # a password
    OSError,  # bz2
)


class ZipTree:
    """A zip from outside; a context manager.

    Entries are found by their checked names and read into memory under limits that count what is
    really unpacked, whatever the headers say. Nothing is written to disk.
    """

    def __init__(self, path: Path, limits: Limits, name: str | None = None) -> None:
        """Open and check a zip; faults are listed in `findings`.

        Raises:
            OSError: If the file can't be read, which is no property of the zip.
        """
        self.name = name or path.name
        self.findings: tuple[DatasetFinding, ...] = ()
        self._path = path
        self._limits = limits
        self._unpacked: dict[str, int] = {}
        self._total = 0
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._zip: zipfile.ZipFile | None = None
        try:
            _check_directory_size(path, limits.entries)
            self._zip = zipfile.ZipFile(path)
            faults = [*_faults(self._zip, limits)]
        except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, ValueError) as error:
            faults = [(None, _not_a_zip(path, error))]
        if faults:
            self.findings = tuple(self._as_findings(faults))
        elif self._zip:
            self._take_entries(self._zip)
        self.names = tuple(sorted(self._entries))

    @cached_property
    def sha256(self) -> str:
        """Of the zip file.

        Raises:
            TreeError: If it can't be read any more.
        """
        try:
            with self._path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise TreeError(f"{self.name} can't be read any more ({error.strerror})") from error

    def read(self, name: str, limit_bytes: int) -> bytes:
        """See `pollen.dataset.exports.trees.Tree.read`."""
        info = self._entries[name]
        if self._zip is None:  # has no entries, see above
            raise KeyError(name)
        parts: list[bytes] = []
        size = 0
        try:
            with self._zip.open(info) as stream:
                while part := stream.read(_CHUNK_BYTES):
                    size += len(part)
                    self._check_growth(info, name, size, limit_bytes)
                    parts.append(part)
        except _UNREADABLE as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's fault, not the zip's
            raise TreeError(f"damaged inside the zip ({error}): {_AGAIN}") from error
        return b"".join(parts)

    def _check_growth(self, info: zipfile.ZipInfo, name: str, size: int, limit_bytes: int) -> None:
        """Stop unpacking what grows beyond a limit."""
        if size > limit_bytes:
            raise TreeError(too_large(limit_bytes))
        if size > _CHUNK_BYTES and size > self._limits.compression * max(info.compress_size, 1):
            raise TreeError(
                f"unpacks to more than {self._limits.compression:g} times its packed size, as only files "
                f"made to fill a disk do: {_AGAIN}"
            )
        grown = max(0, size - self._unpacked.get(name, 0))  # a second reading counts once
        self._unpacked[name] = self._unpacked.get(name, 0) + grown
        self._total += grown
        if self._total > self._limits.total_gigabytes * 1e9:
            raise TreeError(
                f"all files together unpack to more than {self._limits.total_gigabytes:g} GB: stage the "
                "pictures in several zips, or raise the limit in the settings"
            )

    def _take_entries(self, opened: zipfile.ZipFile) -> None:
        """Note the files by name, without junk."""
        files = {_name(info): info for info in opened.infolist() if not info.is_dir()}
        self._entries = {name: info for name, info in files.items() if not is_junk(name)}
        ignored = len(files) - len(self._entries)
        if ignored:
            message = (
                f"{ignored} files of the operating system were ignored (__MACOSX, Thumbs.db, ...)"
            )
            self.findings = (DatasetFinding.note(self.name, message),)

    def _as_findings(self, faults: list[tuple[str | None, str]]) -> Iterator[DatasetFinding]:
        """Yield the first faults, and how many more there are."""
        for entry, message in faults[:_LISTED]:
            file = self.name if entry is None else f"{self.name}/{_printable(entry)}"
            yield DatasetFinding.error(file, message)
        if len(faults) > _LISTED:
            message = f"{len(faults) - _LISTED} more entries have such faults: {_AGAIN}"
            yield DatasetFinding.error(self.name, message)

    def __enter__(self) -> Self:
        """Return the tree."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the zip."""
        if self._zip:
            self._zip.close()


def _faults(opened: zipfile.ZipFile, limits: Limits) -> Iterator[tuple[str | None, str]]:
    """Yield the faults of a zip: the entry (None for the whole zip) and the reason."""
    infos = opened.infolist()
    if len(infos) > limits.entries:
        yield (
            None,
            f"holds {len(infos)} entries, more than {limits.entries}: stage the pictures in several zips",
        )
        return
    for info in infos:
        fault = next((found for check in _CHECKS if (found := check(info))), None)
        if fault:
            yield info.orig_filename, fault
    yield from _clashes(infos)
    yield from _overlaps(infos, opened.start_dir)


def _encrypted(info: zipfile.ZipInfo) -> str | None:
    if info.flag_bits & 0x2041:  # encrypted, strongly encrypted, masked headers
        return "is encrypted: stage a zip without a password"
    return None


def _badly_named(info: zipfile.ZipInfo) -> str | None:
    try:
        name = _name(info)
    except UnicodeDecodeError:
        return (
            "has a name in another encoding than UTF-8: use plain letters in file names, or a packer "
            "that writes UTF-8"
        )
    if any(unicodedata.category(letter).startswith("C") for letter in name):
        return f"has control characters in its name: {_AGAIN}"
    if len(name.encode()) > _LONGEST_NAME:
        return f"has a name longer than {_LONGEST_NAME} bytes: use shorter names"
    return None


def _leads_out(info: zipfile.ZipInfo) -> str | None:
    name = info.orig_filename
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return f"has an absolute path, as only a hostile or broken zip has: {_AGAIN}"
    if "\\" in name:
        return f"has a backslash in its name, expected / between folders: {_AGAIN}"
    if any(part in {"", ".", ".."} for part in name.removesuffix("/").split("/")):
        return f"has a path that leads elsewhere (.., . or an empty part): {_AGAIN}"
    return None


def _not_a_file(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link to another file, which is not followed: stage a zip with the files themselves"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
        return f"is a device or pipe, not a file: {_AGAIN}"
    return None


def _is_archive(info: zipfile.ZipInfo) -> str | None:
    if PurePosixPath(info.filename.lower()).suffix in _ARCHIVES and not is_junk(info.filename):
        return "is an archive inside the zip: unpack it and stage what it holds as a zip of its own"
    return None


_CHECKS: Final[tuple[Callable[[zipfile.ZipInfo], str | None], ...]] = (
    _encrypted,
    _badly_named,
    _leads_out,
    _not_a_file,
    _is_archive,
)


def _clashes(infos: list[zipfile.ZipInfo]) -> Iterator[tuple[str, str]]:
    """Yield faults of names that occur twice, or that some file systems take for one."""
    folded = Counter(_folded(info) for info in infos)
    for info in infos:
        if folded[_folded(info)] > 1:
            yield (
                info.orig_filename,
                "has the same name as another entry (upper and lower case taken as one): give each file "
                "its own name",
            )


def _overlaps(infos: list[zipfile.ZipInfo], directory_at: int) -> Iterator[tuple[str | None, str]]:
    """Yield faults of entries that share bytes with another one, as in a small zip that unpacks to petabytes."""
    if any(info.header_offset < 0 for info in infos):
        yield None, "lacks its beginning: the upload broke off, stage it again"
        return
    in_order = sorted(infos, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in in_order[1:]] + [directory_at]
    for info, end in zip(in_order, ends, strict=True):
        # A local header is 30 bytes and the name, at least.
        if info.header_offset + 30 + info.compress_size > end:
            yield info.orig_filename, f"shares its bytes with another entry, a zip bomb: {_AGAIN}"


def _name(info: zipfile.ZipInfo) -> str:
    """Return the entry's name; without the UTF-8 flag many packers write UTF-8 all the same.

    Raises:
        UnicodeDecodeError: If the name is in another encoding.
    """
    utf8_flag = 0x800
    if info.flag_bits & utf8_flag:
        return info.orig_filename
    return info.orig_filename.encode("cp437").decode()


def _folded(info: zipfile.ZipInfo) -> str:
    """Return the name without differences that some file systems ignore."""
    try:
        name = _name(info)
    except UnicodeDecodeError:  # a fault of its own
        name = info.orig_filename
    return unicodedata.normalize("NFC", name).casefold().removesuffix("/")


def _printable(name: str) -> str:
    """Return a name that can stand in a report."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:200]


def _not_a_zip(path: Path, error: Exception) -> str:
    """Return the reason for a file that can't be opened."""
    if path.stat().st_size == 0:
        return "is empty (0 bytes): the upload broke off, stage it again"
    return (
        f"is incomplete or not a zip ({error}): the download or upload broke off, or it is of another kind; stage it "
        "again"
    )


def _check_directory_size(path: Path, entries: int) -> None:
    """Refuse a directory of millions of entries before the library reads it into memory.

    Raises:
        ValueError: If the directory is larger than the allowed number of entries needs.
    """
    end_bytes, comment_bytes, end_mark = 22, 1 << 16, b"PK\5\6"
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - end_bytes - comment_bytes - 76))
        tail = file.read()
    at = tail.rfind(end_mark)
    if at < 0 or at + end_bytes > len(tail):
        return  # The library says what is wrong.
    (size,) = struct.unpack_from("<I", tail, at + 12)
    wide_mark, wide_bytes, locator_bytes = b"PK\6\6", 56, 20
    wide_at = at - locator_bytes - wide_bytes
    if wide_at >= 0 and tail[wide_at : wide_at + 4] == wide_mark:  # zip64
        (size,) = struct.unpack_from("<Q", tail, wide_at + 40)
    if size > entries * _DIRECTORY_ENTRY_BYTES:
        raise ValueError(
            f"its list of entries is {size / 1e6:.0f} MB, for at most {entries} entries"
        )
