"""Posts one event per burst to the Prefect server, and tries again for as long as the server is away."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pollen.errors import PollenError
from services.events.bursts import Burst, PendingBursts
from services.events.counters import Counters
from services.events.roots import Root, UploadKind
from services.prefect_server.connection import refusal

#: Names of the events, for which the automations of `pollen setup` wait.
PICTURES_EVENT: Final = "pollen.pictures.uploaded"
EXPORTS_EVENT: Final = "pollen.exports.uploaded"
EVENTS: Final = {UploadKind.PICTURES: PICTURES_EVENT, UploadKind.EXPORTS: EXPORTS_EVENT}

#: Seconds for one attempt.
ATTEMPT_S: Final = 15.0
#: Longest pause between attempts: while the server is away, and if it refuses.
LONGEST_PAUSE_S: Final = 10.0
LONGEST_PAUSE_REFUSED_S: Final = 120.0

Post = Callable[[Burst], Awaitable[None]]


class NotPostedError(PollenError):
    """An event did not arrive, as far as is known.

    Attributes:
        maybe_posted: Whether it may have arrived all the same, because only the answer is missing.
        refused: Whether the server answered that it does not accept this event; it may accept others.
    """

    def __init__(self, message: str, *, maybe_posted: bool = False, refused: bool = False) -> None:
        super().__init__(message, heals=True)
        self.maybe_posted = maybe_posted
        self.refused = refused


def event(burst: Burst) -> dict[str, Any]:
    """Return the event of a burst in the form of Prefect's API.

    Its resource is the root, so that there are few resources however much is uploaded.
    """
    root = burst.root
    payload = {
        "bucket": root.block,
        "prefix": root.prefix or None,
        "uploads": burst.uploads,
        "example": burst.key,
        "first": burst.first.isoformat(),
        "last": burst.last.isoformat(),
    }
    return {
        "id": str(burst.id),
        # Now, not the time of the upload: the server treats events of long ago as history.
        "occurred": datetime.now(UTC).isoformat(),
        "event": EVENTS[burst.kind],
        "resource": {
            "prefect.resource.id": f"pollen.root.{root.name.replace('/', '.')}",
            "prefect.resource.name": root.name,
        },
        "payload": payload,
    }


async def post_event(burst: Burst) -> None:
    """Post the event of a burst, once.

    Prefect's own `emit_event` silently loses what it can't send.

    Raises:
        NotPostedError: If the event did not arrive, as far as is known.
    """
    timeout = httpx.Timeout(ATTEMPT_S, connect=5)
    # Retries of the client itself would hide whether an earlier attempt may have arrived.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        try:
            async with (
                asyncio.timeout(ATTEMPT_S),
                get_client(httpx_settings={"timeout": timeout}) as client,
            ):
                await client.request("POST", "/events", json=[event(burst)])
        except httpx.HTTPStatusError as error:
            raise _refused(error.response) from error
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotPostedError("the Prefect server can't be reached") from error
        # ValueError: the answer is not Prefect's, but for example a page of a proxy.
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, RuntimeError, ValueError) as error:
            raise NotPostedError(
                f"the Prefect server did not answer ({type(error).__name__})", maybe_posted=True
            ) from error


def _refused(response: httpx.Response) -> NotPostedError:
    """Return the error for an answer other than success."""
    passing = response.status_code in {
        httpx.codes.REQUEST_TIMEOUT,
        httpx.codes.TOO_MANY_REQUESTS,
    }
    return NotPostedError(
        refusal(response),
        # A server that fails halfway may have kept the event, and so may one behind a gateway.
        maybe_posted=response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR,
        refused=response.status_code < httpx.codes.INTERNAL_SERVER_ERROR and not passing,
    )


def _pause_s(failures: int, longest_s: float) -> float:
    """Return a pause that grows with each failure in a row; it is random, as several may wait for one server."""
    return float(min(longest_s, 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0))


class Poster:
    """Posts bursts when they are due.

    Args:
        bursts: The bursts to post.
        counters: Counters to raise.
        post: Posts the event of one burst.
    """

    def __init__(self, bursts: PendingBursts, counters: Counters, post: Post = post_event) -> None:
        self._bursts = bursts
        self._counters = counters
        self._post = post
        self._news = asyncio.Event()
        self._failures = 0
        # Of what is refused at the moment: the number of refusals in a row, and the latest reason.
        self._refused: dict[tuple[Root, UploadKind], tuple[int, str]] = {}
        self._log = logging.getLogger("pollen.events")

    def wake(self) -> None:
        """Look again which burst is due next, because an upload was added."""
        self._news.set()

    async def run(self) -> None:
        """Post bursts when they are due; return only when cancelled, with everything put back."""
        while True:
            await self._until_due()
            await self._round(time.monotonic())
            if self._failures:
                await asyncio.sleep(_pause_s(self._failures, LONGEST_PAUSE_S))

    async def flush(self, deadline_s: float) -> int:
        """Post all bursts, due or not.

        Args:
            deadline_s: Seconds to try for.

        Returns:
            The number of uploads that could not be reported.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while self._bursts.pending:
                    await self._round(math.inf)
                    if self._failures or self._refused:
                        await asyncio.sleep(_pause_s(1, LONGEST_PAUSE_S))
        except TimeoutError:
            pass
        return sum(burst.uploads for burst in self._bursts.pending)

    async def _until_due(self) -> None:
        while True:
            self._news.clear()
            due = self._bursts.next_due()
            wait = None if due is None else due - time.monotonic()
            if wait is not None and wait <= 0:
                return
            try:
                await asyncio.wait_for(self._news.wait(), wait)
            except TimeoutError:
                continue

    async def _round(self, now: float) -> None:
        """Try to post what is due; if the server is away, the rest waits for the next round."""
        due = self._bursts.take(now)
        away = False
        try:
            while due and not away:
                error = await self._try(due[0])
                burst = due.pop(0)
                if error is None:
                    self._refused.pop((burst.root, burst.kind), None)
                    self._note_posted(burst)
                else:
                    away = not error.refused
                    self._keep(burst, error)
                    self._note_failed(burst, error)
        finally:
            # Also when cancelled: the burst being posted may have arrived, the others have not.
            for number, burst in enumerate(due):
                self._bursts.put_back(burst, maybe_posted=number == 0 and not away)
        self._failures = self._failures + 1 if away else 0
        if not away:
            self._note_reachable()

    async def _try(self, burst: Burst) -> NotPostedError | None:
        """Post one burst, and return what went wrong, or None."""
        try:
            await self._post(burst)
        except NotPostedError as error:
            return error
        except Exception as error:  # noqa: BLE001  (whatever it is)
            # A bug of ours or of the client: no upload is lost through it, and other roots are still posted.
            self._log.exception("an event could not be posted because of an unexpected error")
            return NotPostedError(
                f"unexpected error {type(error).__name__}", maybe_posted=True, refused=True
            )
        return None

    def _keep(self, burst: Burst, error: NotPostedError) -> None:
        """Put back a burst that was not posted; one that was refused pauses, so that it does not delay others."""
        not_before = None
        if error.refused:
            where = (burst.root, burst.kind)
            times = self._refused.get(where, (0, ""))[0] + 1
            self._refused[where] = (times, str(error))
            not_before = time.monotonic() + _pause_s(times, LONGEST_PAUSE_REFUSED_S)
        self._bursts.put_back(burst, maybe_posted=error.maybe_posted, not_before=not_before)

    def _note_reachable(self) -> None:
        """Clear the trouble, because the server answers; what it still refuses remains trouble."""
        if self._refused:
            *_, (_, self._counters.trouble) = self._refused.values()
        else:
            self._counters.trouble = self._counters.failing_since = None

    def _note_posted(self, burst: Burst) -> None:
        self._counters.posted += 1
        self._counters.last_post = datetime.now(UTC)
        self._log.info(
            "posted %s for %s, uploads: %d",
            EVENTS[burst.kind],
            burst.root.name,
            burst.uploads,
        )

    def _note_failed(self, burst: Burst, error: NotPostedError) -> None:
        counters = self._counters
        counters.failed_posts += 1
        if counters.failing_since is None:
            counters.failing_since = time.monotonic()
        logged, counters.trouble = counters.trouble, str(error)
        # Once for each cause: an outage of an hour should not fill the log.
        if logged != counters.trouble:
            self._log.warning(
                "%s for %s could not be posted and will be tried again: %s",
                EVENTS[burst.kind],
                burst.root.name,
                error,
            )
