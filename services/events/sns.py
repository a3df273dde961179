"""Messages of Amazon's SNS that come by HTTP: whether SNS itself signed them, and for whom.

Anybody can sign, and can say where the certificate lies. So a message is believed only if its topic
was named beforehand, if it is recent, and if its signature fits a certificate that Amazon's own server
of SNS gives out over TLS.
"""

import asyncio
import base64
import binascii
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

import httpx
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from services.events.fields import shown
from services.events.rate_limited_log import Seldom
from tasks.faults import PollenError

#: SNS tries an HTTP address for an hour at most (the limit of a topic's delivery policy). What is
#: older was kept by somebody; with a quarter of an hour for clocks that differ.
MAX_AGE: Final = timedelta(minutes=75)
MAX_AHEAD: Final = timedelta(minutes=15)
#: Bytes of a certificate, or of the answer to a confirmation; real ones have about 2,000 and 500.
MAX_ANSWER_BYTES: Final = 64 * 1024
#: Seconds for one of the two. SNS waits 15 s for an answer, which may take both.
FETCH_SECONDS: Final = 4.0
#: Certificates that are kept. Amazon changes them about once a year, per region.
MAX_CERTIFICATES: Final = 16
#: How many certificates are fetched at once; more would tie up all who wait for them. And for how many
#: seconds others wait for their turn.
MAX_FETCHES: Final = 4
TURN_SECONDS: Final = 1.0
#: For how many seconds an address that gave no certificate is not asked again: one that is wrong, and one
#: that could not be reached. By default SNS tries three times more, 20 seconds apart.
WRONG_SECONDS: Final = 60.0
AWAY_SECONDS: Final = 10.0
#: How many of them are kept.
MAX_FAILED: Final = 256

