"""`pollen detect`: the story of the flow, with a Prefect server where there is one, else without."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import httpx
from prefect.client.schemas.objects import State
from prefect.settings import get_current_settings
from pydantic import ValidationError

from flows.detect import count_pictures, detect_between
from pollen.settings import DetectSettings
from services.command_line import COULD_NOT_RUN, DONE, SOME_FAILED
from services.console import ProgressView, say_error, set_up_logging, show_summary
from tasks.faults import PollenError
from tasks.progress import watched_by
from tasks.reporting import Outcome, Summary
from tasks.storage import Location


def run_detection(
    source: str,
    output: str,
    *,
    model: str,
    shards: int,
    settings: Sequence[str],
    block: str | None,
    verbose: bool,
) -> int:
    """Run detection and tell what came of it; returns the exit code."""
    set_up_logging(verbose=verbose)
    try:
        chosen = parse_settings(settings)
        places = Location.parse(source, block), Location.parse(output, block)
        with ProgressView() as view, watched_by(view):
            summary = _count(*places, model=model, shards=shards, settings=chosen)
    except PollenError as error:
        say_error(str(error))
        return COULD_NOT_RUN
    except KeyboardInterrupt:
        say_error("stopped; what was counted is kept, and the same command goes on from there")
        return COULD_NOT_RUN
    except Exception as error:
        logging.getLogger("pollen").debug("unexpected", exc_info=True)
        say_error(
            f"unexpected error ({type(error).__name__}: {error}): nothing counted so far is lost. "
            "Run again with --verbose and report what it prints"
        )
        if verbose:
            raise
        return COULD_NOT_RUN
    return tell(summary)


def tell(summary: Summary) -> int:
    """Print a summary; returns the exit code."""
    if summary.outcome is Outcome.NO_IMAGES:
        say_error(summary.message)
        return COULD_NOT_RUN
    show_summary(summary)
    return DONE if summary.failed.is_empty() else SOME_FAILED


def parse_settings(pairs: Sequence[str]) -> DetectSettings:
    """Read ``name=value`` pairs.

    Raises:
        PollenError: A pair, a name or a value is not usable.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise PollenError(f"'{pair}' is no setting: expected NAME=VALUE")
        values[name.strip()] = value.strip()
    try:
        return DetectSettings.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        names = ", ".join(DetectSettings.model_fields)
        raise PollenError(f"settings can't be used: {wrong}. Settings are: {names}") from error


def _count(
    source: Location, output: Location, *, model: str, shards: int, settings: DetectSettings
) -> Summary:
    """Count as a flow run where a Prefect server is configured, else in this process alone."""
    url = get_current_settings().api.url
    if url is None:
        if source.block or output.block:
            raise PollenError(
                "a block is saved on a Prefect server: set PREFECT_API_URL, or leave --block away"
            )
        return count_pictures(source, output, model, settings)
    logging.getLogger("pollen").info("running as a flow run on %s", url)
    try:
        state = cast(
            "State[Summary]",
            detect_between(source, output, model, shards, settings, return_state=True),
        )
    except (httpx.HTTPError, RuntimeError) as error:
        raise PollenError(
            f"the Prefect server at {url} can't be used ({error}): start it, or unset "
            "PREFECT_API_URL to run without one"
        ) from error
    if not state.is_completed():
        raise PollenError(state.message or f"the flow run ended as {state.name}")
    return state.result()
