"""The story of detection: which stages, in which order. Nothing else happens here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import deployment, flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pollen.detection.batches import Batch, titled
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError, heals
from pollen.layout import INPUTS, records_folder
from pollen.models.card import ModelCard
from tasks.cluster.devices import check_device
from tasks.cluster.shard_plans import forget_plans, read_plan
from tasks.cluster.shards import FAILED_FOR_NOW, Order, count_on_shards, wait_for_left_over
from tasks.cluster.turns import AnotherWaitsError, leave_to_another, one_run_at_a_time
from tasks.detection.batch import BatchResult, detect_batch, load_model
from tasks.detection.planning import Plan, check_access, compact_records, plan
from tasks.detection.results import begin_results, summarise
from tasks.detection.summary import Outcome, Summary
from tasks.detection.work import Counted, Work
from tasks.faults import StorageError
from tasks.models.resolve import PRODUCTION, resolve_model
from tasks.progress import Published, watched_by, watcher
from tasks.stage import BATCHES_AT_ONCE, logger
from tasks.storage.store import Location, open_store


def count_here(todo: Plan, work: Work) -> Counted:
    """Count what waits in this process."""
    if not todo.batches:
        return Counted()
    failures = _count_batches(todo.batches, work)
    return Counted(todo.waiting, _problem(failures, len(todo.batches)))


@dataclass(frozen=True)
class Counting:
    """How the pictures that wait get counted: all in which a run on a cluster differs from others.

    Attributes:
        count: Counts them.
        shards: How many runs share them.
        gpu: Whether the machines that count have a GPU; None: it is this one, and is asked.
    """

    count: Callable[[Plan, Work], Counted] = count_here
    shards: int = 1
    gpu: bool | None = None


def count_pictures(
    source: Location,
    output: Location,
    model: str,
    settings: DetectSettings,
    counting: Counting = Counting(),
) -> Summary:
    """Count every picture below ``source`` that was not counted yet; results go below ``output``.

    The whole story, with or without a Prefect flow run around it.

    Raises:
        PollenError: The run could not do its work; the message holds the remedy.
    """
    progress = watcher()
    check_access(source, output)
    chosen = resolve_model(model, output)
    profile = _profile(chosen.card, settings, counting.gpu)
    records = records_folder(profile.model_version, profile.fingerprint)
    todo = plan(source, output, records, settings, counting.shards)
    progress.planned(todo.waiting, todo.inputs.height)
    work = Work(source, output, chosen, profile, settings, records)
    counted = counting.count(todo, work)
    if counted.pictures:
        progress.say("writing tables")
    summary = summarise(work, todo.inputs, counted.pictures)
    if counted.pictures:
        _compact(work)
    if counted.problem:
        raise _with_numbers(counted.problem, summary)
    return summary


def count_with_shards(order: Order, settings: DetectSettings) -> Summary:
    """The same story on a cluster: one run at a time per root, and other runs count for it.

    Raises:
        AnotherWaitsError: Another run waits already and will do what this one would.
        PollenError: The run could not do its work; the message holds the remedy.
    """
    order.check()
    leave_to_another(order.root)
    counting = Counting(partial(count_on_shards, order), order.shards, gpu=True)
    with one_run_at_a_time(order.root):
        wait_for_left_over(order)
        summary = count_pictures(
            order.root.below(INPUTS), order.root, order.model, settings, counting
        )
        # Last: a run that is killed before this finds what it had others count, and tells of it.
        forget_plans(order.root, str(flow_run.id))
        return summary


def count_part(root: Location, key: str, shard: int) -> str:
    """Count a shard's part of a plan; returns what became of it, in words.

    Args:
        root: The root of the results.
        key: Of the plan.
        shard: Number of the part, from 1.

    Raises:
        PollenError: Not all of it could be counted.
    """
    planned = read_plan(open_store(root), key)
    batches = planned.part(shard)
    check_device(planned.settings.device)
    chosen = resolve_model(planned.model, root)
    profile = _profile(chosen.card, planned.settings)
    planned.check(profile)
    records = records_folder(profile.model_version, profile.fingerprint)
    work = Work(root.below(INPUTS), root, chosen, profile, planned.settings, records)
    pictures = sum(len(batch.items) for batch in batches)
    watcher().planned(pictures, pictures)
    problem = _problem(_count_batches(batches, work), len(batches))
    if problem:
        raise problem
    return f"part {shard} of {len(planned.shards)}: {pictures} pictures counted in {len(batches)} batches"


def _profile(card: ModelCard, settings: DetectSettings, gpu: bool | None = None) -> Profile:
    return Profile.resolve(card, settings, gpu=gpu)


def _count_batches(batches: Sequence[Batch], work: Work) -> list[Exception]:
    """Count all batches; returns what those failed with that failed for good.

    Where the first one can't even reach its store, the others would fail alike after the same
    work, so they are not begun.
    """
    watcher().say("preparing the model")
    load_model(work.model, work.profile)
    begin_results(work.output)
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
    return failures


def _problem(failures: Sequence[Exception], batches: int) -> PollenError | None:
    """What a run says of batches that failed; the first one that waiting does not mend comes first."""
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


def _with_numbers(problem: PollenError, summary: Summary) -> PollenError:
    """A problem with what the tables hold all the same: many see nothing of a run but this message."""
    told = PollenError(f"{problem}. So far: {summary.sentence}", heals=problem.heals)
    told.__cause__ = problem
    return told


def _compact(work: Work) -> None:
    """Merge small record files; a run that counted is not failed by a store that lets none be deleted."""
    try:
        compact_records(work.output, work.records)
    except PollenError as error:
        logger().warning("small record files could not be merged: %s", error)


def _run_name() -> str:
    """What the Prefect UI calls a run: what it counts, and where."""
    given = flow_run.parameters
    place = given["bucket"] if "bucket" in given else given["source"]
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
    order = Order(bucket, prefix, model, shards)
    if deployment.id is not None:
        return _as_state(lambda: count_with_shards(order, settings))
    _say_of_shards(shards)
    return _as_state(lambda: count_pictures(order.root.below(INPUTS), order.root, model, settings))


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
    _say_of_shards(shards)
    return _as_state(lambda: count_pictures(source, output, model, settings))


@flow(name="detect-shard", task_runner=_threads, persist_result=False)
def detect_shard(bucket: str, plan: str, shard: int, prefix: str | None = None) -> State[None]:
    """Count a part of what a `detect` run planned; that run starts this one and writes the tables.

    Args:
        bucket: Name of the saved S3Bucket block.
        plan: Key of the plan, below the root.
        shard: Which part, from 1.
        prefix: Folder in the bucket (below the block's own folder) that holds `detect_images/`.
    """
    root = Location(block=bucket, prefix=prefix or "")
    try:
        with watched_by(Published(watcher(), "detection-progress")):
            return Completed(message=count_part(root, plan, shard))
    except PollenError as error:
        return Failed(message=str(error), name=FAILED_FOR_NOW if error.heals else "Failed")


def _say_of_shards(shards: int) -> None:
    """Tell who asks for shards where there are none."""
    if shards > 1:
        logger().info(
            "shards run on a cluster's GPU pool; all batches of this run are counted here"
        )


def _as_state(story: Callable[[], Summary]) -> State[Summary]:
    """Run the story and name its end; the message carries the numbers, or the remedy."""
    try:
        with watched_by(Published(watcher(), "detection-progress")):
            summary = story()
    except AnotherWaitsError as error:
        return Completed(name=Outcome.NOTHING_NEW, message=str(error))
    except PollenError as error:
        return Failed(message=str(error))
    return Completed(name=summary.outcome, message=summary.message, data=summary)
