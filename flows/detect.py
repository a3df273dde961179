"""The story of detection: which stages, in which order. Nothing else happens here."""

from collections.abc import Sequence
from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pollen.detector import DeviceError, Profile
from pollen.layout import INPUTS, records_folder
from pollen.planning import Batch
from pollen.settings import DetectSettings
from tasks.detection import BatchResult, detect_batch, load_model
from tasks.faults import PollenError, StorageError
from tasks.planning import check_access, compact_records, plan
from tasks.progress import Published, watched_by, watcher
from tasks.registry import PRODUCTION, resolve_model
from tasks.reporting import Summary, begin_results, summarise
from tasks.stage import BATCHES_AT_ONCE, logger
from tasks.storage import Location
from tasks.work import Work


def count_pictures(
    source: Location, output: Location, model: str, settings: DetectSettings
) -> Summary:
    """Count every picture below ``source`` that was not counted yet; results go below ``output``.

    The whole story, with or without a Prefect flow run around it.

    Raises:
        PollenError: The run could not do its work; the message holds the remedy.
    """
    progress = watcher()
    check_access(source, output)
    chosen = resolve_model(model, output)
    try:
        profile = Profile.resolve(chosen.card, settings)
    except DeviceError as error:
        raise PollenError(str(error)) from error
    records = records_folder(profile.model_version, profile.fingerprint)
    todo = plan(source, output, records, settings)
    progress.planned(todo.waiting, todo.inputs.height)
    work = Work(source, output, chosen, profile, settings, records)
    failures: list[Exception] = []
    if todo.batches:
        progress.say("preparing the model")
        load_model(chosen, profile)
        begin_results(output)
        failures = _count_batches(todo.batches, work)
        progress.say("writing tables")
    summary = summarise(work, todo.inputs, todo.waiting)
    if todo.batches:
        _compact(work)
    if failures:
        raise PollenError(
            f"{len(failures)} of {len(todo.batches)} batches could not be counted; what was counted is in "
            f"the tables, and the next run counts the rest. First cause: {failures[0]}"
        ) from failures[0]
    return summary


def _count_batches(batches: Sequence[Batch], work: Work) -> list[Exception]:
    """Count all batches; returns what those failed with that failed for good.

    Where the first one can't even reach its store, the others would fail alike after the same
    work, so they are not begun.
    """
    failures: list[Exception] = []
    calls = ({"batch": batch, "work": work, "progress": watcher()} for batch in batches)
    for number, result in enumerate(detect_batch.each(calls)):
        if not isinstance(result, BatchResult):
            failures.append(result)
            if isinstance(result, StorageError) and len(failures) > number:
                break
    return failures


def _compact(work: Work) -> None:
    """Merge small record files; a run that counted is not failed by a store that lets none be deleted."""
    try:
        compact_records(work.output, work.records)
    except PollenError as error:
        logger().warning("small record files could not be merged: %s", error)


def _run_name() -> str:
    """What the Prefect UI calls a run: what it counts, and where."""
    given = flow_run.parameters
    place = given.get("bucket") or given["source"]
    if isinstance(place, Location):
        place = place.address
    return " ".join(["detect", str(place), given.get("prefix") or ""]).strip()


#: Unbounded by default. (Typed by its base: the decorator wants that.)
_threads = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE))


@flow(
    name="detect",
    flow_run_name=_run_name,
    task_runner=_threads,
    persist_result=False,
)
def detect(
    bucket: str = "pollen",
    prefix: str | None = None,
    model: str = PRODUCTION,
    shards: int = 1,
    settings: DetectSettings = DetectSettings(),  # noqa: B008  (frozen; the UI shows its defaults)
) -> State[Summary]:
    """Count viable and non-viable pollen grains in the pictures of a bucket.

    Pictures below `detect_images/` that were not counted yet are counted; tables and a report go
    to `pollen_counting_results/`, pictures with the grains drawn in to `detected_images/`.

    Args:
        bucket: Name of the saved S3Bucket block.
        prefix: Folder in the bucket (below the block's own folder) that holds `detect_images/`.
        model: `production`, `bundled`, the version of a published model, or the path of a .pt file.
        shards: How many runs share the work on a cluster. The numbers do not depend on it.
        settings: How to count.
    """
    root = Location(block=bucket, prefix=prefix or "")
    return _as_state(root.below(INPUTS), root, model, shards, settings)


@flow(
    name="detect",
    flow_run_name=_run_name,
    task_runner=_threads,
    persist_result=False,
)
def detect_between(
    source: Location,
    output: Location,
    model: str = PRODUCTION,
    shards: int = 1,
    settings: DetectSettings = DetectSettings(),  # noqa: B008
) -> State[Summary]:
    """Count the pictures of one place and write the results to another: what `pollen detect` runs."""
    return _as_state(source, output, model, shards, settings)


def _as_state(
    source: Location, output: Location, model: str, shards: int, settings: DetectSettings
) -> State[Summary]:
    """Run the story and name its end; the message carries the numbers, or the remedy."""
    if shards > 1:
        logger().info(
            "shards run on a cluster's GPU pool; all batches of this run are counted here"
        )
    try:
        with watched_by(Published(watcher())):
            summary = count_pictures(source, output, model, settings)
    except PollenError as error:
        return Failed(message=str(error))
    return Completed(name=summary.outcome, message=summary.message, data=summary)
