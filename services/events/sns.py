"""Amazon SNS over HTTP: which topics are accepted, and how a subscription is confirmed.

SNS is let in like every other sender: by the secret token, here in the address of the subscription
(`/events/<token>`). Signatures are not verified. What is checked here keeps somebody who knows the token from
using the receiver against others: only subscriptions of configured topics are confirmed, and only addresses of
SNS itself are opened.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

import httpx

from pollen.errors import PollenError
from services.events.fields import shown
from services.events.rate_limited_log import RateLimitedLog

#: Bytes of the answer to a confirmation; a real one has about 500.
MAX_ANSWER_BYTES: Final = 64 * 1024
#: Seconds for a confirmation. SNS waits 15 s for our answer, which comes after it.
FETCH_SECONDS: Final = 4.0

SUBSCRIPTION: Final = "SubscriptionConfirmation"
UNSUBSCRIPTION: Final = "UnsubscribeConfirmation"
#: The header that SNS itself sends with every message.
HEADER: Final = "x-amz-sns-message-type"

_SHOWN_TOPICS: Final = 5
# The shape of a region is strict: sns.s3-us-west-2.amazonaws.com is a bucket called "sns", which anybody may own.
_HOST: Final = re.compile(r"sns\.[a-z]{2}(-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(\.cn)?")


class RefusedError(PollenError):
    """A message of SNS is refused; `heals` says whether SNS should send it again."""


def is_message(body: object) -> bool:
    """Return whether a parsed message has the form of SNS; anybody may have sent it."""
    return isinstance(body, dict) and "Type" in body and "TopicArn" in body


class AcceptedTopics:
    """The topics whose messages are accepted.

    Args:
        arns: ARNs of the topics; empty to accept none.
    """

    def __init__(self, arns: Collection[str]) -> None:
        self._arns = frozenset(arns)
        self._refused_log = RateLimitedLog()

    def check(self, message: Mapping[str, object]) -> None:
        """Check that a message belongs to one of the topics.

        Raises:
            RefusedError: If it does not.
        """
        topic = _text(message, "TopicArn")
        if topic in self._arns:
            return
        # Not in the answer: ARNs of topics contain the number of the account.
        accepted = ", ".join(sorted(self._arns)[:_SHOWN_TOPICS]) or "none"
        self._refused_log.warn(
            "refused an SNS message of the topic %s; events.sns_topics in site.yaml lists %d: %s",
            shown(topic),
            len(self._arns),
            accepted,
        )
        raise RefusedError(
            f"the SNS topic {shown(topic)} is not accepted: list it under events.sns_topics in site.yaml"
        )


async def fetch_confirmation(url: str) -> bytes:
    """Open the address that confirms a subscription, and return the answer of SNS.

    Time and size are bounded, and redirects are not followed.

    Raises:
        RefusedError: If SNS can't be reached, or does not confirm.
    """
    try:
        # The client's own timeout is for each step, this one for all of them.
        async with asyncio.timeout(FETCH_SECONDS):
            return await _fetched(url)
    except TimeoutError as error:
        raise RefusedError(
            f"{_host(url)} did not confirm the subscription within {FETCH_SECONDS:.0f} s",
            heals=True,
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RefusedError(
            f"the subscription can't be confirmed because {_host(url)} can't be reached ({type(error).__name__}): "
            "check that this machine may connect to it on port 443",
            heals=True,
        ) from error


async def confirm(
    message: Mapping[str, object],
    fetch: Callable[[str], Awaitable[bytes]] = fetch_confirmation,
) -> None:
    """Confirm the subscription that a message asks about.

    Args:
        message: A message of type SubscriptionConfirmation, of an accepted topic.
        fetch: Opens an address that was found to be one of SNS, and returns the answer.

    Raises:
        RefusedError: If the address does not confirm a subscription of this topic, or SNS refuses.
    """
    topic, url = _text(message, "TopicArn"), _text(message, "SubscribeURL")
    parts = _split(url)
    expected = {
        "Action": ["ConfirmSubscription"],
        "TopicArn": [topic],
        "Token": [_text(message, "Token")],
    }
    if parts is None or parts.path not in {"", "/"} or _query(parts) != expected:
        raise RefusedError(
            f"the address {shown(url)} does not confirm a subscription of {shown(topic)} at SNS: it was not opened"
        )
    if b"<SubscriptionArn>" not in await fetch(url):
        raise RefusedError(
            f"SNS did not confirm the subscription of {shown(topic)}: subscribe again"
        )
    logging.getLogger("pollen.events").info("confirmed the subscription of the SNS topic %s", topic)


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address of SNS, or None for any other address."""
    try:
        parts = urlsplit(url)
        # The whole of it, so that no port, user or odd character stands beside the host.
        is_sns = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) and not parts.fragment
    except ValueError:
        return None
    # What urlsplit drops silently, such as a line break, another library may read.
    return parts if is_sns and parts.geturl() == url and url.isascii() else None


def _query(parts: SplitResult) -> dict[str, list[str]]:
    try:
        return parse_qs(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        return {}


async def _fetched(url: str) -> bytes:
    plain = {"Accept-Encoding": "identity"}
    body = bytearray()
    async with (
        httpx.AsyncClient(timeout=FETCH_SECONDS) as client,
        client.stream("GET", url, headers=plain) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise RefusedError(
                f"{_host(url)} did not confirm the subscription: it answered HTTP {response.status_code}",
                heals=response.is_server_error,
            )
        async for part in response.aiter_raw():
            body += part
            if len(body) > MAX_ANSWER_BYTES:
                raise RefusedError(
                    f"the answer of {_host(url)} has more than {MAX_ANSWER_BYTES} bytes, which no confirmation has"
                )
    return bytes(body)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise RefusedError(f"{name} of the SNS message is missing or is not text")
    return value
