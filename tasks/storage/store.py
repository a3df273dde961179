"""Folders and buckets behind one small interface: list, read, write whole, delete."""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import httpx
from botocore.loaders import Loader, create_loader
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect_aws import AwsClientParameters, AwsCredentials, MinIOCredentials, S3Bucket
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pollen.errors import PollenError
from tasks.faults import storage_errors
from tasks.storage.buckets import BucketStore
from tasks.storage.folders import FolderStore
from tasks.storage.objects import StoredObject, join_key

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Settings of every S3 client here unless a block says otherwise. Ceph over HTTPS refuses uploads
#: with the checksums newer boto3 sends by default; errors below the stage's retries stay few.
CLIENT_CONFIG: dict[str, Any] = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
    "retries": {"total_max_attempts": 3, "mode": "standard"},
    "max_pool_connections": 32,
    "connect_timeout": 5,
    "read_timeout": 60,
}


class Location(BaseModel):
    """A place to read from or write to: a folder, a bucket, or a saved S3Bucket block.

    With a bucket, `prefix` counts from its top, and a block only provides credentials and
    settings. With a block alone, `prefix` lies below the block's own `bucket_folder`.
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
        """Read a folder's path or `s3://bucket/prefix`; with `block` its credentials are used.

        Raises:
            PollenError: If an `s3://` address has no bucket, or the address is of another kind.
        """
        if not text.startswith("s3://"):
            if "://" in text:
                raise PollenError(
                    f"'{text}' can't be used as a place: expected a folder or s3://bucket/prefix"
                )
            return cls(folder=Path(text).expanduser())
        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        if not bucket:
            raise PollenError(f"'{text}' names no bucket: expected s3://bucket/prefix")
        return cls(bucket=bucket, block=block, prefix=prefix)

    @property
    def address(self) -> str:
        """The place as people write it."""
        if self.folder is not None:
            return str(self.folder)
        return join_key(f"s3://{self.bucket}" if self.bucket else str(self.block), self.prefix)

    def below(self, part: str) -> Self:
        """Return the place `part` below this one."""
        if self.folder is not None:
            return self.model_copy(update={"folder": self.folder / part})
        return self.model_copy(update={"prefix": join_key(self.prefix, part)})


class Store(Protocol):
    """Objects below a root, by relative keys with `/`."""

    address: str

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Yield the objects whose key starts with `prefix` (a folder, ending with `/`), in no particular order."""
        ...

    def exists(self, key: str) -> bool:
        """Return whether an object exists."""
        ...

    def version(self, key: str) -> str:
        """Return the present version of an object, as in its `StoredObject`."""
        ...

    def read(self, key: str) -> bytes:
        """Return the bytes of a small object."""
        ...

    def fetch(self, key: str, scratch: Path) -> Path:
        """Return a path with the object's bytes: its own if it is a file, else a copy in `scratch`."""
        ...

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object: it appears whole or not at all."""
        ...

    def write_file(
        self, key: str, path: Path, content_type: str = "application/octet-stream"
    ) -> None:
        """Write an object from a file: it appears whole or not at all."""
        ...

    def create(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """Write a small object only if none exists; of several writers at once exactly one succeeds.

        A lost reply is no lost race: an object with these very bytes is taken for this writer's own.
        Writers that must be distinguished put something of their own into the bytes.

        Returns:
            Whether the object now holds `data`; False if it existed with other content, which stays.
        """
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; missing ones are no error."""
        ...

    def link(self, key: str) -> str:
        """Return the address of an object for a browser that may read it; empty if there is none."""
        ...

    def check(self) -> None:
        """Raise a `StorageError` with the remedy if the place is missing or out of reach."""
        ...


