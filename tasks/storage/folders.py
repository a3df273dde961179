"""A folder on this machine as a store."""

import errno
import os
import shutil
import stat
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from tasks.faults import NotFoundError, OutsideError, StorageError, UnusableNameError
from tasks.stage import logger
from tasks.storage.objects import StoredObject
from tasks.storage.scratch import UNFINISHED, owned

#: Errors of a file system about names: too long, with forbidden characters, or of a folder.
_NAME_ERRORS = {
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
}

#: Errors of a file system that can't give a file a second name.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class FolderStore:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.address = str(self.root)

    def path(self, key: str) -> Path:
        """Return the file of a key.

        Raises:
            OutsideError: If the key leads out of the folder.
        """
        path = self.root / key
        if ".." in PurePosixPath(key).parts or not path.is_relative_to(self.root):
            raise OutsideError(f"the name '{key}' leads out of {self.root}: rename the picture")
        return path

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See `Store`. Hidden files (`.DS_Store`, unfinished writes) are not listed.

        Links to folders are followed; a link that leads nowhere is listed, and can't be fetched.
        """
        self._refuse_no_folder()
        for folder, names in _folders(self.path(prefix)):
            for name in sorted(names):
                path = Path(folder, name)
                facts = None if name.startswith(".") else _facts(path)
                if facts is None or not (
                    stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode)
                ):
                    continue
                key = _as_text(path.relative_to(self.root).as_posix())
                yield StoredObject(key, facts.st_size, _file_version(facts), facts.st_mtime)

    def exists(self, key: str) -> bool:
        """See `Store`."""
        return _is_file(self.path(key))

    def version(self, key: str) -> str:
        """See `Store`."""
        return _file_version(self.fetch(key, self.root).stat())

    def read(self, key: str) -> bytes:
        """See `Store`."""
        return self.fetch(key, self.root).read_bytes()

    def fetch(self, key: str, scratch: Path) -> Path:  # noqa: ARG002  (nothing to copy)
        """See `Store`."""
        path = self.path(key)
        if not _is_file(path):
            if "\\x" in key:  # see _as_text
                raise UnusableNameError(f"the name '{key}' is not UTF-8 text: rename the picture")
            raise NotFoundError(f"{path} does not exist (any more)")
        return path

    def write(self, key: str, data: bytes, content_type: str = "") -> None:  # noqa: ARG002
        """See `Store`."""
        with self._unfinished(key) as scratch:
            scratch.write_bytes(data)

    def write_file(self, key: str, path: Path, content_type: str = "") -> None:  # noqa: ARG002
        """See `Store`."""
        with self._unfinished(key) as scratch:
            shutil.copyfile(path, scratch)

    def create(self, key: str, data: bytes, content_type: str = "") -> bool:  # noqa: ARG002
        """See `Store`."""
        with self._unfinished(key, only_new=True) as scratch:
            scratch.write_bytes(data)
        return self.read(key) == data

    def _unfinished(self, key: str, *, only_new: bool = False) -> "_Unfinished":
        self._refuse_no_folder()
        return _Unfinished(self.path(key), only_new=only_new)

    def _refuse_no_folder(self) -> None:
        """Refuse a root that can't be a folder; it may be missing as yet.

        Raises:
            StorageError: If it is a file, or lies below one.
        """
        fault = _no_folder(self.root)
        if fault:
            raise StorageError(f"{self.root} {fault}: check the path")

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store`."""
        for key in keys:
            try:
                self.path(key).unlink(missing_ok=True)
            except OSError as error:
                raise StorageError(
                    f"{self.path(key)} can't be deleted ({error.strerror}): check the folder's rights"
                ) from error

    def link(self, key: str) -> str:  # noqa: ARG002  (a browser elsewhere reads none of this machine's files)
        """See `Store`."""
        return ""

    def check(self) -> None:
        """See `Store`."""
        self._refuse_no_folder()
        if not self.root.is_dir():
            raise StorageError(f"there is no folder {self.root}: check the path")


