"""What a cluster has of one run."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.doctor.cluster_access import Access, cluster
from services.doctor.run.from_cluster import OnCluster, of_run
from tests.support.kubernetes import (
    NAMESPACE,
    FakeCluster,
    Json,
    container,
    job,
    pod_status,
)


def labelled(run: UUID) -> dict[str, str]:
    return {"prefect.io/flow-run-id": str(run)}


def asked_of(access: Access, run: UUID) -> OnCluster:
    """What the cluster says of a run."""

    async def ask() -> OnCluster:
        async with cluster(access) as client:
            return await of_run(client, access.namespace, run)

    return asyncio.run(ask())


def at(minute: int) -> str:
    return f"2026-01-01T12:{minute:02}:00Z"


def made(name: str, run: UUID, minute: int, owner: str = "", **status: Any) -> Json:  # noqa: ANN401
    """A pod or Job of a run, made at a time."""
    owners = [{"kind": "Job", "name": owner, "apiVersion": "batch/v1", "uid": "u"}] if owner else []
    return {
        "metadata": {
            "name": name,
            "labels": labelled(run),
            "creationTimestamp": at(minute),
            "ownerReferences": owners,
        },
        "status": status,
    }


def test_what_is_left_of_earlier_attempts_tells_its_time(fake: FakeCluster, access: Access) -> None:
    """Pods and Jobs stay for days: those of the first start must not explain the second."""
    run = uuid4()
    killed = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": at(7)}
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "x"}
    fake.put(
        "pods",
        # Newest first: the order in which a cluster lists them says nothing.
        made("p3", run, 30, "third", **pod_status("Pending", container(waiting=NO_SECRET))),
        made("p1", run, 0, "first", **pod_status("Failed", container(terminated=killed))),
    )
    fake.objects[f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"] = [
        made("third", run, 30, conditions=[]),
        made("second", run, 20, conditions=[]),
        made("first", run, 0, conditions=[late | {"lastTransitionTime": at(8)}]),
    ]
    fake.put(
        "events",
        {
            "metadata": {"name": "e"},
            "reason": "FailedCreate",
            "message": "exceeded quota: lab",
            "lastTimestamp": at(21),
            "involvedObject": {"kind": "Job", "name": "second"},
        },
    )
    there = asked_of(access, run)
    assert there.pods == 1
    times = {each.kind: each.at and each.at.strftime("%H:%M") for each in there.problems}
    assert times == {
        "OOMKilled": "12:07",
        "DeadlineExceeded": "12:08",
        "FailedCreate": "12:21",
        "CreateContainerConfigError": None,
    }


NO_PULL = pod_status("Pending", container(waiting={"reason": "ImagePullBackOff", "message": "x"}))
NO_SECRET = {"reason": "CreateContainerConfigError", "message": 'secret "pollen-s3" not found'}
TOO_LONG = {"reason": "DeadlineExceeded", "message": "Pod was active too long"}


@pytest.mark.parametrize(
    ("pods", "jobs", "events", "kind"),
    [
        ([pod_status("Pending")], [], [], None),
        (
            [pod_status("Pending", container(waiting=NO_SECRET))],
            [],
            [],
            "CreateContainerConfigError",
        ),
        ([pod_status("Failed", **TOO_LONG)], [], [], "DeadlineExceeded"),
        ([], [job("run-x", "DeadlineExceeded", "too long")], [], "DeadlineExceeded"),
        ([], [job("run-x")], [("FailedCreate", "exceeded quota: lab")], "FailedCreate"),
    ],
)
def test_what_the_cluster_says_of_a_run(
    fake: FakeCluster,
    access: Access,
    pods: list[Json],
    jobs: list[Json],
    events: list[tuple[str, str]],
    kind: str | None,
) -> None:
    run = uuid4()
    fake.put(
        "pods",
        {"metadata": {"name": "of another run", "labels": labelled(uuid4())}, "status": NO_PULL},
        *({"metadata": {"name": "p", "labels": labelled(run)}, "status": pod} for pod in pods),
    )
    for each in jobs:
        each["metadata"]["labels"] = labelled(run)
    fake.objects[f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"] = jobs
    fake.put(
        "events",
        *(
            {
                "metadata": {"name": "e"},
                "reason": reason,
                "message": message,
                "involvedObject": {"kind": "Job", "name": "run-x"},
            }
            for reason, message in events
        ),
    )

    there = asked_of(access, run)
    assert [problem.kind for problem in there.problems] == ([kind] if kind else [])
    assert there.pods == sum(pod["phase"] == "Pending" for pod in pods)
    asked = [query for path, query in fake.asked if path.endswith("/pods")]
    assert asked[-1]["labelSelector"] == [f"prefect.io/flow-run-id={run}"]