def open_store(location: Location, config: Mapping[str, Any] | None = None) -> Store:
    """Open the store at a location; a block is read afresh, so that a changed one takes effect.

    Args:
        location: The place.
        config: Client settings over all others, for callers that can't wait as long as a run.

    Raises:
        PollenError: If the block does not exist, or its settings can't be used.
    """
    if location.folder is not None:
        return FolderStore(location.folder)
    if location.block is None:
        client = _client(_from_environment(), config)
        return BucketStore(client, str(location.bucket), join_key(location.prefix))
    block = _load_block(location.block)
    if location.bucket is None:
        folder = join_key(block.bucket_folder, location.prefix)
        return BucketStore(_client(block.credentials, config), block.bucket_name, folder)
    if location.bucket != block.bucket_name:
        raise PollenError(
            f"block '{location.block}' is for the bucket '{block.bucket_name}', not for '{location.bucket}': "
            "name the right block or the right bucket"
        )
    client = _client(block.credentials, config)
    return BucketStore(client, location.bucket, join_key(location.prefix))


def _load_block(name: str) -> S3Bucket:
    try:
        with get_client(sync_client=True) as client:
            saved = client.read_block_document_by_name(name, "s3-bucket").data
    except ObjectNotFound as error:
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
    parameters = saved.get("credentials", {}).get("aws_client_parameters", {})
    if parameters.get("verify") is None:
        # A block saved without `verify` holds null, for which prefect-aws drops its verify_cert_path.
        parameters.pop("verify", None)
    authority = parameters.get("verify_cert_path")
    if authority and not Path(authority).is_file():
        raise PollenError(
            f"block '{name}' names the CA file {authority} (verify_cert_path), which is not on this machine: put it "
            "there, or correct the block"
        )
    try:
        return S3Bucket.model_validate(saved)
    except ValidationError as error:
        wrong = "; ".join(each["msg"] for each in error.errors())
        raise PollenError(
            f"block '{name}' has settings that can't be used ({wrong}): correct it in the Prefect UI under Blocks"
        ) from error


def _from_environment() -> AwsCredentials:
    """Return credentials that leave keys to boto3 (`AWS_*`, profiles, pod identity) and name endpoint and CA."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    authority = os.environ.get("AWS_CA_BUNDLE")
    if authority and not Path(authority).is_file():
        raise PollenError(f"AWS_CA_BUNDLE names {authority}, which is not a file: correct the path")
    parameters = AwsClientParameters(
        endpoint_url=endpoint, verify_cert_path=Path(authority) if authority else None
    )
    return AwsCredentials(aws_client_parameters=parameters)


def _client(
    credentials: AwsCredentials | MinIOCredentials, over: Mapping[str, Any] | None = None
) -> "S3Client":
    """Return a client with our defaults, overridden by what the credentials say.

    It is made from the session, not with the block's `get_s3_client`, which caches a client for the
    life of the process although temporary keys expire.
    """
    given = credentials.aws_client_parameters
    if given.verify is False:
        raise PollenError(
            "the block's credentials switch TLS checks off (verify: false): name the server's CA file as "
            "verify_cert_path instead and switch verify on"
        )
    # Servers other than AWS rarely have a DNS name per bucket.
    style: dict[str, Any] = {"s3": {"addressing_style": "path"}} if given.endpoint_url else {}
    config = CLIENT_CONFIG | style | dict(given.config or {}) | dict(over or {})
    parameters = given.model_copy(update={"config": config}).get_params_override()
    with storage_errors(given.endpoint_url or "AWS"):
        session = credentials.get_boto3_session()
        data_path = session._session.get_config_variable("data_path")
        session._session.register_component("data_loader", _models_of_aws(data_path))
        client: S3Client = session.client("s3", **parameters)
    return client


@cache
def _models_of_aws(data_path: str | None) -> Loader:
    """Return the reader of botocore's descriptions of AWS, shared by all clients: reading them takes 0.4 s.

    Args:
        data_path: Further folders with descriptions, as `AWS_DATA_PATH` gives them; None if it is not set.
    """
    return create_loader(data_path)
