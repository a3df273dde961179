"""Folders and buckets behind one small interface: list, read, write whole, delete."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol, Self

import httpx
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ConnectTimeoutError
from prefect_aws import AwsClientParameters, AwsCredentials, MinIOCredentials, S3Bucket
from pydantic import BaseModel, ConfigDict, model_validator

from tasks.faults import (
    NotFoundError,
    PollenError,
    StorageError,
    UnreachableError,
    UnusableNameError,
    explained,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: What every S3 client here uses unless a block says otherwise. Ceph over HTTPS refuses uploads
#: with the checksums newer boto3 sends by default; errors below the stage's retries stay few.
CLIENT_CONFIG: dict[str, Any] = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "retries": {"total_max_attempts": 3, "mode": "standard"},
    "max_pool_connections": 32,
    "connect_timeout": 5,
    "read_timeout": 60,
}
#: What a file system answers to names too long, with forbidden characters, or of a folder.
_NAME_ERRORS = {
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
}
#: Objects up to this size are written in one request, larger ones in parts.
ONE_REQUEST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Entry:
    """An object in a store: its key below the store's root, and what tells one version from another."""

    key: str
    size: int
    version: str


class Location(BaseModel):
    """A place to read from or write to: a folder, a bucket, or a saved S3Bucket block.

    With a bucket, ``prefix`` counts from its top, and a block only lends its credentials and
    settings. With a block alone, ``prefix`` lies below the block's own ``bucket_folder``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path | None = None
    bucket: str | None = None
    block: str | None = None
    prefix: str = ""

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        remote = self.bucket is not None or self.block is not None
        if remote == (self.folder is not None):
            raise ValueError("expected a folder, or a bucket or block")
        return self

    @classmethod
    def parse(cls, text: str, block: str | None = None) -> Self:
        """Read a folder's path or ``s3://bucket/prefix``; with ``block`` its credentials are used.

        Raises:
            PollenError: An ``s3://`` address without a bucket, or an address of another kind.
        """
        if not text.startswith("s3://"):
            if "://" in text:
                raise PollenError(
                    f"'{text}' is no place to use: expected a folder or s3://bucket/prefix"
                )
            return cls(folder=Path(text).expanduser())
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise PollenError(f"'{text}' names no bucket: expected s3://bucket/prefix")
        return cls(bucket=bucket, block=block, prefix=prefix)

    @property
    def address(self) -> str:
        """How people name the place."""
        if self.folder is not None:
            return str(self.folder)
        return joined(f"s3://{self.bucket}" if self.bucket else str(self.block), self.prefix)

    def below(self, part: str) -> Self:
        """The place ``part`` below this one."""
        if self.folder is not None:
            return self.model_copy(update={"folder": self.folder / part})
        return self.model_copy(update={"prefix": joined(self.prefix, part)})


class Store(Protocol):
    """Objects below a root, by relative keys with ``/``."""

    address: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key starts with ``prefix`` (a folder: it ends with ``/``), in no particular order."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object."""
        ...

    def version(self, key: str) -> str:
        """What tells the present version of an object from others, as in its :class:`Entry`."""
        ...

    def read(self, key: str) -> bytes:
        """A small object's bytes."""
        ...

    def fetch(self, key: str, scratch: Path) -> Path:
        """A path with the object's bytes: its own where it is a file, else a copy in ``scratch``."""
        ...

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object: it appears whole or not at all."""
        ...

    def write_file(
        self, key: str, path: Path, content_type: str = "application/octet-stream"
    ) -> None:
        """Write an object from a file: it appears whole or not at all."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those already gone are no error."""
        ...

    def check(self) -> None:
        """Fail with the remedy where the place is missing or out of reach."""
        ...


def joined(*parts: str) -> str:
    """Parts of a key joined by one ``/`` each."""
    return "/".join(part.strip("/") for part in parts if part.strip("/"))


