"""The HTTP side of the receiver: who may report uploads, how much at once, and what anybody may ask.

Requests are refused as early and as cheaply as possible: by their path, by the token, by the number of requests
that are being handled, by the length they announce, and only then by their body. Of a sender without a token the
body is read before a slot is taken, because Ceph gives the token in the body: a slow body must not hold a slot
that Ceph needs.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.events import incoming, sns
from services.events.counters import Counters
from services.events.fields import NotANoticeError
from services.events.incoming import (
    MAX_UNKNOWN_BYTES,
    UNKNOWN_TOGETHER,
    BodyMemory,
    RefusedRequestError,
    RequestSlots,
    Token,
    given_token,
    read_body,
)
from services.events.notices import MAX_BYTES, Notice, decode, opaque_data, parse
from services.events.rate_limited_log import RateLimitedLog
from services.events.receiver import NotReadyError, Receiver
from services.events.status import ReceiverStatus, page, without_reasons

#: Requests handled at the same time: of senders with the token, and of unknown senders.
KNOWN_AT_ONCE: Final = 24
UNKNOWN_AT_ONCE: Final = 6
#: Requests that wait for a slot, and for how many seconds. Slots and memory of unknown senders are apart from
#: those of known ones, so that unknown senders can't use them up.
KNOWN_WAITING: Final = 400
UNKNOWN_WAITING: Final = 100
SLOT_S: Final = 5.0
RETRY_AFTER_S: Final = 10
#: The receiver is not ready if the Prefect server has accepted nothing for this long.
FAILING_S: Final = 300.0

_NO_TOKEN: Final = (
    "expected the token, as 'Authorization: Bearer <token>', as /events/<token>, "
    "or as Ceph's opaque data"
)


@dataclass
class AppContext:
    """The parts that the endpoints share.

    Attributes:
        receiver: Takes the notices.
        counters: What was received and refused so far.
        token: The secret of senders; None to refuse every sender, if notices come from a queue only.
        topics: SNS topics whose messages are accepted.
        status: Returns what the status page shows.
        confirm: Confirms a subscription of SNS.
        known: Slots for senders with the token.
        unknown: Slots for unknown senders, taken once their body has arrived.
        memory: Memory for bodies of unknown senders while they arrive.
    """

    receiver: Receiver
    counters: Counters
    token: Token | None
    topics: sns.AcceptedTopics
    status: Callable[[], ReceiverStatus]
    confirm: Callable[[Mapping[str, object]], Awaitable[None]] = sns.confirm
    known: RequestSlots = field(
        default_factory=lambda: RequestSlots(KNOWN_AT_ONCE, KNOWN_WAITING, SLOT_S)
    )
    unknown: RequestSlots = field(
        default_factory=lambda: RequestSlots(UNKNOWN_AT_ONCE, UNKNOWN_WAITING, SLOT_S)
    )
    memory: BodyMemory = field(default_factory=lambda: BodyMemory(UNKNOWN_TOGETHER))


def application(context: AppContext) -> Starlette:
    """Return the application with all its endpoints."""
    events = _Events(context)
    routes = [
        Route(path, endpoint, methods=methods)
        for path in ("/", "/events", "/events/", "/events/{token}")
        for endpoint, methods in ((events.greet, ["GET"]), (events.take, ["POST"]))
    ]
    routes += [
        Route("/health", _health),
        Route("/ready", _ready(context)),
        Route("/status", _status(context)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _wrong_address(context)})
    # A redirection would repeat the host name that the sender gave, whatever it is.
    app.router.redirect_slashes = False
    return app


class _Events:
    """The endpoints that senders use."""

    def __init__(self, context: AppContext) -> None:
        self._context = context
        self._log = logging.getLogger("pollen.events")
        self._sns_without_token_log = RateLimitedLog()

    async def greet(self, request: Request) -> Response:  # noqa: ARG002  (the same for everybody)
        """Answer MinIO, which asks whether a server is there before it sends."""
        return PlainTextResponse("pollen events: send notices with POST\n")

    async def take(self, request: Request) -> Response:
        """Take one message, and answer what became of it."""
        self._context.counters.requests += 1
        try:
            answer = await self._answer(request)
        except RefusedRequestError as error:
            self._context.counters.refused[error.reason] += 1
            if error.status == 401 and sns.HEADER in request.headers:
                self._sns_without_token_log.warn(
                    "refused an SNS message that came without the token, or with a wrong one: subscribe the "
                    "address https://.../events/<token> (see docs/events.md)"
                )
            return _refusal(error)
        return JSONResponse(answer)

    async def _answer(self, request: Request) -> dict[str, Any]:
        if self._is_known(request):
            async with self._context.known.slot():
                body = _parsed(await read_body(request, MAX_BYTES, incoming.BODY_S))
                return await self._take(request, body)
        raw = await read_body(
            request, MAX_UNKNOWN_BYTES, incoming.UNKNOWN_BODY_S, self._context.memory
        )
        async with self._context.unknown.slot():
            body = _parsed(raw)
            if not self._is_from_ceph(body):
                raise RefusedRequestError(401, "no token", _NO_TOKEN)
            return await self._take(request, body)

    def _is_known(self, request: Request) -> bool:
        """Return whether the sender gave the token.

        Raises:
            RefusedRequestError: If the sender gave another token.
        """
        given = [
            each
            for each in (given_token(request), request.path_params.get("token"))
            if each is not None
        ]
        # All are compared: the time must not reveal which one was right.
        right = [
            self._context.token is not None and self._context.token.matches(each) for each in given
        ]
        if any(right):
            return True
        if given:
            raise RefusedRequestError(401, "wrong token", "this is not the token")
        if request.headers.get("content-length") == "0":
            raise RefusedRequestError(401, "no token", _NO_TOKEN)
        return False

    def _is_from_ceph(self, body: object) -> bool:
        """Return whether the body gives the token: Ceph has no header for it, but sends a text of its topic along."""
        token = self._context.token
        return token is not None and token.matches(opaque_data(body))

    async def _take(self, request: Request, body: object) -> dict[str, Any]:
        """Take a message of a sender who gave the token."""
        if isinstance(body, dict) and sns.is_message(body):
            answer = await self._answer_to_sns(body, is_direct=sns.HEADER in request.headers)
            if answer is not None:
                return answer
        return self._received(_decoded(body))

    async def _answer_to_sns(
        self, message: Mapping[str, object], *, is_direct: bool
    ) -> dict[str, Any] | None:
        """Return the answer to a message of SNS, or None if it holds notices.

        Args:
            message: The message.
            is_direct: Whether SNS itself sent it, by its header; otherwise a sender may have passed notices of
                any topic on.
        """
        kind = message["Type"]
        # In a tuple, not in a set: the value of a foreign message may not be hashable.
        is_about_subscription = kind in (sns.SUBSCRIPTION, sns.UNSUBSCRIPTION)
        if not (is_direct or is_about_subscription):
            return None
        try:
            self._context.topics.check(message)
            if kind == sns.SUBSCRIPTION:
                await self._context.confirm(message)
        except sns.RefusedError as error:
            # Of these two, SNS sends again only after 429.
            raise RefusedRequestError(429 if error.heals else 403, "SNS", str(error)) from error
        if not is_about_subscription:
            return None
        self._log.info("SNS: %s", "subscription confirmed" if kind == sns.SUBSCRIPTION else kind)
        return {"sns": "received"}

    def _received(self, notices: list[Notice]) -> dict[str, Any]:
        try:
            taken = self._context.receiver.take(notices)
        except NotReadyError as error:
            raise RefusedRequestError(429, "not ready", str(error)) from error
        if taken.is_foreign:
            # Refused, but not with an error: MinIO and Ceph would send the same message again forever
            # (Ceph more than a thousand times a second), and hold back everything after it.
            self._context.counters.refused["foreign bucket"] += 1
            return {"refused": "this bucket is not watched"}
        return {"uploads": taken.uploads, "passed": taken.passed, "held": taken.held}


def _refusal(error: RefusedRequestError) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 429 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"refused": error.message}, error.status, headers)


def _wrong_address(context: AppContext) -> Callable[[Request, Exception], Response]:
    """Return the handler of unknown addresses, which counts them: the counts show a storage with a wrong address."""

    def refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001  (may hold a token)
        assert isinstance(error, HTTPException)
        context.counters.refused["wrong address"] += 1
        body = {"refused": "there is nothing at this address: send notices with POST to /events"}
        return JSONResponse(body, error.status_code, error.headers)

    return refuse


def _parsed(raw: bytes) -> object:
    try:
        return parse(raw)
    except NotANoticeError as error:
        raise RefusedRequestError(400, "no notice", str(error)) from error


def _decoded(body: object) -> list[Notice]:
    try:
        return decode(body)
    except NotANoticeError as error:
        raise RefusedRequestError(400, "no notice", str(error)) from error


async def _health(request: Request) -> Response:  # noqa: ARG001  (the same for everybody)
    return PlainTextResponse("alive\n")


def _ready(context: AppContext) -> Callable[[Request], Awaitable[Response]]:
    async def ready(request: Request) -> Response:  # noqa: ARG001  (the same for everybody)
        since = context.counters.failing_since
        if not context.receiver.is_ready:
            return PlainTextResponse(
                "not ready: it is not known yet which bucket is watched\n", 503
            )
        if since is not None and time.monotonic() - since > FAILING_S:
            return PlainTextResponse("not ready: the Prefect server accepts no events\n", 503)
        return PlainTextResponse("ready\n")

    return ready


def _status(context: AppContext) -> Callable[[Request], Awaitable[Response]]:
    async def show(request: Request) -> Response:
        status = context.status()
        if context.token is None:
            # There is no token to ask for, and reasons may name addresses.
            status = without_reasons(status)
        elif not context.token.matches(given_token(request)):
            message = "expected the token, as 'Authorization: Bearer <token>'"
            return _refusal(RefusedRequestError(401, "no token", message))
        return page(status, html="text/html" in request.headers.get("accept", ""))

    return show
