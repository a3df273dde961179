"""What can go wrong outside the science, told apart by whether waiting helps.

Storage errors reach people as one sentence with the way out; whether a stage is tried again is
decided here and nowhere else.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from s3transfer.exceptions import RetriesExceededError


class PollenError(Exception):
    """An error whose message names what happened and what to do.

    Attributes:
        heals: Waiting may help: a stage that raises it is tried again.
    """

    def __init__(self, message: str, *, heals: bool = False) -> None:
        super().__init__(message)
        self.heals = heals


class StorageError(PollenError):
    """A store refused or failed."""


class NotFoundError(StorageError):
    """The object or the bucket is not there."""


class UnreachableError(StorageError):
    """A server did not answer, or broke off."""


class UnusableNameError(StorageError):
    """A store can't hold an object of this name; others are no worse for it."""


def heals(error: BaseException) -> bool:
    """Whether the same call may succeed when tried again."""
    return isinstance(error, PollenError) and error.heals


#: Error codes that S3 servers send with a status that does not tell they pass.
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalError",
}
_REFUSED = {
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "Forbidden",
    "ExpiredToken",
    "InvalidToken",
}


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn boto's errors about ``place`` (such as ``s3://bucket/key``) into :class:`StorageError`."""
    try:
        yield
    except boto.ClientError as error:
        raise _from_answer(error, place) from error
    except boto.SSLError as error:
        raise StorageError(
            f"the certificate of the S3 server for {place} is not trusted ({error}): set AWS_CA_BUNDLE (or the block's "
            "verify_cert_path) to the server's CA file; TLS checks are never switched off"
        ) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageError(
            f"no complete S3 credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or name a saved S3Bucket block (--block)"
        ) from error
    except (
        boto.ConnectionError,
        boto.HTTPClientError,
        boto.ResponseStreamingError,
        RetriesExceededError,
    ) as error:
        raise UnreachableError(
            f"the S3 server for {place} can't be reached or broke off ({error}): check AWS_ENDPOINT_URL (or the "
            "block's endpoint_url), the network and that the server runs",
            heals=True,
        ) from error
    except boto.BotoCoreError as error:
        raise StorageError(f"S3 access to {place} is not set up properly: {error}") from error


def _from_answer(error: boto.ClientError, place: str) -> StorageError:
    """The error behind a server's answer. Ceph sends no message, hence ``str(... or '')``."""
    answer = error.response.get("Error", {})
    code = str(answer.get("Code") or "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    said = f"{code} {answer.get('Message') or ''}".strip()
    if status >= 500 or status == 429 or code in _PASSING:
        return StorageError(
            f"the S3 server is busy or failing for {place} ({status} {said}): try again later",
            heals=True,
        )
    if status in (401, 403) or code in _REFUSED:
        return StorageError(
            f"the S3 server refused access to {place} ({said}): check the access key, the secret key and that "
            "this user may read and write there"
        )
    if code == "NoSuchBucket":
        return NotFoundError(
            f"there is no such bucket: {place}. Check the name, or create the bucket"
        )
    if code == "KeyTooLongError":
        return UnusableNameError(
            f"the name {place} is too long for the S3 server: rename the picture"
        )
    if status == 404 or code in ("NoSuchKey", "404"):
        return NotFoundError(f"{place} does not exist (any more)")
    return StorageError(f"the S3 server refused the request for {place} ({status} {said})")
