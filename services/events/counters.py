"""Counters of the receiver, for its status page and its log."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime


@dataclass
class Counters:
    """The counts since the start.

    Attributes:
        requests: Requests that sent a message.
        refused: Refused requests, by reason; including those to a wrong address, which `requests` leaves out.
        uploads: Reported uploads, by kind.
        passed: Notices that start nothing, by reason.
        posted: Events that the Prefect server accepted.
        failed_posts: Failed attempts to post an event.
        last_upload: Time at which the latest upload was reported.
        last_post: Time at which the Prefect server accepted the latest event.
        trouble: Reason for the failure of the latest attempt; None once one succeeds again.
        failing_since: Start of the failures, in seconds of the monotonic clock; None if the latest attempt succeeded.
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
