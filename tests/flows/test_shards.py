"""Detection on a cluster of real processes: runs are killed, cancelled and doubled, and nothing is lost or twice.

The work pools are of type process; what happens in a pod happens here in a process of the same program.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import AwaitingRetry, Cancelling

from pollen.detection.gpu import cuda_present
from pollen.layout import PLANS
from services.embedded import EmbeddedPrefect, EmbeddedS3
from tasks.cluster.shard_plans import read_plan
from tasks.cluster.shards import DetectRequest
from tasks.cluster.turns import limit_name
from tasks.storage.store import open_store
from tests.flows.test_flow_run import save_block
from tests.support.cluster import PATIENCE_S, Cluster, make_limit, runs_of
from tests.support.pictures import picture
from tests.support.runs import (
    COUNTS,
    MODEL,
    bucket_folder,
    bucket_tables,
    count,
    objects,
    rows,
    upload,
)

PICTURES = 18
#: More than the shard counts before it is killed.
PICTURES_OF_THE_KILLED = 30
#: Settings as a person or a deployment gives them.
SETTINGS = {"device": "cpu", "edge_rule": "all", "batch_images": 1}
pytestmark = [pytest.mark.slow(seconds=70), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def cluster(
    prefect_process: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """Pools, workers and deployments, for all tests here: each worker takes seconds to start."""
    with prefect_process.active():
        save_block("cluster", s3_server, "cluster")
        with Cluster(prefect_process, tmp_path_factory.mktemp("cluster")) as cluster:
            yield cluster


@pytest.fixture
def place(
    cluster: Cluster,
    prefect_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    request: pytest.FixtureRequest,
) -> DetectRequest:
    """A root of the test's own, with a limit and pictures."""
    prefix = request.node.name.removeprefix("test_")
    order = DetectRequest("cluster", prefix, MODEL, 3)
    put_pictures(s3_server, order, range(PICTURES))
    make_limit(order.root)
    return order


def put_pictures(server: EmbeddedS3, order: DetectRequest, numbers: range) -> None:
    """Put the pictures with these numbers below a root."""
    pictures = {f"{number:02}.png": picture(number % 3) for number in numbers}
    upload(server, f"cluster/{order.prefix}/detect_images", pictures)


def start(cluster: Cluster, order: DetectRequest, shards: int, **values: Any) -> FlowRun:  # noqa: ANN401
    """Start `detect/on-demand`."""
    return cluster.start(
        "detect/on-demand",
        bucket=order.bucket,
        prefix=order.prefix,
        model=order.model,
        shards=shards,
        settings=SETTINGS | values,
    )


def shards_of(order: DetectRequest, at_least: int = 0) -> list[FlowRun]:
    """The runs of a root's shards, once there are so many."""
    deadline = time.monotonic() + PATIENCE_S
    while len(found := runs_of("detect-shard", order.tag)) < at_least:
        assert time.monotonic() < deadline
        time.sleep(0.3)
    return found


def batches_of(shard: FlowRun, order: DetectRequest) -> set[str]:
    """The ids of the batches that a shard is to count."""
    planned = read_plan(open_store(order.root), shard.parameters["plan"])
    return {batch.id for batch in planned.part(shard.parameters["shard"]).batches}


def recorded(server: EmbeddedS3, order: DetectRequest, batches: set[str]) -> set[str]:
    """Those of the batches that are recorded."""
    keys = [key for key in objects(server, f"cluster/{order.prefix}") if "/images/" in key]
    return {batch for batch in batches if any(f"/images/{batch}-" in key for key in keys)}


def kill_in_the_middle(
    cluster: Cluster, server: EmbeddedS3, order: DetectRequest, shard: FlowRun
) -> None:
    """Kill a shard when some of its batches are recorded, and others are not."""
    cluster.wait(shard, "Running")
    batches = batches_of(shard, order)
    deadline = time.monotonic() + PATIENCE_S
    while not recorded(server, order, batches):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cluster.suspend(shard)
    assert recorded(server, order, batches) < batches
    cluster.kill(shard)


