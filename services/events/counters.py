"""What the receiver counts, for its status page and its log."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Counters:
    """Counted since the start.

    Attributes:
        requests: Requests that wanted to tell of something.
        refused: How many were refused, by reason; those to a wrong address too, though they are not counted above.
        uploads: Uploads that were told of, by kind.
        passed: Notices that start nothing, by reason.
        posted: Events that the Prefect server took.
        failed_posts: Attempts to post one that failed.
        last_upload: When the latest upload was told of.
        last_post: When the Prefect server took the latest event.
        trouble: Why the latest attempt failed; None once one works again.
        failing_since: Since when attempts fail, in seconds of the monotonic clock.
    """

    requests: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    posted: int = 0
    failed_posts: int = 0
    last_upload: datetime | None = None
    last_post: datetime | None = None
    trouble: str | None = None
    failing_since: float | None = None
