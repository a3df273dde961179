"""Calls to the Prefect server during long work, which an absence of the server must not end."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

import httpx

from pollen.errors import PollenError
from tasks.stage import logger

R = TypeVar("R")

#: How long the server may be away, in seconds, and how often a call is repeated.
LONGEST_AWAY_S: Final = 3600.0
ASK_EVERY_S: Final = 3.0


def ask_server(call: Callable[[], R], what: str) -> R:
    """Make a call that is safe to repeat; if the server is away or failing, wait for it.

    Args:
        call: The call.
        what: What it does, for messages.

    Raises:
        PollenError: If the server stays away, or refuses.
    """

    def warn(error: httpx.HTTPError) -> None:
        logger().warning("waiting for the Prefect server (%s): %s", what, error)

    try:
        return wait_for_server(call, LONGEST_AWAY_S, warn)
    except httpx.HTTPError as error:
        if is_refusal(error):
            raise PollenError(f"the Prefect server refuses {what} ({error})") from error
        raise PollenError(
            f"the Prefect server has been away for {LONGEST_AWAY_S / 60:.0f} min at {what} ({error}): check that "
            "it runs, then run again. What was counted is recorded"
        ) from error


def wait_for_server(
    call: Callable[[], R], patience_s: float, on_wait: Callable[[httpx.HTTPError], None]
) -> R:
    """Repeat a call until the server answers it.

    Args:
        call: The call; it is safe to repeat.
        patience_s: Seconds that the server may be away or failing.
        on_wait: Called once, when waiting begins.

    Raises:
        httpx.HTTPError: If the server refuses, or stays away for longer.
    """
    deadline = time.monotonic() + patience_s
    waiting = False
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            if is_refusal(error) or time.monotonic() > deadline:
                raise
            if not waiting:
                on_wait(error)
                waiting = True
            time.sleep(ASK_EVERY_S)


def is_refusal(error: httpx.HTTPError) -> bool:
    """Return whether the server answered and refused, so that waiting is of no use."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
