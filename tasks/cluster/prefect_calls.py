"""Asking the Prefect server during long work: it may be away for a while, and that must not end the work."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import httpx

from pollen.errors import PollenError
from tasks.stage import logger

R = TypeVar("R")

#: How long the server may be away, in seconds, and how often it is asked again.
PATIENCE_S: Final = 3600.0
ASK_EVERY_S: Final = 3.0


def patiently(call: Callable[[], R], what: str) -> R:
    """Make a call that is safe to repeat; where the server is away or failing, wait for it.

    Args:
        call: The call.
        what: What it does, for messages.

    Raises:
        PollenError: The server stays away, or refuses.
    """
    deadline = time.monotonic() + PATIENCE_S
    told = False
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            if _refused(error):
                raise PollenError(f"the Prefect server refuses {what} ({error})") from error
            if time.monotonic() > deadline:
                raise PollenError(
                    f"the Prefect server has been away for {PATIENCE_S / 60:.0f} min at {what} ({error}): check that "
                    "it runs, then run again. What was counted is recorded"
                ) from error
            if not told:
                logger().warning("the Prefect server is waited for at %s: %s", what, error)
                told = True
            time.sleep(ASK_EVERY_S)


def _refused(error: httpx.HTTPError) -> bool:
    """Whether waiting is of no use."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
