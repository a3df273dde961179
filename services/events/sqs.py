"""Notices from a queue of Amazon SQS, to which S3 writes directly, through SNS or through EventBridge.

The policy of the queue decides who may write to it, so its messages need no token.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from pollen.errors import PollenError
from services.events.fields import NotANoticeError, shown
from services.events.notices import Notice, decode, parse_text
from services.events.rate_limited_log import RateLimitedLog

#: Seconds that one call waits for messages, and so the time that stopping takes. SQS allows 20, but requests at this
#: pace cost next to nothing either.
WAIT_SECONDS: Final = 5
#: Messages of one call, the most that SQS gives.
BATCH: Final = 10
#: Seconds before the first retry after a failure; doubled for each further one, up to the longest pause.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
#: Shortest time between two calls while the queue is empty, for servers that do not wait as asked.
_EMPTY_SECONDS: Final = 1.0
#: Seconds after which a trouble that persists is logged again.
_REMIND_SECONDS: Final = 600.0

#: Ends of the names of Amazon's own servers.
_AMAZON: Final = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")
#: Former addresses of queues. The one without a region is that of the first region.
_OLD: Final = re.compile(r"(?:(?P<region>[a-z0-9-]+)\.)?queue\.amazonaws\.com")
_FIRST_REGION: Final = "us-east-1"
#: A region, as one part of the name of a server: eu-central-1, us-gov-west-1, eusc-de-east-1.
_REGION: Final = re.compile(r"(?:[a-z]{2}|eusc)(?:-[a-z]+)+-[0-9]{1,2}")
_NO_QUEUE: Final = ("NonExistentQueue", "QueueDoesNotExist", "InvalidAddress")
_NOT_ALLOWED: Final = ("AccessDenied",)
_BAD_CREDENTIALS: Final = (
    "ExpiredToken",
    "InvalidClientTokenId",
    "UnrecognizedClient",
    "InvalidSecurity",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignature",
    "Credential",  # errors of boto itself, such as NoCredentialsError
    "TokenRetrieval",
    "SSOToken",
    "UnauthorizedSSOToken",
)
_SLOW_DOWN: Final = ("Throttl", "TooManyRequests", "SlowDown", "RequestLimitExceeded")


@dataclass
class QueueCounters:
    """Counters of a queue since the start; written by one thread only.

    Attributes:
        messages: Messages that were read.
        notices: Notices in the messages.
        strange: Messages without a notice of a known form, which were deleted.
        failures: Failed calls of the queue, and batches that could not be taken.
        trouble: Reason for the failure of the latest call; None once one succeeds again.
    """

    messages: int = 0
    notices: int = 0
    strange: int = 0
    failures: int = 0
    trouble: str | None = None


def read_queue(
    url: str,
    take: Callable[[list[Notice]], None],
    stop: threading.Event,
    *,
    client: Any = None,  # noqa: ANN401  (a boto client)
    counters: QueueCounters | None = None,
) -> None:
    """Read a queue until `stop` is set; failures are logged and, after a pause, tried again.

    Args:
        url: Address of the queue.
        take: Called with the notices of each batch, whose messages are deleted after it returned. If it raises a
            `PollenError` they stay, and are read again when the queue's visibility timeout is over.
        stop: Set to make this function return, within about `WAIT_SECONDS`.
        client: Client for the queue; None for one with the credentials of the environment.
        counters: Counters to raise; None for new ones.
    """
    counted = counters if counters is not None else QueueCounters()
    _Reader(url, take, stop, client, counted).read()


def new_client(url: str) -> Any:  # noqa: ANN401  (a boto client)
    """Return a client for the queue at an address, with the credentials that boto finds.

    The address gives the server and the region. AWS_ENDPOINT_URL is ignored, because it is often that of an S3 store,
    which has no queues; AWS_ENDPOINT_URL_SQS is not.
    """
    import boto3
    from botocore.config import Config

    # A session of its own: the default one must not be used by several threads, and keeps old keys.
    session = boto3.session.Session()
    parts = urlsplit(url)
    own = None if os.environ.get("AWS_ENDPOINT_URL_SQS") else _server(parts)
    region = (
        _region(parts.hostname or "") or os.environ.get("AWS_REGION") or session.region_name
    ) or _FIRST_REGION
    return session.client(
        "sqs",
        endpoint_url=own,
        region_name=region,
        config=Config(
            connect_timeout=10,
            read_timeout=WAIT_SECONDS + 15,
            # `read_queue` retries, because its pause can be cut short.
            retries={"total_max_attempts": 1, "mode": "standard"},
        ),
    )


def _server(parts: SplitResult) -> str:
    """Return the address of the server that has the queue."""
    host = parts.hostname or ""
    old = _OLD.fullmatch(host)
    if old:
        return f"https://sqs.{old['region'] or _FIRST_REGION}.amazonaws.com"
    return f"{'https' if host.endswith(_AMAZON) else parts.scheme}://{parts.netloc}"


def _region(host: str) -> str | None:
    """Return the region in the name of a server, as Amazon's have it, or None if there is no region."""
    if _OLD.fullmatch(host):
        host = f"{host}.{_FIRST_REGION}"
    return next((part for part in host.split(".") if _REGION.fullmatch(part)), None)