_T = TypeVar("_T")
_SHOWN_TOPICS: Final = 5
_NOTIFICATION: Final = "Notification"
SUBSCRIPTION: Final = "SubscriptionConfirmation"
_SIGNED_FIELDS: Final = {
    _NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        (SUBSCRIPTION, "UnsubscribeConfirmation"),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {"1": hashes.SHA1(), "2": hashes.SHA256()}
# The shape of a region is strict: sns.s3-us-west-2.amazonaws.com is anybody's bucket called "sns".
_HOST: Final = re.compile(r"sns\.[a-z]{2}(-[a-z]+)+-[0-9]{1,2}\.amazonaws\.com(\.cn)?")
_CERTIFICATE_PATH: Final = re.compile(r"/SimpleNotificationService-[0-9a-f]{1,64}\.pem")


class RefusedError(PollenError):
    """A message of SNS that is not believed; the sentence says why, ``heals`` whether SNS may try again."""


def is_message(body: object) -> bool:
    """Whether a parsed message has the form of SNS, whoever sent it."""
    return isinstance(body, dict) and "Type" in body and "TopicArn" in body


def fetch_certificate(url: str) -> bytes:
    """Fetch a signing certificate from the server that its address names, which TLS vouches for.

    Raises:
        RefusedError: It can't be had.
    """
    return _fetched(url, "the signing certificate")


def fetch_confirmation(url: str) -> bytes:
    """Open the address that confirms a subscription, and return what SNS answers.

    Raises:
        RefusedError: SNS can't be reached, or refuses.
    """
    return _fetched(url, "the confirmation of the subscription")


def _now() -> datetime:
    return datetime.now(UTC)


class Verifier:
    """Tells messages that SNS signed for an allowed topic from all others; may be used by several threads.

    Args:
        topics: ARNs of the topics whose messages are taken; where there are none, none is.
        certificates: Gives the signing certificate (PEM) at an address that was found to be one of SNS;
            raises :class:`RefusedError` where it can't.
        now: The time.
        clock: Seconds that only ever go up.
    """

    def __init__(
        self,
        topics: Collection[str],
        certificates: Callable[[str], bytes] = fetch_certificate,
        now: Callable[[], datetime] = _now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._topics = frozenset(topics)
        self._certificates = certificates
        self._now = now
        self._clock = clock
        self._strangers = Seldom()
        self._known: OrderedDict[str, x509.Certificate] = OrderedDict()
        self._failed: OrderedDict[str, tuple[float, RefusedError]] = OrderedDict()
        self._lock = threading.Lock()
        self._fetches = threading.BoundedSemaphore(MAX_FETCHES)

    def check(self, message: Mapping[str, object]) -> None:
        """Make sure that SNS sent a message for an allowed topic, and lately.

        Blocks for up to about 5 seconds where a certificate has to be fetched first.

        Raises:
            RefusedError: It did not, or that can't be found out.
        """
        # Cheap checks first: nothing is fetched for a topic that nobody here asked for.
        self._check_topic(message)
        canonical = _canonical(message)
        self._check_age(_text(message, "Timestamp"))
        algorithm = _algorithm(message)
        signature = _signature(message)
        key = self._key(_text(message, "SigningCertURL"))
        try:
            key.verify(signature, canonical, padding.PKCS1v15(), algorithm)
        except InvalidSignature as error:
            raise RefusedError("the signature of the SNS message does not fit its text") from error
        except UnsupportedAlgorithm as error:
            raise RefusedError(
                "this system's OpenSSL no longer checks SHA-1 signatures: set the topic's SignatureVersion to 2"
            ) from error

    def _check_topic(self, message: Mapping[str, object]) -> None:
        topic = _text(message, "TopicArn")
        if topic not in self._topics:
            # Not in the answer: the names of topics hold the number of the account.
            allowed = ", ".join(sorted(self._topics)[:_SHOWN_TOPICS]) or "none"
            self._strangers.warn(
                "refused an SNS message for the topic %s; events.sns_topics of site.yaml names %d: %s",
                shown(topic),
                len(self._topics),
                allowed,
            )
            raise RefusedError(
                f"an SNS message came for the topic {shown(topic)}, which is not taken: topics are named in "
                "events.sns_topics of site.yaml"
            )

    def _check_age(self, stamp: str) -> None:
        sent = _time(stamp)
        now = self._now()
        if not now - MAX_AGE <= sent <= now + MAX_AHEAD:
            raise RefusedError(
                f"the SNS message was sent at {sent.isoformat()}, and it is {now.isoformat()} here: either it was kept "
                "and sent again, or a clock is wrong"
            )

    def _key(self, url: str) -> rsa.RSAPublicKey:
        """The key of the certificate at an address, if it may sign today."""
        certificate = self._certificate(url)
        if not certificate.not_valid_before_utc <= self._now() <= certificate.not_valid_after_utc:
            raise RefusedError("the signing certificate of the SNS message is not valid today")
        try:
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm) as error:
            raise RefusedError("the key of the signing certificate can't be read") from error
        if not isinstance(key, rsa.RSAPublicKey):
            raise RefusedError("the key of the signing certificate is not of the kind RSA")
        return key

    def _certificate(self, url: str) -> x509.Certificate:
        with self._lock:
            if url in self._known:
                self._known.move_to_end(url)
                return self._known[url]
        _check_certificate_address(url)
        self._check_failed(url)
        if not self._fetches.acquire(timeout=TURN_SECONDS):
            raise RefusedError("too many signing certificates are being fetched", heals=True)
        try:
            certificate = _loaded(self._certificates(url))
        except RefusedError as error:
            self._note_failed(url, error)
            raise
        finally:
            self._fetches.release()
        with self._lock:
            _keep(self._known, url, certificate, MAX_CERTIFICATES)
        return certificate

    def _check_failed(self, url: str) -> None:
        """Refuse an address that gave no certificate a short time ago, as it was refused then."""
        with self._lock:
            until, error = self._failed.get(url, (0.0, None))
        if error is not None and self._clock() < until:
            raise RefusedError(f"{error} (tried a short time ago)", heals=error.heals)

    def _note_failed(self, url: str, error: RefusedError) -> None:
        until = self._clock() + (AWAY_SECONDS if error.heals else WRONG_SECONDS)
        with self._lock:
            _keep(self._failed, url, (until, error), MAX_FAILED)


def _keep(kept: OrderedDict[str, _T], url: str, value: _T, most: int) -> None:
    kept[url] = value
    kept.move_to_end(url)
    while len(kept) > most:
        kept.popitem(last=False)


def confirm(
    message: Mapping[str, object], fetch: Callable[[str], bytes] = fetch_confirmation
) -> None:
    """Confirm the subscription that a message asks about, which :meth:`Verifier.check` let pass.

    Args:
        message: A message of type SubscriptionConfirmation.
        fetch: Opens an address that was found to be one of SNS, and returns the answer.

    Raises:
        RefusedError: The address does not confirm a subscription of this topic, or SNS refused.
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
    if b"<SubscriptionArn>" not in fetch(url):
        raise RefusedError(f"SNS did not confirm the subscription of {shown(topic)}: make it again")
    logging.getLogger("pollen.events").info("confirmed the subscription of the SNS topic %s", topic)


def _canonical(message: Mapping[str, object]) -> bytes:
    """The text that SNS signs: names and values of some fields, a line each, in the order of names."""
    kind = _text(message, "Type")
    if kind not in _SIGNED_FIELDS:
        raise RefusedError(
            f"the SNS message is of type {shown(kind)}; expected {', '.join(_SIGNED_FIELDS)}"
        )
    lines = []
    for name in _SIGNED_FIELDS[kind]:
        if name == "Subject" and message.get(name) is None:
            continue
        lines += [name, _text(message, name)]
    try:
        return "".join(f"{line}\n" for line in lines).encode("utf-8")
    except UnicodeEncodeError as error:
        raise RefusedError("the SNS message holds half a character") from error


def _algorithm(message: Mapping[str, object]) -> hashes.HashAlgorithm:
    version = _text(message, "SignatureVersion")
    if version not in _HASHES:
        raise RefusedError(
            f"the SignatureVersion of the SNS message is {shown(version)}; expected 1 or 2"
        )
    return _HASHES[version]


def _signature(message: Mapping[str, object]) -> bytes:
    try:
        return base64.b64decode(_text(message, "Signature"), validate=True)
    except (binascii.Error, ValueError) as error:  # the latter: characters outside ASCII
        raise RefusedError("the signature of the SNS message is not Base64") from error


def _time(stamp: str) -> datetime:
    try:
        sent = datetime.fromisoformat(stamp)
    except ValueError as error:
        raise RefusedError(f"the Timestamp of the SNS message is {shown(stamp)}") from error
    return sent if sent.tzinfo else sent.replace(tzinfo=UTC)


def _check_certificate_address(url: str) -> None:
    parts = _split(url)
    if parts is None or parts.query or not _CERTIFICATE_PATH.fullmatch(parts.path):
        raise RefusedError(
            f"the address of the signing certificate is {shown(url)}; expected "
            "https://sns.<region>.amazonaws.com/SimpleNotificationService-....pem: it was not opened"
        )


def _split(url: str) -> SplitResult | None:
    """The parts of an address of SNS; None for any other."""
    try:
        parts = urlsplit(url)
        # The address as a whole, so that no port, user or odd character stands beside the host.
        is_ours = parts.scheme == "https" and _HOST.fullmatch(parts.netloc) and not parts.fragment
    except ValueError:
        return None
    # What urlsplit drops silently, such as a line break, another library may read.
    return parts if is_ours and parts.geturl() == url and url.isascii() else None


def _query(parts: SplitResult) -> dict[str, list[str]]:
    try:
        return parse_qs(parts.query, keep_blank_values=True, strict_parsing=True, max_num_fields=10)
    except ValueError:
        return {}


def _loaded(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise RefusedError("what the address of the signing certificate gave is none") from error


def _fetched(url: str, what: str) -> bytes:
    """The body at an address, bounded in size and time; redirects lead away and are not followed."""
    # In a loop of its own, where a time can be set for all of it: the library's own are for every step.
    try:
        return asyncio.run(_streamed(url, what))
    except TimeoutError as error:
        raise RefusedError(f"{what} took more than {FETCH_SECONDS:.0f} s", heals=True) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise RefusedError(
            f"{what} can't be had from {_host(url)} ({type(error).__name__}): can this machine reach it?",
            heals=True,
        ) from error


async def _streamed(url: str, what: str) -> bytes:
    plain = {"Accept-Encoding": "identity"}
    async with (
        asyncio.timeout(FETCH_SECONDS),
        httpx.AsyncClient(timeout=FETCH_SECONDS) as client,
        client.stream("GET", url, headers=plain) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise RefusedError(
                f"{what} can't be had: {_host(url)} answered HTTP {response.status_code}",
                heals=response.is_server_error,
            )
        return await _bounded(response, what)


async def _bounded(response: httpx.Response, what: str) -> bytes:
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > MAX_ANSWER_BYTES:
            raise RefusedError(f"{what} has more than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _text(message: Mapping[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise RefusedError(f"{name} of the SNS message is no text")
    return value
