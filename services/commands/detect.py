"""`pollen detect`: the story of the flow, with a Prefect server where there is one, else without."""

from collections.abc import Sequence

from flows.detect import count_pictures, detect_between
from pollen.detection.settings import DetectSettings
from services.commands.running import guarded, run_story
from services.console import ProgressView, say_error, set_up_logging, show_summary
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from services.options import parse_options
from tasks.detection.summary import Outcome, Summary
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
    """Run detection and tell what came of it; returns the exit code."""
    set_up_logging(verbose=verbose)

    def count() -> int:
        chosen = parse_options(settings, DetectSettings)
        places = Location.parse(source, block), Location.parse(output, block)
        with ProgressView() as view, watched_by(view):
            summary = run_story(
                lambda: count_pictures(*places, model, chosen),
                lambda: detect_between(*places, model, shards, chosen, return_state=True),
                places,
            )
        return tell(summary)

    return guarded(
        count,
        stopped="stopped; what was counted is kept, and the same command goes on from there",
        kept="nothing counted so far is lost",
        verbose=verbose,
    )


def tell(summary: Summary) -> int:
    """Print a summary; returns the exit code."""
    if summary.outcome is Outcome.NO_IMAGES:
        say_error(summary.message)
        return COULD_NOT_RUN
    show_summary(summary)
    return DONE if summary.failed.is_empty() else SOME_FAILED
