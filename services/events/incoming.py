"""One request, before it is believed: who sent it, and its body, read within bounds."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request

#: Bytes of a request from somebody not known yet: what SNS sends at most.
MAX_UNKNOWN_BYTES: Final = 256 * 1024
#: Seconds for a body to arrive: from senders with the token, and from others.
BODY_S: Final = 10.0
UNKNOWN_BODY_S: Final = 2.0
#: Bytes that bodies of unknown senders take up together while they arrive.
UNKNOWN_TOGETHER: Final = 16 * 1024 * 1024


class RefusedRequestError(Exception):
    """A request is refused.

    Attributes:
        status: The HTTP status of the answer.
        reason: A word for the counters.
        message: A sentence for the sender.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Token:
    """The secret that senders share with us; compared in a time that does not tell how much of it was right."""

    secret: bytes

    def is_in(self, given: bytes | str | None) -> bool:
        """Whether somebody gave it."""
        if given is None:
            return False
        raw = given.encode("utf-8", "surrogatepass") if isinstance(given, str) else given
        return hmac.compare_digest(raw, self.secret)


class Places:
    """Requests at work at once are few; some more wait for their turn, and nobody else.

    Args:
        number: How many are at work at once.
        waiting: How many wait; each may hold a read buffer of 64 KiB.
        wait_s: Seconds that one waits at most.
    """

    def __init__(self, number: int, waiting: int, wait_s: float) -> None:
        self._free = asyncio.Semaphore(number)
        self._most_waiting = waiting
        self._wait_s = wait_s
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Be at work inside the block.

        Raises:
            RefusedRequestError: There are too many.
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
    """What stands in the header ``Authorization``, with or without the word Bearer; None where no token does."""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            kind, blank, rest = bytes(value).strip().partition(b" ")
            if kind.lower() == b"bearer":
                return rest.strip()
            # Some gateways leave the first word away. Another one (SNS: Basic) is not about our token.
            if not blank:
                return kind
    return None


class Room:
    """Memory for bodies that arrive at the same time: where it is full, who takes most of it gives way.

    Args:
        most: Bytes of all together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._together = 0
        self._bytes: dict[asyncio.Timeout, int] = {}
        self._ended: set[asyncio.Timeout] = set()

    def takes(self, scope: asyncio.Timeout, number: int) -> None:
        """A body has so many bytes by now.

        Args:
            scope: Ended at once for the largest body where there are too many bytes.
            number: Bytes.
        """
        if scope in self._ended:
            return
        self._together += number - self._bytes.get(scope, 0)
        self._bytes[scope] = number
        while self._together > self._most:
            largest = max(self._bytes, key=self._bytes.__getitem__)
            self._together -= self._bytes.pop(largest)
            self._ended.add(largest)
            largest.reschedule(asyncio.get_running_loop().time())

    def leave(self, scope: asyncio.Timeout) -> bool:
        """A body is no longer arriving; returns whether it had to give way."""
        gave_way = scope in self._ended
        self._ended.discard(scope)
        self._together -= self._bytes.pop(scope, 0)
        return gave_way


async def body_of(
    request: Request, limit: int, seconds: float = BODY_S, room: Room | None = None
) -> bytes:
    """The body of a request.

    Args:
        request: The request.
        limit: Bytes that it may have.
        seconds: How long it may take.
        room: What it shares with others; None for as much as the limit allows.

    Raises:
        RefusedRequestError: It is larger, takes too long, or breaks off.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:12]) > limit:
        raise _too_large(limit)
    body = bytearray()
    scope = asyncio.timeout(seconds)
    gave_way = False
    try:
        async with scope:
            try:
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
                    if room is not None:
                        room.takes(scope, len(body))
            finally:
                gave_way = room is not None and room.leave(scope)
    except TimeoutError as error:
        if gave_way:
            raise _busy() from error
        raise RefusedRequestError(
            408, "slow", f"the body did not arrive within {seconds:.0f} s"
        ) from error
    except ClientDisconnect as error:
        raise RefusedRequestError(400, "broken off", "the connection broke off") from error
    return bytes(body)


def _too_large(limit: int) -> RefusedRequestError:
    return RefusedRequestError(413, "too large", f"the body has more than {limit} bytes")
