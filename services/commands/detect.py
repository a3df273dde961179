"""`pollen detect`: count pictures, with a Prefect server if one is configured, else without."""

import logging
from collections.abc import Sequence

from flows.detect import count_pictures, detect_here
from pollen.detection.settings import DetectSettings
from services.commands.shared import guarded, run_story, show_outcome
from services.console import ProgressView, set_up_logging
from services.options import parse_options
from tasks.progress import watched_by
from tasks.storage.store import Location


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
    """Count pictures and print the result; return the exit code."""
    set_up_logging(verbose=verbose)

    def count() -> int:
        chosen = parse_options(settings, DetectSettings)
        places = Location.parse(source, block), Location.parse(output, block)
        if shards > 1:
            logging.getLogger("pollen").info(
                "--shards is for clusters: all pictures of this run are counted by this process"
            )
        with ProgressView() as view, watched_by(view):
            summary = run_story(
                lambda: count_pictures(*places, model, chosen),
                lambda: detect_here(*places, model, chosen, return_state=True),
                places,
            )
        return show_outcome(summary)

    return guarded(
        count,
        stopped="stopped. What was counted is kept: run the same command again to continue",
        kept="what was counted is kept",
        verbose=verbose,
    )
