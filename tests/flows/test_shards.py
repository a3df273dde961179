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
from tasks.cluster.shards import DetectRequest
from tasks.cluster.turns import limit_name
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

#: More than are counted before something is killed.
PICTURES = 18
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
    pictures = {f"{number:02}.png": picture(number % 3) for number in range(PICTURES)}
    upload(s3_server, f"cluster/{prefix}/detect_images", pictures)
    order = DetectRequest("cluster", prefix, MODEL, 3)
    make_limit(order.root)
    return order


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


def wait_for_records(server: EmbeddedS3, order: DetectRequest, number: int) -> None:
    """Wait until so many batches are recorded."""
    deadline = time.monotonic() + PATIENCE_S
    while sum("/images/" in key for key in objects(server, f"cluster/{order.prefix}")) < number:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_processes_leave_the_tables_as_one_run_makes_them(
    cluster: Cluster, place: DetectRequest, s3_server: EmbeddedS3
) -> None:
    below = f"cluster/{place.prefix}"
    run = start(cluster, place, shards=3)
    first = shards_of(place, 3)
    cluster.wait(first[0], "Running")
    wait_for_records(s3_server, place, 1)
    cluster.kill(first[0])
    cluster.kill(run)
    cluster.wait_until_reported()
    assert cluster.wait(run).state_name == "Crashed"
    with get_client(sync_client=True) as client:  # as the automation does
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
    done = cluster.wait(run)
    assert done.state is not None
    assert (done.state.name, str(done.state.message)[:11]) == (
        "Completed",
        f"{PICTURES} images, ",
    ), done.state

    found = bucket_tables(s3_server, below)
    assert len(rows(found[COUNTS])) == PICTURES  # which also fails where a name stands twice
    with s3_server.active():
        source, alone = bucket_folder(f"{below}/detect_images"), bucket_folder(f"{below}-alone")
        count(source, alone, device="cpu")
    assert found == bucket_tables(s3_server, f"{below}-alone")
    assert not [key for key in objects(s3_server, below) if key.startswith(PLANS)]
    ended = shards_of(place)
    assert [each.state_name for each in ended[:3]] == ["Crashed", "Completed", "Completed"]
    assert [each.id for each in ended[:3]] == [each.id for each in first]
    assert len(ended) <= 6
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