def test_killed_processes_leave_the_tables_as_one_run_makes_them(
    cluster: Cluster, place: DetectRequest, s3_server: EmbeddedS3
) -> None:
    below = f"cluster/{place.prefix}"
    put_pictures(s3_server, place, range(PICTURES, PICTURES_OF_THE_KILLED))
    run = start(cluster, place, shards=3)
    first = shards_of(place, 3)
    kill_in_the_middle(cluster, s3_server, place, first[0])
    cluster.kill(run)
    cluster.wait_until_reported()
    assert cluster.wait(run).state_name == "Crashed"
    with get_client(sync_client=True) as client:  # as the automation does
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    done = cluster.wait(run)
    assert done.state is not None
    assert (done.state.name, str(done.state.message)[:11]) == (
        "Completed",
        f"{PICTURES_OF_THE_KILLED} images, ",
    ), done.state

    found = bucket_tables(s3_server, below)
    assert (
        len(rows(found[COUNTS])) == PICTURES_OF_THE_KILLED
    )  # which also fails where a name stands twice
    with s3_server.active():
        source, alone = bucket_folder(f"{below}/detect_images"), bucket_folder(f"{below}-alone")
        count(source, alone, device="cpu")
    assert found == bucket_tables(s3_server, f"{below}-alone")
    assert not [key for key in objects(s3_server, below) if key.startswith(PLANS)]
    ended = shards_of(place)
    assert [each.state_name for each in ended[:3]] == ["Crashed", "Completed", "Completed"]
    assert [each.id for each in ended[:3]] == [each.id for each in first]
    assert 3 < len(ended) <= 6
    assert all("round 2" in str(each.name) for each in ended[3:])

    # Nothing new: over in seconds, without a run on pool `gpu`.
    again = cluster.wait(start(cluster, place, shards=3))
    assert again.state_name == "NothingNew"
    assert len(shards_of(place)) == len(ended)


def test_two_coordinators_at_once_take_turns(
    cluster: Cluster, place: DetectRequest, s3_server: EmbeddedS3
) -> None:
    runs = [start(cluster, place, shards=1) for _ in range(2)]
    ended = [cluster.wait(run) for run in runs]
    assert sorted(str(run.state_name) for run in ended) == ["Completed", "NothingNew"]
    assert len(shards_of(place)) == 1
    assert len(rows(bucket_tables(s3_server, f"cluster/{place.prefix}")[COUNTS])) == PICTURES
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(limit_name(place.root))
    assert limit.active_slots == 0


def test_cancelling_a_coordinator_cancels_its_shards(
    cluster: Cluster, place: DetectRequest
) -> None:
    run = start(cluster, place, shards=1)
    (shard,) = shards_of(place, 1)
    cluster.wait(shard, "Running")
    cluster.suspend(shard)  # the server tells shards within half a minute
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling())
    assert cluster.wait(run).state_name == "Cancelled"
    cluster.wait(shard, "Cancelling", "Cancelled")
    cluster.resume(shard)
    assert cluster.wait(shard).state_name == "Cancelled"
    with get_client(sync_client=True) as client:
        limit = client.read_global_concurrency_limit_by_name(limit_name(place.root))
    assert limit.active_slots == 0


@pytest.mark.skipif(cuda_present(), reason="this machine has a GPU")
def test_without_cuda_nothing_is_counted_or_trained_on_pool_gpu(
    cluster: Cluster, place: DetectRequest
) -> None:
    counting = start(cluster, place, shards=1, device="auto")
    training = cluster.start("train/on-demand", bucket=place.bucket, prefix=place.prefix)
    for run in (counting, training):
        state = cluster.wait(run).state
        assert state is not None
        assert state.name == "Failed"
        assert "work pool 'gpu', and finds no usable NVIDIA GPU" in str(state.message)
        assert "set device: cpu" in str(state.message)
    assert len(shards_of(place)) == 1  # not tried again
