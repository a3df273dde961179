"""Connections in bounded number and for bounded time, which uvicorn alone does not see to.

uvicorn waits for ever for the head of a request, and its own limit on connections answers everybody
beyond it with an error, whoever they are. Here a connection that says nothing gives way to a new one,
so that a crowd that only keeps connections open keeps nobody out.
"""

import asyncio
import heapq
import resource
from collections import Counter
from contextlib import suppress
from typing import ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Connections at once; one that waits costs about 20 KiB.
MOST_CONNECTIONS: Final = 2048
#: Files that the process needs for other things.
OTHER_FILES: Final = 128
#: Seconds that a new connection has to say something before it may have to give way to others.
FRESH_S: Final = 2.0
#: Seconds from the connection, or from the last answer on it, to the next whole answer.
ANSWER_WITHIN_S: Final = 30.0


def allow_connections() -> None:
    """Have the system allow as many open files as there may be connections, if it can be had."""
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
    """Connections at once, as far as open files are allowed."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - OTHER_FILES, 8))


class BoundedProtocol(H11Protocol):
    """HTTP on one connection, for as long as it is used well.

    Attributes:
        refused: How many were closed before an answer, by reason, in this process.
    """

    refused: ClassVar[Counter[str]] = Counter()
    _deadline: asyncio.TimerHandle | None = None
    _quiet_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in place of those that have said nothing for longest if there are too many."""
        super().connection_made(transport)
        self._wait_again()
        if len(self.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request of the connection."""
        self._wait_again()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        cycle = self._latest
        return cycle is None or cycle.response_complete

    @property
    def _latest(self) -> RequestResponseCycle | None:
        """The latest request; uvicorn says that there always is one."""
        return self.cycle

    def _wait_again(self) -> None:
        self._quiet_since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(ANSWER_WITHIN_S, self.drop, "too slow")

    def _make_room(self) -> None:
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedProtocol) and each is not self and each.is_idle
        ]
        now = self.loop.time()
        # Several at once: looking through all of them is not for every new one.
        number = max(1, len(others) // 16)
        for each in heapq.nsmallest(number, others, key=lambda each: each._claim(now)) or [self]:
            each.drop("too many connections")

    def _claim(self, now: float) -> tuple[bool, float]:
        """How much an idle connection is worth keeping: new ones most, whose request may be on its way."""
        is_fresh = self._latest is None and now - self._quiet_since < FRESH_S
        return is_fresh, self._quiet_since

    def drop(self, reason: str) -> None:
        """Close the connection at once."""
        self.refused[reason] += 1
        # Not only when the loop comes to it: until then it would be counted.
        self.connections.discard(self)
        self.transport.abort()
