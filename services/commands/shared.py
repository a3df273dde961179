"""Shared by the commands: run with a Prefect server or without, print the outcome, and turn errors into one line."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings

from pollen.errors import PollenError
from services.console import say_error, show_summary
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from tasks.detection.summary import Outcome, Summary
from tasks.storage.store import Location

R = TypeVar("R")


def run_story(
    alone: Callable[[], R], as_flow: Callable[[], Any], places: tuple[Location | None, ...]
) -> R:
    """Run stages as a flow run if a Prefect server is configured, else in this process alone.

    Args:
        alone: The stages.
        as_flow: The same as a flow; returns its final state.
        places: The places that it uses: blocks need a server.

    Raises:
        PollenError: If a stage fails, or the server can't be used.
    """
    url = get_current_settings().api.url
    if url is None:
        if any(place is not None and place.block for place in places):
            raise PollenError(
                "--block needs a Prefect server, which holds the block: set PREFECT_API_URL, or leave out --block"
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


def show_outcome(summary: Summary) -> int:
    """Print what came of a detection; return the exit code."""
    if summary.outcome is Outcome.NO_IMAGES:
        say_error(summary.message)
        return COULD_NOT_RUN
    show_summary(summary)
    return DONE if summary.failed.is_empty() else SOME_FAILED


def guarded(work: Callable[[], int], *, stopped: str, kept: str, verbose: bool) -> int:
    """Do the work of a command and turn failures into one clear error; return the exit code.

    Args:
        work: Returns the exit code.
        stopped: Message after Ctrl-C.
        kept: Assurance that an unexpected error ends with.
        verbose: Raise unexpected errors.
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
            f"unexpected error ({type(error).__name__}: {error}). Run again with --verbose and report the output; "
            f"{kept}"
        )
        if verbose:
            raise
    return COULD_NOT_RUN
