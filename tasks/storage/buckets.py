"""A prefix of an S3 bucket as a store."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ConnectTimeoutError

from tasks.faults import NotFoundError, StorageError, TakenError, UnreachableError, storage_errors
from tasks.storage.objects import StoredObject, join_key
from tasks.storage.scratch import scratch_folder

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: Objects up to this size are written in one request, larger ones in parts.
ONE_REQUEST_BYTES = 64 * 1024 * 1024


class BucketStore:
    """A prefix of an S3 bucket."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str) -> None:
        self.client = client
        self.bucket = bucket
        self.prefix = prefix
        self.address = f"s3://{join_key(bucket, prefix)}"

    def key(self, key: str) -> str:
        """Return the full key of a relative one, to the letter: only the root is tidied."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def place(self, key: str) -> str:
        """Return the name of an object in messages."""
        return f"s3://{self.bucket}/{self.key(key)}"

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See `Store`. Pages follow continuation tokens: SeaweedFS skips keys after `StartAfter`."""
        start = self.key(prefix)
        skipped = len(self.key(""))
        with storage_errors(self.place(prefix)):
            for page in self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=start
            ):
                for item in page.get("Contents", ()):
                    if not item["Key"].endswith("/"):
                        yield StoredObject(
                            item["Key"][skipped:],
                            item["Size"],
                            item["ETag"].strip('"'),
                            item["LastModified"].timestamp(),
                        )

    def exists(self, key: str) -> bool:
        """See `Store`."""
        try:
            with storage_errors(self.place(key)):
                self.client.head_object(Bucket=self.bucket, Key=self.key(key))
        except NotFoundError:
            return False
        return True

    def version(self, key: str) -> str:
        """See `Store`."""
        with storage_errors(self.place(key)):
            return self.client.head_object(Bucket=self.bucket, Key=self.key(key))["ETag"].strip('"')

    def read(self, key: str) -> bytes:
        """See `Store`."""
        with scratch_folder("read") as scratch:
            return self.fetch(key, Path(scratch)).read_bytes()

    def fetch(self, key: str, scratch: Path) -> Path:
        """See `Store`. Managed transfers start again if a body breaks off; plain reads do not."""
        handle, name = tempfile.mkstemp(dir=scratch)
        with storage_errors(self.place(key)), os.fdopen(handle, "wb") as file:
            self.client.download_fileobj(
                self.bucket, self.key(key), file, Config=TransferConfig(max_concurrency=4)
            )
        return Path(name)

    def write(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """See `Store`."""
        with storage_errors(self.place(key)):
            self.client.put_object(
                Bucket=self.bucket, Key=self.key(key), Body=data, ContentType=content_type
            )

    def write_file(
        self, key: str, path: Path, content_type: str = "application/octet-stream"
    ) -> None:
        """See `Store`."""
        config = TransferConfig(multipart_threshold=ONE_REQUEST_BYTES, max_concurrency=4)
        # Not `upload_file`: that one hides the server's answer in an error of its own.
        with storage_errors(self.place(key)), path.open("rb") as file:
            self.client.upload_fileobj(
                file,
                self.bucket,
                self.key(key),
                ExtraArgs={"ContentType": content_type},
                Config=config,
            )

    def create(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> bool:
        """See `Store`. In one request: Ceph ignores the condition when parts are put together."""
        try:
            with storage_errors(self.place(key)):
                self.client.put_object(
                    Bucket=self.bucket,
                    Key=self.key(key),
                    Body=data,
                    ContentType=content_type,
                    IfNoneMatch="*",
                )
        except TakenError:
            return self.read(key) == data
        return True

    def delete(self, keys: Iterable[str]) -> None:
        """See `Store`. One by one: some servers want checksums for the bulk request."""
        for key in keys:
            with storage_errors(self.place(key)):
                self.client.delete_object(Bucket=self.bucket, Key=self.key(key))

    def link(self, key: str) -> str:
        """See `Store`. Without a signature, which would be a secret and expire."""
        endpoint = urlsplit(self.client.meta.endpoint_url)
        place = quote(f"/{self.bucket}/{self.key(key)}")
        # The address may hold a user name and password, which must not be shown.
        server = endpoint.netloc.rpartition("@")[2]
        return urlunsplit((endpoint.scheme, server, endpoint.path.rstrip("/") + place, "", ""))

    def check(self) -> None:
        """See `Store`. Lists, because the answer of `head_bucket` has no body that names the cause."""
        try:
            with storage_errors(self.address):
                self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key(""), MaxKeys=1)
        except NotFoundError as error:
            raise StorageError(
                f"there is no bucket '{self.bucket}' on {self.client.meta.endpoint_url}: check its name and the "
                "endpoint (AWS_ENDPOINT_URL, or the block's endpoint_url), or create the bucket"
            ) from error
        except UnreachableError as error:
            if isinstance(error.__cause__, ConnectTimeoutError):
                error.heals = False  # an address may be mistyped: a person has waited long enough
            raise
