"""The HTTP side: who may tell of uploads, how much at once, and what everybody may ask.

Everything is refused before it costs anything: by its path, by the token, by the number of requests
at work, by the length it announces, and only then read. Who is not known by then is read first, for
Ceph and SNS say in the body who they are: a slow one must not hold a place that they need.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.events import incoming, sns
from services.events.counters import Counters
from services.events.incoming import (
    MAX_UNKNOWN_BYTES,
    UNKNOWN_TOGETHER,
    Places,
    RefusedRequestError,
    Room,
    Token,
    body_of,
    given_token,
)
from services.events.notices import MAX_BYTES, NotANoticeError, Notice, decode, opaque_data, parse
from services.events.receiver import NotReadyError, Receiver
from services.events.status import Status, page, without_reasons

#: Requests at work at once: of senders with the token, and of senders not known yet.
KNOWN_AT_ONCE: Final = 24
UNKNOWN_AT_ONCE: Final = 6
#: Requests that wait for their turn, and for how many seconds. What unknown senders take up here, in
#: places and in memory, is theirs alone.
KNOWN_WAITING: Final = 400
UNKNOWN_WAITING: Final = 100
TURN_S: Final = 5.0
RETRY_AFTER_S: Final = 10
#: Not ready when the Prefect server has taken nothing for so long.
FAILING_S: Final = 300.0

_NO_TOKEN: Final = (
    "expected the token, as 'Authorization: Bearer <token>', as /events/<token>, or as Ceph's opaque data; or a "
    "message that SNS signed for an allowed topic"
)


@dataclass
class Desk:
    """What the endpoints share.

    Attributes:
        receiver: Gets what was told.
        counters: Counted up on the way.
        token: The secret of senders; None where only SNS may send.
        verifier: Tells messages of SNS from others; None where no topic is allowed.
        status: Gives what the status page shows.
        confirm: Confirms a subscription of SNS.
        known: Places for senders with the token.
        unknown: Places for the others, whose bodies are there already.
        room: Memory for bodies of the others while they arrive.
    """

    receiver: Receiver
    counters: Counters
    token: Token | None
    verifier: sns.Verifier | None
    status: Callable[[], Status]
    confirm: Callable[[Mapping[str, object]], None] = sns.confirm
    known: Places = field(default_factory=lambda: Places(KNOWN_AT_ONCE, KNOWN_WAITING, TURN_S))
    unknown: Places = field(
        default_factory=lambda: Places(UNKNOWN_AT_ONCE, UNKNOWN_WAITING, TURN_S)
    )
    room: Room = field(default_factory=lambda: Room(UNKNOWN_TOGETHER))


def application(desk: Desk) -> Starlette:
    """The whole of the HTTP side."""
    events = _Events(desk)
    routes = [
        Route(path, endpoint, methods=methods)
        for path in ("/", "/events", "/events/", "/events/{token}")
        for endpoint, methods in ((events.greet, ["GET"]), (events.take, ["POST"]))
    ]
    routes += [
        Route("/health", _health),
        Route("/ready", _ready(desk)),
        Route("/status", _status(desk)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _wrong_address(desk)})
    # A redirection repeats the name of the host that the sender said, whatever it was.
    app.router.redirect_slashes = False
    return app


class _Events:
    """What senders talk to."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._log = logging.getLogger("pollen.events")

    async def greet(self, request: Request) -> Response:  # noqa: ARG002  (the same for everybody)
        """MinIO asks whether anybody is there before it sends."""
        return PlainTextResponse("pollen events: send notices with POST\n")

    async def take(self, request: Request) -> Response:
        """Take one message; the answer says what came of it."""
        self._desk.counters.requests += 1
        try:
            answer = await self._answer(request)
        except RefusedRequestError as error:
            self._desk.counters.refused[error.reason] += 1
            return _refusal(error)
        return JSONResponse(answer)

    async def _answer(self, request: Request) -> dict[str, Any]:
        if self._is_known(request):
            async with self._desk.known.turn():
                raw = await body_of(request, MAX_BYTES, incoming.BODY_S)
                return await self._heard(request, raw, known=True)
        raw = await body_of(request, MAX_UNKNOWN_BYTES, incoming.UNKNOWN_BODY_S, self._desk.room)
        async with self._desk.unknown.turn():
            return await self._heard(request, raw, known=False)

    async def _heard(self, request: Request, raw: bytes, *, known: bool) -> dict[str, Any]:
        body = _parsed(raw)
        if sns.is_message(body):
            # A message with the token needs no signature, unless SNS itself says that it sends it.
            signed = not known or "x-amz-sns-message-type" in request.headers
            done = await self._heard_from_sns(body, signed=signed)
            if done is not None:
                return done
        elif not known and not self._is_from_ceph(body):
            raise RefusedRequestError(401, "no token", _NO_TOKEN)
        return self._taken(_decoded(body))

    def _is_known(self, request: Request) -> bool:
        """Whether the sender gave the token; one who gave another is refused at once."""
        given = [
            each
            for each in (given_token(request), request.path_params.get("token"))
            if each is not None
        ]
        # All are looked at: the time must not tell which one was right.
        right = [self._desk.token is not None and self._desk.token.is_in(each) for each in given]
        if any(right):
            return True
        if given:
            raise RefusedRequestError(401, "wrong token", "this is not the token")
        if request.headers.get("content-length") == "0":
            raise RefusedRequestError(401, "no token", _NO_TOKEN)
        return False

    def _is_from_ceph(self, body: object) -> bool:
        """Ceph has no header for a secret, but sends along what its topic was given."""
        token = self._desk.token
        return token is not None and token.is_in(opaque_data(body))

    async def _heard_from_sns(self, body: object, *, signed: bool) -> dict[str, Any] | None:
        """What came of a message of SNS; None where it holds notices."""
        assert isinstance(body, dict)
        kind = body.get("Type")
        if kind == "Notification" and not signed:
            return None
        if self._desk.verifier is None:
            raise RefusedRequestError(
                403,
                "SNS",
                "no topic of SNS is allowed: name it as events.sns_topics in the site file",
            )
        try:
            await run_in_threadpool(self._desk.verifier.check, body)
            if kind == "SubscriptionConfirmation":
                await run_in_threadpool(self._desk.confirm, body)
        except sns.RefusedError as error:
            # Of these two SNS sends again only after the second.
            raise RefusedRequestError(429 if error.heals else 403, "SNS", str(error)) from error
        if kind == "Notification":
            return None
        self._log.info(
            "SNS: %s", "subscription confirmed" if kind == "SubscriptionConfirmation" else kind
        )
        return {"sns": "heard"}

    def _taken(self, notices: list[Notice]) -> dict[str, Any]:
        try:
            taken = self._desk.receiver.take(notices)
        except NotReadyError as error:
            raise RefusedRequestError(429, "not ready", str(error)) from error
        if taken.is_foreign:
            # Refused, but not with an error: MinIO and Ceph would send the same message again for
            # ever (Ceph more than a thousand times a second), and keep back all that comes after it.
            self._desk.counters.refused["foreign bucket"] += 1
            return {"refused": "this bucket is not watched"}
        return {"uploads": taken.uploads, "passed": taken.passed, "held": taken.held}


