"""Errors of storage, and the reason in the row of a picture that failed.

Storage errors reach people as one sentence with a remedy. Whether an answer of a server heals, so
that the stage is retried, is decided here; other places say it of the errors that they raise.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as boto
from s3transfer.exceptions import RetriesExceededError

from pollen.detection.decoding import OutputError
from pollen.detection.tiling import ScaleError
from pollen.errors import PollenError
from pollen.frames import FrameError


class StorageError(PollenError):
    """A store refused or failed."""


class NotFoundError(StorageError):
    """The object or the bucket does not exist."""


class TakenError(StorageError):
    """A write that must not replace anything found an object."""


class UnreachableError(StorageError):
    """A server did not answer, or broke off."""


class UnusableNameError(StorageError):
    """A store can't hold an object of this name; other objects are not affected."""


class OutsideError(UnusableNameError):
    """A name that leads out of the given folder."""


#: Codes of errors that pass, which S3 servers send with a status that does not show it.
_PASSING = {
    "SlowDown",
    "RequestTimeout",
    "Throttling",
    "ThrottlingException",
    "RequestLimitExceeded",
    "InternalError",
    "ConditionalRequestConflict",  # two conditional writes at once: AWS decides neither of them
    "OperationAborted",
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
def storage_errors(place: str) -> Iterator[None]:
    """Raise boto's errors about `place` (such as `s3://bucket/key`) as `StorageError`."""
    try:
        yield
    except boto.ClientError as error:
        raise _from_answer(error, place) from error
    except boto.SSLError as error:
        raise _insecure(place, error) from error
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
        raise _unreachable(place, error) from error
    except boto.BotoCoreError as error:
        raise StorageError(f"S3 access to {place} is not set up properly: {error}") from error


def _insecure(place: str, error: boto.SSLError) -> StorageError:
    """Return the error for a connection that TLS ended; a gateway that restarts breaks off, too."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return StorageError(
            f"the certificate of the S3 server for {place} is not trusted ({error}): set AWS_CA_BUNDLE (or the block's "
            "verify_cert_path) to the server's CA file; TLS checks are never switched off"
        )
    if "[X509" in text:
        return StorageError(
            f"the CA file for {place} holds no certificate that can be read ({error}): correct AWS_CA_BUNDLE (or the "
            "block's verify_cert_path); a file in PEM form was expected"
        )
    if "WRONG_VERSION_NUMBER" in text:
        return StorageError(
            f"the server for {place} does not speak TLS ({error}): correct AWS_ENDPOINT_URL (or the block's "
            "endpoint_url); is it http://, or another port?"
        )
    return _unreachable(place, error)


def _unreachable(place: str, error: Exception) -> UnreachableError:
    return UnreachableError(
        f"the S3 server for {place} can't be reached or broke off ({error}): check AWS_ENDPOINT_URL (or the "
        "block's endpoint_url), the network and that the server runs",
        heals=True,
    )


def _from_answer(error: boto.ClientError, place: str) -> StorageError:
    """Return the error for a server's answer. Ceph sends no message, hence `str(... or '')`."""
    answer = error.response.get("Error", {})
    code = str(answer.get("Code") or "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    details = f"{code} {answer.get('Message') or ''}".strip()
    if status >= 500 or status == 429 or code in _PASSING:
        text = f"the S3 server is busy or failing for {place} ({status} {details}): try again later"
        return StorageError(text, heals=True)
    if status in (401, 403) or code in _REFUSED:
        return StorageError(
            f"the S3 server refused access to {place} ({details}): check the access key, the secret key, this "
            "computer's clock, and that this user may read and write there"
        )
    if status == 412 or code == "PreconditionFailed":
        return TakenError(f"{place} is there already and was not overwritten")
    if code == "KeyTooLongError":
        text = f"the name {place} is too long for the S3 server: rename the picture"
        return UnusableNameError(text)
    if status == 404 or code in ("NoSuchBucket", "NoSuchKey", "404"):
        bucket = code == "NoSuchBucket"
        text = "there is no such bucket: {}. Check the name, or create the bucket"
        return NotFoundError((text if bucket else "{} does not exist (any more)").format(place))
    return StorageError(f"the S3 server refused the request for {place} ({status} {details})")


def failure_reason(error: Exception) -> tuple[str, bool]:
    """Return the reason in the row of a picture that failed, and whether the next run tries again.

    A picture that can't be read, or that the model can't cope with, stays failed until picture,
    model or settings change. Anything else may pass, if only because the machine is changed or
    this program corrected.
    """
    if isinstance(error, FrameError | OutputError | ScaleError | UnusableNameError):
        return str(error), False
    if isinstance(error, PollenError | OSError):
        return str(error), True
    if isinstance(error, MemoryError):
        return "not enough memory: lower memory_megapixels, or use a larger machine", True
    logging.getLogger("pollen").error("unexpected error with one picture", exc_info=error)
    name = type(error).__name__
    return f"unexpected error ({name}: {error}): please report it together with the picture", True