class _Reader:
    """The reader of one queue; see `read_queue`."""

    def __init__(
        self,
        url: str,
        take: Callable[[list[Notice]], None],
        stop: threading.Event,
        client: Any,  # noqa: ANN401  (a boto client)
        counters: QueueCounters,
    ) -> None:
        self._url = url
        self._take = take
        self._stop = stop
        self._given_client = client
        self._own_client: Any = None
        self._counters = counters
        self._log = logging.getLogger("pollen.events")
        self._strange_log = RateLimitedLog()
        self._failed_in_a_row = 0
        self._logged_at = 0.0

    def read(self) -> None:
        """Read until `stop` is set."""
        self._log.info("reading the queue %s", self._url)
        while not self._stop.is_set():
            try:
                self._one_batch()
            except (BotoCoreError, ClientError, ResponseParserError) as error:
                self._fail(_explained(error, self._url))
            except PollenError as error:
                self._fail(str(error))
            else:
                self._clear_trouble()

    def _one_batch(self) -> None:
        client = self._client()
        began = time.monotonic()
        answer = client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=WAIT_SECONDS
        )
        messages: Sequence[dict[str, Any]] = answer.get("Messages", ())
        if not messages:
            _check_is_queue(answer, self._url)
            self._stop.wait(max(0.0, _EMPTY_SECONDS - (time.monotonic() - began)))
            return
        self._counters.messages += len(messages)
        notices = [notice for each in messages for notice in self._notices(each)]
        if notices:
            self._take(notices)
        self._counters.notices += len(notices)
        self._delete(client, messages)

    def _client(self) -> Any:  # noqa: ANN401  (a boto client)
        if self._given_client is not None:
            return self._given_client
        if self._own_client is None:
            self._own_client = new_client(self._url)
        return self._own_client

    def _notices(self, message: dict[str, Any]) -> list[Notice]:
        body = message.get("Body", "")
        try:
            return decode(parse_text(body))
        except NotANoticeError as error:
            self._counters.strange += 1
            self._strange_log.warn(
                "deleted a message of the queue that is not a notice: %s. It begins with %s",
                error,
                shown(body),
            )
            return []

    def _delete(self, client: Any, messages: Sequence[dict[str, Any]]) -> None:  # noqa: ANN401
        """Delete the messages that were taken.

        Raises:
            PollenError: If some were not deleted. They are read again, which is harmless but should not go unnoticed.
        """
        entries = [
            {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
            for index, message in enumerate(messages)
        ]
        failed = client.delete_message_batch(QueueUrl=self._url, Entries=entries).get("Failed", ())
        if failed:
            reason = shown(failed[0].get("Code"))
            raise PollenError(
                f"{len(failed)} of {len(entries)} messages could not be deleted from the queue {self._url} ({reason}) "
                "and will be read again"
            )

    def _fail(self, trouble: str) -> None:
        """Log a trouble unless it was logged recently, and wait, longer each time."""
        now = time.monotonic()
        if trouble != self._counters.trouble or now - self._logged_at > _REMIND_SECONDS:
            self._log.warning("%s. Trying again", trouble)
            self._logged_at = now
        self._counters.failures += 1
        self._counters.trouble = trouble
        # A new client finds credentials that were renewed in the meantime.
        self._own_client = None
        pause = FIRST_PAUSE_SECONDS * 2.0 ** min(self._failed_in_a_row, 10)
        self._failed_in_a_row += 1
        self._stop.wait(min(pause, LONGEST_PAUSE_SECONDS))

    def _clear_trouble(self) -> None:
        if self._counters.trouble is not None:
            self._log.info("the queue %s can be read again", self._url)
        self._counters.trouble = None
        self._failed_in_a_row = 0


def _check_is_queue(answer: dict[str, Any], url: str) -> None:
    """Check that an empty answer is that of a queue: boto takes a web page for an empty answer.

    Raises:
        PollenError: If it is a web page.
    """
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if "html" in headers.get("content-type", ""):
        raise PollenError(
            f"{url} answers with a web page and is not a queue: check events.sqs_queue in site.yaml, and whether a "
            "proxy answers in its place"
        )


def _explained(error: Exception, url: str) -> str:
    """Return what went wrong with the queue, and what to do."""
    code = _code(error)
    if _is_among(code, _NO_QUEUE):
        return f"there is no queue at {url} ({code}): check events.sqs_queue in site.yaml"
    if _is_among(code, _NOT_ALLOWED):
        return (
            f"the credentials do not allow reading the queue {url} ({code}): they need sqs:ReceiveMessage and "
            "sqs:DeleteMessage"
        )
    if _is_among(code, _BAD_CREDENTIALS):
        return (
            f"the queue {url} can't be read with the present credentials ({code}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the pod a role; renew keys that have expired"
        )
    if _is_among(code, _SLOW_DOWN):
        return f"the server of the queue {url} asks for fewer requests ({code})"
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return f"the server of the queue {url} answered HTTP {status} ({shown(code)})"
    return f"the queue {url} can't be reached ({code}): check events.sqs_queue and the network"


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code") or "no code")
    return type(error).__name__


def _is_among(code: str, parts: Sequence[str]) -> bool:
    return any(part in code for part in parts)
