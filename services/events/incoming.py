"""One request before it is trusted: its token, and its body, read within bounds."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

#: Bytes of a request without a token; Ceph, which gives it in the body, sends about a thousand for each picture.
MAX_UNKNOWN_BYTES: Final = 256 * 1024
#: Seconds for a body to arrive: from senders with the token, and from unknown ones.
BODY_S: Final = 10.0
UNKNOWN_BODY_S: Final = 2.0
#: Bytes that the bodies of all unknown senders may take together while they arrive.
UNKNOWN_TOGETHER: Final = 16 * 1024 * 1024


class RefusedRequestError(Exception):
    """A request is refused.

    Attributes:
        status: HTTP status of the answer.
        reason: Name of the counter of such refusals.
        message: Sentence for the sender.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Token:
    """The secret that senders share with the receiver, compared in constant time."""

    secret: bytes

    def matches(self, given: bytes | str | None) -> bool:
        """Return whether this is what a sender gave."""
        if given is None:
            return False
        raw = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given
        return hmac.compare_digest(raw, self.secret)


class RequestSlots:
    """A limit on the requests that are handled at the same time; a bounded number of others waits.

    Args:
        number: Requests that are handled at the same time.
        waiting: Requests that wait; each may hold a read buffer of 64 KiB.
        wait_s: Seconds that a request waits at most.
    """

    def __init__(self, number: int, waiting: int, wait_s: float) -> None:
        self._free = asyncio.Semaphore(number)
        self._most_waiting = waiting
        self._wait_s = wait_s
        self._waiting = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot inside the block, after waiting for one if necessary.

        Raises:
            RefusedRequestError: If too many requests wait, or this one waited too long.
        """
        if self._free.locked() and self._waiting >= self._most_waiting:
            raise _busy()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._free.acquire()
        except TimeoutError as error:
            raise _busy() from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()


def _busy() -> RefusedRequestError:
    return RefusedRequestError(429, "too many", "too many requests at once: try again later")


def given_token(request: Request) -> bytes | None:
    """Return what the header `Authorization` gives, with or without the word Bearer, or None without a token."""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            kind, blank, rest = bytes(value).strip().partition(b" ")
            if kind.lower() == b"bearer":
                return rest.strip()
            # Some gateways leave the first word out. Another word (SNS: Basic) is not about our token.
            if not blank:
                return kind
    return None


class BodyMemory:
    """A limit on the memory of bodies that arrive at the same time; beyond it the largest body is dropped.

    Args:
        most: Bytes of all bodies together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._together = 0
        self._bytes: dict[asyncio.Timeout, int] = {}
        self._dropped: set[asyncio.Timeout] = set()

    def update(self, scope: asyncio.Timeout, number: int) -> None:
        """Record how large a body is by now, and drop the largest bodies if all together are too large.

        Args:
            scope: The timeout of the body; it is made to expire at once if the body is dropped.
            number: Bytes of the body.
        """
        if scope in self._dropped:
            return
        self._together += number - self._bytes.get(scope, 0)
        self._bytes[scope] = number
        while self._together > self._most:
            largest = max(self._bytes, key=self._bytes.__getitem__)
            self._together -= self._bytes.pop(largest)
            self._dropped.add(largest)
            largest.reschedule(asyncio.get_running_loop().time())

    def release(self, scope: asyncio.Timeout) -> bool:
        """Forget a body that is no longer arriving, and return whether it was dropped."""
        was_dropped = scope in self._dropped
        self._dropped.discard(scope)
        self._together -= self._bytes.pop(scope, 0)
        return was_dropped


async def read_body(
    request: Request, limit: int, seconds: float = BODY_S, memory: BodyMemory | None = None
) -> bytes:
    """Read the body of a request.

    Args:
        request: The request.
        limit: Bytes that the body may have.
        seconds: Time that it may take.
        memory: Memory shared with other bodies; None for as much as the limit allows.

    Raises:
        RefusedRequestError: If the body is too large, takes too long, or breaks off.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:12]) > limit:
        raise _too_large(limit)
    body = bytearray()
    scope = asyncio.timeout(seconds)
    was_dropped = False
    try:
        async with scope:
            try:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
                    if memory is not None:
                        memory.update(scope, len(body))
            finally:
                was_dropped = memory is not None and memory.release(scope)
    except TimeoutError as error:
        if was_dropped:
            raise _busy() from error
        raise RefusedRequestError(
            408, "slow", f"the body of the request did not arrive within {seconds:.0f} s"
        ) from error
    except ClientDisconnect as error:
        raise RefusedRequestError(
            400, "broken off", "the connection was closed before the body was complete"
        ) from error
    return bytes(body)


def _too_large(limit: int) -> RefusedRequestError:
    return RefusedRequestError(
        413, "too large", f"the body of the request has more than {limit} bytes"
    )
