"""One request, before it is believed: who sent it, and its body, read within bounds."""

import asyncio
import hmac
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
