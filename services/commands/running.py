"""What commands that run a story have in common: with a Prefect server or without, and how they end."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings

from pollen.errors import PollenError
from services.console import say_error
from services.exit_codes import COULD_NOT_RUN
from tasks.storage.store import Location

R = TypeVar("R")


def run_story(
    alone: Callable[[], R], as_flow: Callable[[], Any], places: tuple[Location | None, ...]
) -> R:
    """Run a story as a flow run where a Prefect server is configured, else in this process alone.

    Args:
        alone: The story.
        as_flow: The same as a flow; returns its final state.
        places: The places it uses: blocks want a server.

    Raises:
        PollenError: The story could not do its work, or the server can't be used.
    """
    url = get_current_settings().api.url
    if url is None:
        if any(place is not None and place.block for place in places):
            raise PollenError(
                "a block is saved on a Prefect server: set PREFECT_API_URL, or leave --block away"
            )
        return alone()
    logging.getLogger("pollen").info("running as a flow run on %s", url)
    try:
        state = cast("State[R]", as_flow())
    except (httpx.HTTPError, RuntimeError) as error:
        raise PollenError(
            f"the Prefect server at {url} can't be used ({error}): start it, or unset "
            "PREFECT_API_URL to run without one"
        ) from error
    if not state.is_completed():
        raise PollenError(state.message or f"the flow run ended as {state.name}")
    return state.result()


def guarded(work: Callable[[], int], *, stopped: str, kept: str, verbose: bool) -> int:
    """Do the work of a command and turn what goes wrong into one clear error; returns the exit code.

    Args:
        work: Returns the exit code.
        stopped: What to tell a person who pressed Ctrl-C.
        kept: What is not lost, whatever happened.
        verbose: Show unexpected errors whole.
    """
    try:
        return work()
    except PollenError as error:
        say_error(str(error))
    except KeyboardInterrupt:
        say_error(stopped)
    except Exception as error:
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        say_error(
            f"unexpected error ({type(error).__name__}: {error}): {kept}. "
            "Run again with --verbose and report what it prints"
        )
        if verbose:
            raise
    return COULD_NOT_RUN
