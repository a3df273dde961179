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
#: Seconds for a body to arrive.
BODY_S: Final = 10.0


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
    """What stands in the header ``Authorization``, without the word Bearer; None where there is none."""
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            kind, _, rest = bytes(value).partition(b" ")
            # MinIO sends a token that is two words as it is; some gateways leave the first away.
            return rest.strip() if kind.lower() == b"bearer" else bytes(value).strip()
    return None


async def body_of(request: Request, limit: int) -> bytes:
    """The body of a request.

    Args:
        request: The request.
        limit: Bytes that it may have.

    Raises:
        RefusedRequestError: It is larger, takes too long, or breaks off.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:12]) > limit:
        raise _too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        raise RefusedRequestError(
            408, "slow", f"the body did not arrive within {BODY_S:.0f} s"
        ) from error
    except ClientDisconnect as error:
        raise RefusedRequestError(400, "broken off", "the connection broke off") from error
    return bytes(body)


def _too_large(limit: int) -> RefusedRequestError:
    return RefusedRequestError(413, "too large", f"the body has more than {limit} bytes")
