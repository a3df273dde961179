"""The story of detection: which stages run in which order, on a laptop and on a cluster."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from pollen.detection.batches import Batch
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.layout import INPUTS
from tasks.cluster.devices import check_device
from tasks.cluster.shard_plans import PartCounted, forget_plans, read_plan
from tasks.cluster.shards import (
    FAILED_FOR_NOW,
    DetectRequest,
    Recorded,
    Rounds,
    start_shards,
    wait_for_earlier_shards,
    wait_for_shards,
)
from tasks.cluster.turns import leave_to_another, one_run_at_a_time
from tasks.detection.batch import load_model
from tasks.detection.counting import count_batches, merge_small_files, with_numbers
from tasks.detection.planning import Plan, check_access, plan
from tasks.detection.results import begin_results, summarise
from tasks.detection.summary import Summary
from tasks.detection.work import Counted, Work
from tasks.flow_runs import final_state, named
from tasks.models.resolve import PRODUCTION, resolve_model
from tasks.progress import watcher
from tasks.stage import BATCHES_AT_ONCE
from tasks.storage.store import Location, open_store


def count_here(todo: Plan, work: Work) -> Counted:
    """Count the pictures that wait in this process."""
    if not todo.batches:
        return Counted()
    return Counted(todo.waiting, count_in_process(todo.batches, work))


def count_in_process(batches: Sequence[Batch], work: Work) -> PollenError | None:
    """Count batches in this process; return why some could not be counted, or None."""
    watcher().say("preparing the model")
    load_model(work.model, work.profile)
    begin_results(work.output)
    return count_batches(batches, work)


def count_pictures(
    source: Location,
    output: Location,
    model: str,
    settings: DetectSettings,
    *,
    count: Callable[[Plan, Work], Counted] = count_here,
    shards: int = 1,
    gpu: bool | None = None,
) -> Summary:
    """Count every picture below `source` that was not counted yet; results go below `output`.

    The whole story, with or without a Prefect flow run around it.

    Args:
        source: The place of the pictures.
        output: The root of the results.
        model: The model's name.
        settings: How to count.
        count: Counts the pictures that wait: the one step that differs on a cluster.
        shards: How many runs share the work.
        gpu: Whether the machines that count have a GPU; None: this machine counts, and is asked.

    Raises:
        PollenError: If the run could not do its work; the message holds the remedy.
    """
    check_access(source, output)
    work = Work.of(source, output, resolve_model(model, output), settings, gpu=gpu)
    todo = plan(source, output, work.records, settings, shards)
    watcher().planned(todo.waiting, todo.inputs.height)
    counted = count(todo, work)
    if counted.pictures:
        watcher().say("writing tables")
    summary = summarise(work, todo.inputs, counted.pictures)
    if counted.pictures:
        merge_small_files(work)
    if counted.problem:
        raise with_numbers(counted.problem, summary)
    return summary


def count_on_cluster(request: DetectRequest, settings: DetectSettings) -> Summary:
    """Tell the same story on a cluster: one run at a time per root, and other runs count for it.

    Raises:
        AnotherWaitsError: If another run waits already and will do what this one would.
        PollenError: If the run could not do its work; the message holds the remedy.
    """
    request.check()
    root = request.root
    leave_to_another(root)
    with one_run_at_a_time(root):
        wait_for_earlier_shards(request)
        summary = count_pictures(
            root.below(INPUTS),
            root,
            request.model,
            settings,
            count=partial(count_on_shards, request),
            shards=request.shards,
            gpu=True,
        )
        # Last: a run that is killed before this resumes its plans, and counts nothing twice.
        forget_plans(root, str(flow_run.id))
        return summary


def count_on_shards(request: DetectRequest, todo: Plan, work: Work) -> Counted:
    """Have other runs count the pictures that wait, in rounds: each gets what crashed shards left.

    A run that was killed while its shards counted resumes its own plan instead of `todo`.

    Raises:
        PollenError: If no shards can be started, or the store or the server fails.
    """
    rounds = Rounds(request, work)
    planned = rounds.first(todo)
    if planned is not None:
        begin_results(work.output)
    while planned is not None:
        recorded = Recorded(planned, work)  # first: if the store fails, no shard is left alone
        ended = wait_for_shards(start_shards(request, planned), recorded, watcher())
        planned = rounds.next(planned, ended)
    return rounds.counted


def count_part(root: Location, key: str, shard: int) -> PartCounted:
    """Count the part of a plan that is a shard's.

    Args:
        root: The root of the results.
        key: The key of the plan.
        shard: The number of the part, from 1.

    Raises:
        PollenError: If not all of it could be counted.
    """
    planned = read_plan(open_store(root), key)
    part = planned.part(shard)
    check_device(planned.settings.device)
    model = resolve_model(planned.model, root)
    work = Work.of(root.below(INPUTS), root, model, planned.settings)
    planned.check(work.profile)
    watcher().planned(part.pictures, part.pictures)
    problem = count_in_process(part.batches, work)
    if problem:
        raise problem
    return PartCounted(part)


#: The name of the artifact that shows how far a run is.
PROGRESS: Final = "detection-progress"
#: Unbounded by default. (Typed by its base: the decorator wants that.)
_threads = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=BATCHES_AT_ONCE))


@flow(
    name="detect",
    flow_run_name=named("detect {bucket} {prefix}"),
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
    request = DetectRequest(bucket, prefix, model, shards)
    return final_state(lambda: count_on_cluster(request, settings), progress=PROGRESS)


@flow(
    name="detect-here",
    flow_run_name=named("detect {source.address}"),
    task_runner=_threads,
    persist_result=False,
)
def detect_here(
    source: Location,
    output: Location,
    model: str = PRODUCTION,
    settings: DetectSettings = DetectSettings(),  # noqa: B008
) -> State[Summary]:
    """Count the pictures of one place in this process; results go to another place.

    The flow run of `pollen detect` and `pollen demo`. It has no deployment.

    Args:
        source: The place of the pictures.
        output: The root of the results.
        model: `production`, `bundled`, the version of a published model, or the path of a .pt file.
        settings: How to count.
    """
    return final_state(lambda: count_pictures(source, output, model, settings), progress=PROGRESS)


@flow(name="detect-shard", task_runner=_threads, persist_result=False)
def detect_shard(
    bucket: str, plan: str, shard: int, prefix: str | None = None
) -> State[PartCounted]:
    """Count a part of what a `detect` run planned; that run starts this one and writes the tables.

    Args:
        bucket: Name of the saved S3Bucket block.
        plan: Key of the plan, below the root.
        shard: Which part, from 1.
        prefix: Folder in the bucket (below the block's own folder) that holds `detect_images/`.
    """
    root = Location(block=bucket, prefix=prefix or "")
    return final_state(
        lambda: count_part(root, plan, shard), progress=PROGRESS, if_heals=FAILED_FOR_NOW
    )