def _refusal(error: RefusedRequestError) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.status == 429 else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse({"refused": error.message}, error.status, headers)


def _wrong_address(desk: Desk) -> Callable[[Request, Exception], Response]:
    """Answers where nothing is: a storage that was given a wrong address shows in the counts."""

    def refuse(request: Request, error: Exception) -> Response:  # noqa: ARG001  (may hold a token)
        assert isinstance(error, HTTPException)
        desk.counters.refused["wrong address"] += 1
        told = {"refused": "nothing is here: send notices with POST to /events"}
        return JSONResponse(told, error.status_code, error.headers)

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


def _ready(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def ready(request: Request) -> Response:  # noqa: ARG001  (the same for everybody)
        since = desk.counters.failing_since
        if not desk.receiver.is_ready:
            return PlainTextResponse(
                "not ready: it is not known yet which bucket is watched\n", 503
            )
        if since is not None and time.monotonic() - since > FAILING_S:
            return PlainTextResponse("not ready: the Prefect server takes no events\n", 503)
        return PlainTextResponse("ready\n")

    return ready


def _status(desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def show(request: Request) -> Response:
        status = desk.status()
        if desk.token is None:
            # There is nothing to ask for; reasons may name addresses.
            status = without_reasons(status)
        elif not desk.token.is_in(given_token(request)):
            message = "expected the token, as 'Authorization: Bearer <token>'"
            return _refusal(RefusedRequestError(401, "no token", message))
        return page(status, html="text/html" in request.headers.get("accept", ""))

    return show
