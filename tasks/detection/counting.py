"""Counting all batches of a run in this process, and the error about those that failed."""

from collections.abc import Sequence

from pollen.detection.batches import Batch, titled
from pollen.errors import PollenError, heals
from tasks.detection.batch import BatchResult, detect_batch
from tasks.detection.planning import compact_records
from tasks.detection.summary import Summary
from tasks.detection.work import Work
from tasks.faults import StorageError
from tasks.progress import watcher
from tasks.stage import logger


def count_batches(batches: Sequence[Batch], work: Work) -> PollenError | None:
    """Count batches, two at a time; return why some could not be counted, or None.

    If the first one can't even reach its store, the others would fail alike after the same work, so
    they are not started.
    """
    failures: list[Exception] = []
    calls = (
        {"batch": batch, "work": work, "progress": watcher(), "title": title}
        for title, batch in titled(batches)
    )
    for number, result in enumerate(detect_batch.each(calls)):
        if not isinstance(result, BatchResult):
            failures.append(result)
            if isinstance(result, StorageError) and len(failures) > number:
                break
    return _problem(failures, len(batches))


def _problem(failures: Sequence[Exception], batches: int) -> PollenError | None:
    """Return the error about batches that failed; it names first a cause that waiting does not mend."""
    if not failures:
        return None
    first = min(failures, key=heals)
    problem = PollenError(
        f"{len(failures)} of {batches} batches could not be counted; what was counted is in "
        f"the tables, and the next run counts the rest. First cause: {first}",
        heals=heals(first),
    )
    problem.__cause__ = first
    return problem


def with_numbers(problem: PollenError, summary: Summary) -> PollenError:
    """Return a problem with what the tables hold all the same: many people see only this message."""
    both = PollenError(f"{problem}. So far: {summary.sentence}", heals=problem.heals)
    both.__cause__ = problem
    return both


def merge_small_files(work: Work) -> None:
    """Merge small record files; a store that lets none be deleted does not fail a run that counted."""
    try:
        compact_records(work.output, work.records)
    except PollenError as error:
        logger().warning("small record files could not be merged: %s", error)
