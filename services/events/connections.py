"""Limits on the number and the duration of connections, which uvicorn alone does not have.

uvicorn waits forever for the head of a request, and its own limit on connections answers everyone beyond it with an
error. Here an idle connection is closed in favour of a new one, so that a crowd that only keeps connections open
does not shut anyone out.
"""

import asyncio
import heapq
import resource
from collections import Counter
from contextlib import suppress
from typing import ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Connections at the same time; an idle one costs about 20 KiB.
MOST_CONNECTIONS: Final = 2048
#: Open files that the process needs for other things.
OTHER_FILES: Final = 128
#: Seconds that a new connection has to send something before it may be closed in favour of others.
FRESH_S: Final = 2.0
#: Seconds from the connection, or from the last answer on it, to the next complete answer.
ANSWER_WITHIN_S: Final = 30.0


def allow_connections() -> None:
    """Raise the limit on open files to the number of connections, as far as the system allows it."""
    wanted = MOST_CONNECTIONS + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= wanted:
        return
    with suppress(ValueError, OSError):  # fewer connections then
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == unlimited else min(wanted, hard), hard)
        )


def most_connections() -> int:
    """Return the number of connections at the same time that the limit on open files allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - OTHER_FILES, 8))


class BoundedProtocol(H11Protocol):
    """HTTP on one connection, which is closed if it is slow, or idle when there are too many.

    Attributes:
        refused: Connections of this process that were closed before an answer, by reason.
    """

    refused: ClassVar[Counter[str]] = Counter()
    _deadline: asyncio.TimerHandle | None = None
    _idle_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a new connection, and close those that have been idle longest if there are too many."""
        super().connection_made(transport)
        self._restart_deadline()
        if len(self.connections) > most_connections():
            self._close_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline of a closed connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Start the time for the next request of the connection."""
        self._restart_deadline()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """True if no request is being answered."""
        cycle = self._latest
        return cycle is None or cycle.response_complete

    @property
    def _latest(self) -> RequestResponseCycle | None:
        """The latest request, if any; uvicorn declares that there always is one."""
        return self.cycle

    def _restart_deadline(self) -> None:
        self._idle_since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(ANSWER_WITHIN_S, self.drop, "too slow")

    def _close_idle(self) -> None:
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedProtocol) and each is not self and each.is_idle
        ]
        now = self.loop.time()
        # Several at once, because it would be slow to search all connections for each new one.
        number = max(1, len(others) // 16)
        for each in heapq.nsmallest(number, others, key=lambda each: each._rank(now)) or [self]:
            each.drop("too many connections")

    def _rank(self, now: float) -> tuple[bool, float]:
        """Return the rank of an idle connection; new ones, whose request may be on its way, are closed last."""
        is_fresh = self._latest is None and now - self._idle_since < FRESH_S
        return is_fresh, self._idle_since

    def drop(self, reason: str) -> None:
        """Close the connection at once."""
        self.refused[reason] += 1
        # At once, not only when the loop runs `connection_lost`: until then it would be counted.
        self.connections.discard(self)
        self.transport.abort()
