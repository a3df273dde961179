"""What can go wrong outside the science, told apart by whether waiting helps.

Storage errors reach people as one sentence with the way out; whether a stage is tried again is
decided here and nowhere else.
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
    """The object or the bucket is not there."""


class TakenError(StorageError):
    """A write that was to happen only where nothing is found an object there."""


class UnreachableError(StorageError):
    """A server did not answer, or broke off."""


class UnusableNameError(StorageError):
    """A store can't hold an object of this name; others are no worse for it."""


class OutsideError(UnusableNameError):
    """A name that leads out of the folder that was given."""


#: Error codes that S3 servers send with a status that does not tell they pass.
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
def explained(place: str) -> Iterator[None]:
    """Turn boto's errors about ``place`` (such as ``s3://bucket/key``) into :class:`StorageError`."""
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
    """The error behind a connection that TLS ended. A gateway that restarts breaks off, too."""
    said = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in said:
        return StorageError(
            f"the certificate of the S3 server for {place} is not trusted ({error}): set AWS_CA_BUNDLE (or the block's "
            "verify_cert_path) to the server's CA file; TLS checks are never switched off"
        )
    if "[X509" in said:
        return StorageError(
            f"the CA file for {place} holds no certificate that can be read ({error}): correct AWS_CA_BUNDLE (or the "
            "block's verify_cert_path); a file in PEM form was expected"
        )
    if "WRONG_VERSION_NUMBER" in said:
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
    """The error behind a server's answer. Ceph sends no message, hence ``str(... or '')``."""
    answer = error.response.get("Error", {})
    code = str(answer.get("Code") or "")
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    said = f"{code} {answer.get('Message') or ''}".strip()
    if status >= 500 or status == 429 or code in _PASSING:
        text = f"the S3 server is busy or failing for {place} ({status} {said}): try again later"
        return StorageError(text, heals=True)
    if status in (401, 403) or code in _REFUSED:
        return StorageError(
            f"the S3 server refused access to {place} ({said}): check the access key, the secret key, this "
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
    return StorageError(f"the S3 server refused the request for {place} ({status} {said})")


def failure_reason(error: Exception) -> tuple[str, bool]:
    """What a row says of an error with one picture, and whether the next run is to try again.

    A picture that can't be read, or that the model can't cope with, stays failed until picture, model or settings
    change. Anything else may pass, be it that
    the machine is changed or that this program is mended.
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
