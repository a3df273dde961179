"""Connections in bounded number and for bounded time, which uvicorn alone does not see to.

uvicorn waits for ever for the head of a request, and its own limit on connections answers everybody
beyond it with an error, whoever they are. Here a connection that says nothing gives way to a new one,
so that a crowd that only keeps connections open keeps nobody out.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

#: Connections at once. Each holds at most one read buffer of 64 KiB besides its request.
MOST_CONNECTIONS: Final = 512
#: Seconds from the connection, or from the last answer on it, to the next whole answer.
ANSWER_WITHIN_S: Final = 30.0


class BoundedProtocol(H11Protocol):
    """HTTP on one connection, for as long as it is used well."""

    _deadline: asyncio.TimerHandle | None = None
    _quiet_since: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in place of the one that has said nothing for longest if there are too many."""
        super().connection_made(transport)
        self._wait_again()
        if len(self.connections) > MOST_CONNECTIONS:
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
        cycle: RequestResponseCycle | None = self.cycle  # none before the first request
        return cycle is None or cycle.response_complete

    def _wait_again(self) -> None:
        self._quiet_since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(ANSWER_WITHIN_S, self.transport.abort)

    def _make_room(self) -> None:
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedProtocol) and each is not self and each.is_idle
        ]
        oldest = min(others, key=lambda each: each._quiet_since, default=self)
        oldest.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        # Not only when the loop comes to it: until then it would be counted.
        self.connections.discard(self)
        self.transport.abort()
