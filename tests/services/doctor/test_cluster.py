"""The doctor's look at a cluster. No cluster can run here: a small server answers as its API does.

The shapes of what it answers are those of Kubernetes' API reference (tests/support/kubernetes.py).
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.doctor.checking import About, collect
from services.doctor.cluster import look_at_access, look_at_cluster
from services.doctor.finding import Category, Finding, Level
from services.doctor.kube import PAGE, Access, OnCluster, cluster, find_access, of_run
from services.doctor.quantity import amount
from services.doctor.resources import look_at_resources
from services.doctor.rights import FOR_WORKERS, look_at_rights
from services.embedded.ports import free_ports
from services.site import Site, SitePool
from tasks.faults import PollenError
from tests.support.kubernetes import (
    NAMESPACE,
    FakeCluster,
    Json,
    container,
    fake_cluster,
    job,
    node,
    pod_status,
    quota,
    role_pod,
    secret,
    worker_pod,
)


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster in which all is well."""
    with fake_cluster() as made:
        made.put(
            "pods",
            worker_pod("worker-gpu-1"),
            role_pod("server", "prefect-server-1"),
            role_pod("database", "prefect-database-0"),
        )
        made.put("resourcequotas", quota("lab", requests_nvidia_com__gpu=("4", "1")))
        made.put_nodes(node("a", nvidia_com__gpu="4"), node("b"))
        made.put(
            "secrets",
            secret("pollen-s3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            secret("pollen-prefect", "auth-string"),
            secret("registry", kind="kubernetes.io/dockerconfigjson"),
        )
        yield made


@pytest.fixture
def access(fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    """The way to it."""
    return reached(fake.kubeconfig(tmp_path), monkeypatch)


def reached(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    found = find_access()
    assert found is not None
    return found


SITE = Site(
    pools={
        "gpu": SitePool(variables={"image_pull_secrets": [{"name": "registry"}]}),
        "cpu": SitePool(),
    }
)


def looked(check: AsyncIterator[Finding]) -> list[Finding]:
    """What a check finds, run as the doctor runs it."""
    found: list[Finding] = []
    asyncio.run(collect(About(Category.CLUSTER), "it", check, found))
    return found


def everything(access: Access) -> list[Finding]:
    return [
        *look_at_access(access),
        *looked(look_at_cluster(access)),
        *looked(look_at_rights(access)),
        *looked(look_at_resources(access, SITE)),
    ]


def one(findings: list[Finding], part: str) -> Finding:
    """The finding that says something."""
    (found,) = (finding for finding in findings if part in finding.summary)
    return found


def test_all_is_well_and_no_secret_is_shown(access: Access) -> None:
    findings = everything(access)
    assert {finding.level for finding in findings} == {Level.OK}, findings
    said = "\n".join(finding.summary for finding in findings)
    for part in (
        "context 'lab'",
        "nobody else may read the kubeconfig (mode 600)",
        f"namespace '{NAMESPACE}'",
        "Kubernetes v1.36.0",
        "worker worker-gpu-1 watches its namespace",
        "worker worker-gpu-1 runs",
        "server prefect-server-1 runs",
        "database prefect-database-0 runs",
        "may do all that runs need",
        "may install this project",
        "'pollen-worker' may do all that workers need",
        "quota 'lab' has room",
        "nodes offer 4 nvidia.com/gpu",
        "Secret 'pollen-s3' is there",
        "Secret 'registry' is there",
    ):
        assert part in said
    assert "aHVzaC1odXNo" not in repr(findings)
    assert "a-token" not in repr(findings)


def test_a_kubeconfig_that_others_can_read(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fake.kubeconfig(tmp_path, mode=0o644)
    found = one(list(look_at_access(reached(file, monkeypatch))), "mode 644")
    assert found.level is Level.WARNING
    assert found.resolution == f"chmod 600 {file}"


def test_a_context_without_a_namespace(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = reached(fake.kubeconfig(tmp_path, namespace=None), monkeypatch)
    assert access.namespace == "default"
    assert one(list(look_at_access(access)), "no namespace").level is Level.WARNING


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert find_access() is None
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(PollenError, match="which is no file"):
        find_access()
    (tmp_path / "none").write_text("clusters: [")
    with pytest.raises(PollenError, match=r"kubeconfig .* can't be used"):
        find_access()


def test_a_token_that_ran_out(fake: FakeCluster, access: Access) -> None:
    fake.token = "another"
    (found,) = looked(look_at_cluster(access))
    assert found.level is Level.ERROR
    assert "401" in found.summary
    assert "Download the kubeconfig anew" in found.summary


def test_a_cluster_that_does_not_answer(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.address = f"http://127.0.0.1:{free_ports(1)[0]}"
    (found,) = looked(look_at_cluster(reached(fake.kubeconfig(tmp_path), monkeypatch)))
    assert "can't be reached" in found.summary
    assert "VPN" in found.summary


@pytest.mark.parametrize("observer", [None, "another-ns", f"{NAMESPACE}-2, {NAMESPACE}x"])
def test_a_worker_that_does_not_watch_its_namespace(
    fake: FakeCluster, access: Access, observer: str | None
) -> None:
    fake.put("pods", worker_pod("worker-gpu-1", observer=observer))
    found = one(looked(look_at_cluster(access)), "namespace")
    assert found.level is (Level.ERROR if observer is None else Level.WARNING)
    assert f"OBSERVER_NAMESPACES={NAMESPACE}" in found.resolution


def test_a_worker_that_watches_several_namespaces(fake: FakeCluster, access: Access) -> None:
    fake.put("pods", worker_pod("worker-gpu-1", observer=f"other, {NAMESPACE}"))
    assert one(looked(look_at_cluster(access)), "watches its namespace").level is Level.OK


def test_workers_are_found_among_many_pods(fake: FakeCluster, access: Access) -> None:
    """By their label, and not on the first page of all pods alone."""
    others = [{"metadata": {"name": f"a-{n}"}, "status": {}} for n in range(2 * PAGE)]
    fake.put("pods", *others, worker_pod("worker-gpu-1"))
    assert one(looked(look_at_cluster(access)), "watches its namespace").level is Level.OK


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
            "was started anew 7 times",
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
    found = one(looked(look_at_cluster(access)), "the-pod")
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
    said = [finding.summary for finding in looked(look_at_cluster(access))]
    assert "server new runs" in said
    assert not any("old" in text or "leaving" in text for text in said)


def test_a_worker_that_does_not_start_and_one_that_is_not_there(
    fake: FakeCluster, access: Access
) -> None:
    denied = {"reason": "ImagePullBackOff", "message": "denied"}
    status = pod_status("Pending", container("worker", waiting=denied))
    fake.put("pods", worker_pod("worker-gpu-1", status=status))
    found = looked(look_at_cluster(access))[-1]
    assert (found.level, "ImagePullError" in found.summary) == (Level.ERROR, True)
    fake.put("pods")
    assert "no pod of a worker" in looked(look_at_cluster(access))[-1].summary


def test_what_can_not_be_seen_is_said_and_is_no_error(fake: FakeCluster, access: Access) -> None:
    for kind in ("pods", "resourcequotas", "secrets", "nodes"):
        fake.forbid(kind)
    fake.forbid_local_reviews()
    fake.objects[
        f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/pollen-worker"
    ] = role()
    findings = everything(access)
    levels = {finding.level for finding in findings}
    assert levels == {Level.OK, Level.INFO}, findings
    assert "may not list nodes" in one(findings, "nodes have GPUs").summary
    assert "'pollen-worker' may do all" in one(findings, "'pollen-worker'").summary


def role(*without: str) -> Json:
    """The Role of the workers."""
    rules = [
        {
            "apiGroups": ["batch"],
            "resources": ["jobs"],
            "verbs": ["get", "list", "watch", "create", "delete"],
        },
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
    ]
    for rule in rules:
        rule["verbs"] = [verb for verb in rule["verbs"] if verb not in without]
    return {"metadata": {"name": "pollen-worker"}, "rules": rules}


def test_the_shipped_role_grants_what_is_looked_for() -> None:
    import yaml

    from services.doctor.rights import _grants
    from tests.support.runs import REPOSITORY

    text = (REPOSITORY / "deployments" / "kubernetes" / "base" / "rights.yaml").read_text("utf-8")
    (shipped,) = (each for each in yaml.safe_load_all(text) if each and each["kind"] == "Role")

    class Rule:
        def __init__(self, given: Json) -> None:
            self.api_groups, self.resources = given["apiGroups"], given["resources"]
            self.verbs, self.resource_names = given["verbs"], None

    rules = [Rule(given) for given in shipped["rules"]]
    assert all(_grants(rules, right) for right in FOR_WORKERS)


def test_rights_that_are_missing(fake: FakeCluster, access: Access) -> None:
    def may(attributes: Json, user: str | None) -> bool:
        if user:
            return (attributes["resource"], attributes["verb"]) != ("jobs", "create")
        return attributes["resource"] != "rolebindings" and attributes.get("subresource") != "log"

    fake.may = may
    mine, install, theirs = looked(look_at_rights(access))
    assert (mine.level, install.level, theirs.level) == (Level.ERROR, Level.WARNING, Level.ERROR)
    assert mine.summary.endswith("may not: get pods/log")
    assert install.summary.endswith("may not create rolebindings")
    assert theirs.summary == "the service account 'pollen-worker' may not: create jobs"


def test_rights_of_workers_are_read_from_their_role(fake: FakeCluster, access: Access) -> None:
    fake.forbid_local_reviews()
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/pollen-worker"
    assert "there is no Role 'pollen-worker'" in looked(look_at_rights(access))[-1].summary
    fake.objects[path] = role("watch")
    assert "may not: watch jobs, watch pods" in looked(look_at_rights(access))[-1].summary


@pytest.mark.parametrize(
    ("kind", "items", "expected", "level"),
    [
        (
            "resourcequotas",
            [quota("lab", requests_nvidia_com__gpu=("2", "2"), pods=("50", "3"))],
            "quota 'lab' has no room for another run at present: requests.nvidia.com/gpu: a pod of pool 'gpu' wants "
            "1, 2 of 2 are used",
            Level.WARNING,
        ),
        ("secrets", [], "there is no Secret 'pollen-s3'", Level.ERROR),
        (
            "secrets",
            [secret("pollen-s3", "AWS_ACCESS_KEY_ID")],
            "lacks AWS_SECRET_ACCESS_KEY",
            Level.ERROR,
        ),
        ("secrets", [secret("registry")], "'registry' is of type Opaque", Level.ERROR),
    ],
)
def test_what_runs_lack(
    fake: FakeCluster, access: Access, kind: str, items: list[Json], expected: str, level: Level
) -> None:
    if kind == "secrets":
        for path in [path for path in fake.objects if "/secrets" in path]:
            del fake.objects[path]
    fake.put(kind, *items)
    found = one(looked(look_at_resources(access, SITE)), expected)
    assert found.level is level
    assert found.resolution


def put_quota(
    fake: FakeCluster, amounts: dict[str, tuple[str, str]], spec: Json | None = None
) -> None:
    """A quota: names as Kubernetes has them, what may be used, and what is."""
    hard = {name: hard for name, (hard, _) in amounts.items()}
    used = {name: used for name, (_, used) in amounts.items()}
    fake.put(
        "resourcequotas",
        {
            "metadata": {"name": "lab"},
            "spec": spec or {},
            "status": {"hard": hard, "used": used},
        },
    )


@pytest.mark.parametrize(
    ("amounts", "level", "said"),
    [
        # Room is what is left, not whether all of it is used.
        ({"limits.memory": ("32Gi", "24Gi")}, Level.WARNING, "'gpu' wants 12Gi, 24Gi of 32Gi"),
        ({"requests.cpu": ("4", "3500m")}, Level.WARNING, "'gpu' wants 1, 3500m of 4"),
        ({"requests.ephemeral-storage": ("2Gi", "1Gi")}, Level.WARNING, "'gpu' wants 2Gi"),
        ({"count/jobs.batch": ("5", "5")}, Level.WARNING, "count/jobs.batch"),
        ({"pods": ("5", "5")}, Level.WARNING, "pods: a pod of pool"),
        # A pod that fits into no quota of this size waits for ever.
        ({"limits.cpu": ("3", "0")}, Level.ERROR, "limits.cpu: a pod of pool 'gpu' wants 4"),
        ({"requests.nvidia.com/gpu": ("0", "0")}, Level.ERROR, "'gpu' wants 1"),
        # What runs have none of.
        ({"services.loadbalancers": ("0", "0"), "pods": ("9", "1")}, Level.OK, "has room"),
        ({"persistentvolumeclaims": ("1", "1")}, Level.OK, "has room"),
        ({"requests.nvidia.com/mig-1g.10gb": ("0", "0")}, Level.OK, "has room"),
    ],
)
def test_quotas_are_compared_with_what_a_pod_wants(
    fake: FakeCluster,
    access: Access,
    amounts: dict[str, tuple[str, str]],
    level: Level,
    said: str,
) -> None:
    put_quota(fake, amounts)
    found = one(looked(look_at_resources(access, SITE)), "quota 'lab'")
    assert (found.level, said in found.summary) == (level, True), found


def test_a_quota_for_other_pods_is_left_alone(fake: FakeCluster, access: Access) -> None:
    put_quota(fake, {"pods": ("1", "1")}, {"scopes": ["Terminating"]})
    assert "no quota for pods of runs" in looked(look_at_resources(access, SITE))[0].summary


def test_a_cluster_without_gpus(fake: FakeCluster, access: Access) -> None:
    fake.put_nodes(node("a", nvidia_com__mig_1g_10gb="7"))
    found = one(looked(look_at_resources(access, SITE)), "no node offers nvidia.com/gpu")
    assert "gpu_resource" in found.resolution
    without = Site(pools={"gpu": SitePool(variables={"gpu_count": 0}), "cpu": SitePool()})
    found = one(looked(look_at_resources(access, without)), "no pool asks for GPUs")
    assert found.level is Level.INFO


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
    times = {each.kind: each.at and each.at.strftime("%H:%M") for each in there.troubles}
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
    assert [trouble.kind for trouble in there.troubles] == ([kind] if kind else [])
    assert there.pods == sum(pod["phase"] == "Pending" for pod in pods)
    asked = [query for path, query in fake.asked if path.endswith("/pods")]
    assert asked[-1]["labelSelector"] == [f"prefect.io/flow-run-id={run}"]


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("12Gi", 12 * 2**30), ("1e3", 1000), ("4", 4), ("2k", 2000)]
)
def test_amounts(text: str, number: float) -> None:
    assert float(amount(text)) == number


def test_no_amount() -> None:
    with pytest.raises(ValueError, match="12Go"):
        amount("12Go")
