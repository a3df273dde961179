"""Pods of the server, its database and the workers, as a cluster's API tells of them."""

import pytest

from services.doctor.checks.cluster import check_cluster
from services.doctor.cluster_access import PAGE, Access
from services.doctor.finding import Level
from tests.services.doctor.running_checks import findings_of, one
from tests.support.kubernetes import (
    NAMESPACE,
    FakeCluster,
    Json,
    container,
    pod_status,
    role_pod,
    worker_pod,
)


@pytest.mark.parametrize("observer", [None, "another-ns", f"{NAMESPACE}-2, {NAMESPACE}x"])
def test_a_worker_that_does_not_watch_its_namespace(
    fake: FakeCluster, access: Access, observer: str | None
) -> None:
    fake.put("pods", worker_pod("worker-gpu-1", observer=observer))
    found = one(findings_of(check_cluster(access)), "namespace")
    assert found.level is (Level.ERROR if observer is None else Level.WARNING)
    assert f"OBSERVER_NAMESPACES={NAMESPACE}" in found.resolution


def test_a_worker_that_watches_several_namespaces(fake: FakeCluster, access: Access) -> None:
    fake.put("pods", worker_pod("worker-gpu-1", observer=f"other, {NAMESPACE}"))
    assert one(findings_of(check_cluster(access)), "watches its namespace").level is Level.OK


def test_workers_are_found_among_many_pods(fake: FakeCluster, access: Access) -> None:
    """By their label, and not on the first page of all pods alone."""
    others = [{"metadata": {"name": f"a-{n}"}, "status": {}} for n in range(2 * PAGE)]
    fake.put("pods", *others, worker_pod("worker-gpu-1"))
    assert one(findings_of(check_cluster(access)), "watches its namespace").level is Level.OK


NO_KEY = {
    "reason": "CreateContainerConfigError",
    "message": "couldn't find key encryption-key in Secret stenc-ns/pollen-prefect",
}
NO_DISK = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims.",
}
LOOP = {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}
RUNS = {"ready": True, "state": {"running": {}}}


@pytest.mark.parametrize(
    ("role", "status", "level", "expected", "remedy"),
    [
        (
            "database",
            {"phase": "Pending", "conditions": [NO_DISK]},
            Level.ERROR,
            "does not run",
            "storageClassName",
        ),
        (
            "server",
            pod_status("Pending", container("server", waiting=NO_KEY)),
            Level.ERROR,
            "does not run (CreateContainerConfigError)",
            "secrets/README.md",
        ),
        (
            "server",
            pod_status("Running", container("server", waiting=LOOP)),
            Level.ERROR,
            "does not run (CrashLoopBackOff)",
            "kubectl logs the-pod --previous",
        ),
        (
            "server",
            pod_status("Pending", container("server", waiting={"reason": "ContainerCreating"})),
            Level.WARNING,
            "is not ready (Pending)",
            "kubectl describe pod the-pod",
        ),
        (
            "database",
            pod_status("Running", container("postgres", running={}) | RUNS | {"restartCount": 7}),
            Level.WARNING,
            "was restarted 7 times",
            "kubectl logs the-pod --previous",
        ),
    ],
)
def test_pods_of_server_and_database(
    fake: FakeCluster,
    access: Access,
    role: str,
    status: Json,
    level: Level,
    expected: str,
    remedy: str,
) -> None:
    fake.put("pods", worker_pod("worker-gpu-1"), role_pod(role, "the-pod", status=status))
    found = one(findings_of(check_cluster(access)), "the-pod")
    assert found.summary.startswith(f"{role} the-pod ")
    assert (found.level, expected in found.summary, remedy in found.resolution) == (
        level,
        True,
        True,
    ), found


def test_pods_that_have_a_successor_say_nothing(fake: FakeCluster, access: Access) -> None:
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}
    fake.put(
        "pods",
        role_pod("server", "old", status=evicted),
        role_pod("server", "leaving", deletionTimestamp="2026-01-01T12:00:00Z"),
        role_pod("server", "new"),
    )
    said = [finding.summary for finding in findings_of(check_cluster(access))]
    assert "server new runs" in said
    assert not any("old" in text or "leaving" in text for text in said)


def test_a_worker_that_does_not_start_and_one_that_is_not_there(
    fake: FakeCluster, access: Access
) -> None:
    denied = {"reason": "ImagePullBackOff", "message": "denied"}
    status = pod_status("Pending", container("worker", waiting=denied))
    fake.put("pods", worker_pod("worker-gpu-1", status=status))
    found = findings_of(check_cluster(access))[-1]
    assert (found.level, "ImagePullError" in found.summary) == (Level.ERROR, True)
    fake.put("pods")
    assert "no worker's pod" in findings_of(check_cluster(access))[-1].summary