class FolderStore:
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.address = str(self.root)

    def path(self, key: str) -> Path:
        """The file of a key.

        Raises:
            UnusableNameError: The key leads out of the folder.
        """
        path = self.root / key
        if ".." in PurePosixPath(key).parts or not path.is_relative_to(self.root):
            raise UnusableNameError(
                f"the name '{key}' leads out of {self.root}: rename the picture"
            )
        return path

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See :class:`Store`. Hidden files (`.DS_Store`, unfinished writes) are not listed."""
        start = self.path(prefix)
        for folder, folders, names in os.walk(start, onerror=_raise_unless_missing):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                try:
                    facts = path.stat()
                except FileNotFoundError:  # gone since it was listed
                    continue
                if name.startswith(".") or not stat.S_ISREG(facts.st_mode):
                    continue
                key = _as_text(path.relative_to(self.root).as_posix())
                yield Entry(key, facts.st_size, _file_version(facts))

    def exists(self, key: str) -> bool:
        """See :class:`Store`."""
        return self.path(key).is_file()

    def version(self, key: str) -> str:
        """See :class:`Store`."""
        return _file_version(self.fetch(key, self.root).stat())

    def read(self, key: str) -> bytes:
        """See :class:`Store`."""
        return self.fetch(key, self.root).read_bytes()

    def fetch(self, key: str, scratch: Path) -> Path:  # noqa: ARG002  (nothing to copy)
        """See :class:`Store`."""
        path = self.path(key)
        if not path.is_file():
            if "\\x" in key:  # see _as_text
                raise UnusableNameError(f"the name '{key}' is not UTF-8 text: rename the picture")
            raise NotFoundError(f"{path} does not exist (any more)")
        return path

    def write(self, key: str, data: bytes, content_type: str = "") -> None:  # noqa: ARG002
        """See :class:`Store`."""
        with self._unfinished(key) as scratch:
            scratch.write_bytes(data)

    def write_file(self, key: str, path: Path, content_type: str = "") -> None:  # noqa: ARG002
        """See :class:`Store`."""
        with self._unfinished(key) as scratch:
            shutil.copyfile(path, scratch)

    def _unfinished(self, key: str) -> "_Unfinished":
        return _Unfinished(self.path(key))

    def delete(self, keys: Iterable[str]) -> None:
        """See :class:`Store`."""
        for key in keys:
            self.path(key).unlink(missing_ok=True)

    def check(self) -> None:
        """See :class:`Store`."""
        if not self.root.is_dir():
            raise StorageError(f"there is no folder {self.root}: check the path")


class _Unfinished:
    """A file that is written beside its final place and moved there when it is whole."""

    def __init__(self, final: Path) -> None:
        self.final = final

    def __enter__(self) -> Path:
        try:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.final.parent, prefix=".unfinished-")
        except OSError as error:
            raise self._explained(error, "check the output folder and its rights") from error
        os.close(handle)
        self.scratch = Path(name)
        return self.scratch

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        if kind is None:
            try:
                self.scratch.chmod(0o644)
                self.scratch.replace(self.final)
            except OSError as failed:
                self.scratch.unlink(missing_ok=True)
                raise self._explained(failed, "check the output folder and its rights") from failed
            return
        self.scratch.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise self._explained(error, "is the disk full?") from error

    def _explained(self, error: OSError, remedy: str) -> StorageError:
        if error.errno in _NAME_ERRORS:
            return UnusableNameError(
                f"no file can be named {self.final} ({error.strerror}): rename the picture"
            )
        return StorageError(f"{self.final} can't be written ({error.strerror}): {remedy}")


def _file_version(facts: os.stat_result) -> str:
    """Size and time of change: reading every file at every run would take too long."""
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def _as_text(name: str) -> str:
    r"""A file name that can be written down: bytes that are no UTF-8 (old archives) as ``\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _raise_unless_missing(error: OSError) -> None:
    """A folder not made yet lists as empty; one that can't be read does not."""
    if not isinstance(error, FileNotFoundError):
        raise StorageError(
            f"{error.filename} can't be listed ({error.strerror}): check its rights"
        ) from error