class _Unfinished:
    """A file that is written beside its final place and moved there when it is whole.

    With `only_new` an existing file stays, and what was written is dropped.
    """

    def __init__(self, final: Path, *, only_new: bool) -> None:
        self.final = final
        self.only_new = only_new

    def __enter__(self) -> Path:
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.final.parent, prefix=owned(UNFINISHED))
        except OSError as error:
            raise self._refusal(error, "check the output folder and its rights") from error
        os.close(handle)
        self.scratch = Path(name)
        return self.scratch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if kind is None:
            try:
                self.scratch.chmod(0o644)
                if self.only_new:
                    self._link()
                else:
                    self.scratch.replace(self.final)
            except OSError as failed:
                self.scratch.unlink(missing_ok=True)
                raise self._refusal(failed, "check the output folder and its rights") from failed
            return
        self.scratch.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise self._refusal(error, "is the disk full?") from error

    def _link(self) -> None:
        """Give the complete file its name, which a file system does for one writer only."""
        try:
            os.link(self.scratch, self.final)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._copy_if_new()
        self.scratch.unlink(missing_ok=True)

    def _copy_if_new(self) -> None:
        """Copy where files can't have two names (exFAT, some network drives): not whole at once."""
        with suppress(FileExistsError), self.final.open("xb") as file:
            try:
                file.write(self.scratch.read_bytes())
                file.flush()
            except OSError:
                self.final.unlink(missing_ok=True)
                raise

    def _refusal(self, error: OSError, remedy: str) -> StorageError:
        if error.errno in _NAME_ERRORS:
            return UnusableNameError(
                f"no file can be named {self.final} ({error.strerror}): rename the picture"
            )
        return StorageError(f"{self.final} can't be written ({error.strerror}): {remedy}")


def _no_folder(root: Path) -> str:
    """Return why a path can't be a folder; empty if it can."""
    try:
        facts = root.stat()
    except NotADirectoryError:
        return "lies below a file, expected a folder"
    except OSError as error:
        return "is too long a path" if error.errno == errno.ENAMETOOLONG else ""
    return "" if stat.S_ISDIR(facts.st_mode) else "is a file, expected a folder"


def _is_file(path: Path) -> bool:
    """Return whether a file exists; names that no file can have have none."""
    try:
        return path.is_file()
    except OSError as error:
        if error.errno in _NAME_ERRORS:
            return False
        raise


def _folders(start: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below `start` with the names of their files, each folder once.

    Links are followed after everything that lies below `start` itself, so that pictures have the
    names they have without links, and links in a circle end.
    """
    read: list[Path] = []
    waiting = deque([start])
    while waiting:
        place = waiting.popleft()
        real = place.resolve()
        if any(real.is_relative_to(each) for each in read):
            continue
        if any(each.is_relative_to(real) for each in read):
            logger().warning(
                "%s is not read: it links to %s, parts of which are read already", place, real
            )
            continue
        read.append(real)
        for folder, folders, names in os.walk(place, onerror=_raise_unless_missing):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            paths = (Path(folder, name) for name in folders)
            waiting.extend(path for path in paths if path.is_symlink())
            yield folder, names


def _facts(path: Path) -> os.stat_result | None:
    """Return the status of a file, or of a link that leads nowhere; None if it is gone."""
    try:
        return path.stat()
    except OSError as error:
        if path.is_symlink():
            logger().warning("%s is a link that leads nowhere (%s)", path, error.strerror)
            return path.lstat()
        if isinstance(error, FileNotFoundError):
            return None
        raise


def _file_version(facts: os.stat_result) -> str:
    """Return size and time of change: reading every file in every run would take too long."""
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def _as_text(name: str) -> str:
    r"""Return a file name as text; bytes that are not UTF-8 (old archives) become `\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _raise_unless_missing(error: OSError) -> None:
    """Let a missing folder list as empty, but not one that can't be read."""
    if not isinstance(error, FileNotFoundError):
        remedy = "check the path" if error.errno in _NAME_ERRORS else "check its rights"
        raise StorageError(
            f"{error.filename} can't be listed ({error.strerror}): {remedy}"
        ) from error
