"""Notices from a queue of Amazon's SQS."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.events.notices import Notice


@dataclass
class QueueCounters:
    """What was seen of a queue since the start; written by one thread only.

    Attributes:
        messages: Messages that were read.
        notices: Notices in them.
        strange: Messages that held no notice of a known form; deleted.
        failures: Calls of the queue that failed.
        trouble: Why the last call failed; None once one works again.
    """

    messages: int = 0
    notices: int = 0
    strange: int = 0
    failures: int = 0
    trouble: str | None = None


def read_queue(
    url: str,
    take: Callable[[list[Notice]], None],
    stop: threading.Event,
    *,
    client: Any = None,  # noqa: ANN401  (a boto client)
    counters: QueueCounters | None = None,
) -> None:
    """Read a queue until told to stop; returns then, and raises nothing on the way.

    Args:
        url: Address of the queue.
        take: Gets the notices of each batch; messages are deleted after it returned.
        stop: Set to make it return, within a few seconds.
        client: Client for the queue; None for one of the environment's credentials.
        counters: Counted up on the way.
    """
    raise NotImplementedError