class BucketStore:
    """A prefix of an S3 bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.address = f"s3://{joined(bucket, prefix)}"

    def key(self, key: str) -> str:
        """The full key of a relative one. Only the root is tidied: keys are kept to the letter."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def place(self, key: str) -> str:
        """How messages name an object."""
        return f"s3://{self.bucket}/{self.key(key)}"

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """See :class:`Store`. Pages follow continuation tokens: SeaweedFS skips keys after ``StartAfter``."""
        start = self.key(prefix)
        skipped = len(self.key(""))
        with explained(self.place(prefix)):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=start
            ):
                for item in page.get("Contents", ()):
                    if not item["Key"].endswith("/"):
                        yield Entry(item["Key"][skipped:], item["Size"], item["ETag"].strip('"'))

    def exists(self, key: str) -> bool:
        """See :class:`Store`."""
        try:
            with explained(self.place(key)):
                self.client.head_object(Bucket=self.bucket, Key=self.key(key))
        except NotFoundError:
            return False
        return True

    def version(self, key: str) -> str:
        """See :class:`Store`."""
        with explained(self.place(key)):
            return self.client.head_object(Bucket=self.bucket, Key=self.key(key))["ETag"].strip('"')

    def read(self, key: str) -> bytes:
        """See :class:`Store`."""
        with tempfile.TemporaryDirectory(prefix="pollen-") as scratch:
            return self.fetch(key, Path(scratch)).read_bytes()

    def fetch(self, key: str, scratch: Path) -> Path:
        """See :class:`Store`. Managed transfers start again where a body breaks off; plain reads do not."""
        handle, name = tempfile.mkstemp(dir=scratch)
        with explained(self.place(key)), os.fdopen(handle, "wb") as file:
            self.client.download_fileobj(
                self.bucket, self.key(key), file, Config=TransferConfig(max_concurrency=4)
            )
        return Path(name)

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """See :class:`Store`."""
        with explained(self.place(key)):
            self.client.put_object(
                Bucket=self.bucket, Key=self.key(key), Body=data, ContentType=content_type
            )

    def write_file(
        self, key: str, path: Path, content_type: str = "application/octet-stream"
    ) -> None:
        """See :class:`Store`."""
        config = TransferConfig(multipart_threshold=ONE_REQUEST_BYTES, max_concurrency=4)
        # Not `upload_file`: that one hides the server's answer in an error of its own.
        with explained(self.place(key)), path.open("rb") as file:
            self.client.upload_fileobj(
                file,
                self.bucket,
                self.key(key),
                ExtraArgs={"ContentType": content_type},
                Config=config,
            )

    def delete(self, keys: Iterable[str]) -> None:
        """See :class:`Store`. One by one: some servers want checksums for the bulk request."""
        for key in keys:
            with explained(self.place(key)):
                self.client.delete_object(Bucket=self.bucket, Key=self.key(key))

    def check(self) -> None:
        """See :class:`Store`. A listing is asked for: ``head_bucket`` has no body to tell causes apart."""
        try:
            with explained(self.address):
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(""), MaxKeys=1)
        except NotFoundError as error:
            raise StorageError(
                f"there is no bucket '{self.bucket}' on {self.client.meta.endpoint_url}: check its name and the "
                "endpoint (AWS_ENDPOINT_URL, or the block's endpoint_url), or create the bucket"
            ) from error
        except UnreachableError as error:
            if isinstance(error.__cause__, ConnectTimeoutError):
                error.heals = False  # a person who mistyped an address has waited long enough
            raise


def open_store(location: Location) -> Store:
    """The store at a location; a block is read afresh, so that a changed one takes effect.

    Raises:
        PollenError: The block does not exist, or its settings can't be used.
    """
    if location.folder is not None:
        return FolderStore(location.folder)
    if location.block is None:
        return BucketStore(
            _client(_from_environment()), str(location.bucket), joined(location.prefix)
        )
    block = _load_block(location.block)
    if location.bucket is None:
        folder = joined(block.bucket_folder, location.prefix)
        return BucketStore(_client(block.credentials), block.bucket_name, folder)
    if location.bucket != block.bucket_name:
        raise PollenError(
            f"block '{location.block}' is for the bucket '{block.bucket_name}', not for '{location.bucket}': "
            "name the right block or the right bucket"
        )
    return BucketStore(_client(block.credentials), location.bucket, joined(location.prefix))


def _load_block(name: str) -> S3Bucket:
    try:
        block = S3Bucket.load(name)
    except ValueError as error:
        raise PollenError(
            f"there is no S3Bucket block named '{name}' on the Prefect server: create it in the Prefect UI "
            "under Blocks, or check the name"
        ) from error
    except httpx.HTTPError as error:
        raise PollenError(
            f"block '{name}' can't be loaded from the Prefect server ({error}): check PREFECT_API_URL "
            "and that the server runs",
            heals=True,
        ) from error
    assert isinstance(block, S3Bucket)
    return block


def _from_environment() -> AwsCredentials:
    """Credentials that leave keys to boto3 (``AWS_*``, profiles, pod identity) and name endpoint and CA."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    authority = os.environ.get("AWS_CA_BUNDLE")
    if authority and not Path(authority).is_file():
        raise PollenError(f"AWS_CA_BUNDLE names {authority}, which is no file: correct the path")
    parameters = AwsClientParameters(
        endpoint_url=endpoint, verify_cert_path=Path(authority) if authority else None
    )
    return AwsCredentials(aws_client_parameters=parameters)


def _client(credentials: AwsCredentials | MinIOCredentials) -> "S3Client":
    """A client with our defaults under what the credentials say.

    Made from the session, not with the block's ``get_s3_client``: that one is cached for the life
    of the process, and temporary keys in it run out.
    """
    given = credentials.aws_client_parameters
    if given.verify is False:
        raise PollenError(
            "the block's credentials switch TLS checks off (verify: false): name the server's CA file as "
            "verify_cert_path instead and switch verify on"
        )
    # Servers other than AWS rarely have a DNS name per bucket.
    style: dict[str, Any] = {"s3": {"addressing_style": "path"}} if given.endpoint_url else {}
    config = CLIENT_CONFIG | style | dict(given.config or {})
    parameters = given.model_copy(update={"config": config}).get_params_override()
    with explained(given.endpoint_url or "AWS"):
        client: S3Client = credentials.get_boto3_session().client("s3", **parameters)
    return client
