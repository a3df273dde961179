"""The doctor's look at a cluster. No cluster can run here: a small server answers as its API does.

The shapes of what it answers are those of Kubernetes' API reference (tests/support/kubernetes.py).
"""

from pathlib import Path

import pytest

from pollen.errors import PollenError
from services.doctor.checks.cluster import check_access, check_cluster
from services.doctor.checks.quantity import amount
from services.doctor.checks.resources import check_resources
from services.doctor.checks.rights import FOR_WORKERS, check_rights
from services.doctor.cluster_access import Access, find_access
from services.doctor.finding import Finding, Level
from services.embedded.ports import free_ports
from services.site import Site, SitePool
from tests.services.doctor.running_checks import SITE, access_to, findings_of, one
from tests.support.kubernetes import (
    NAMESPACE,
    FakeCluster,
    Json,
    node,
    quota,
    secret,
    worker_pod,
)


def everything(access: Access) -> list[Finding]:
    return [
        *check_access(access),
        *findings_of(check_cluster(access)),
        *findings_of(check_rights(access)),
        *findings_of(check_resources(access, SITE)),
    ]


def test_all_is_well_and_no_secret_is_shown(access: Access) -> None:
    findings = everything(access)
    assert {finding.level for finding in findings} == {Level.OK}, findings
    said = "\n".join(finding.summary for finding in findings)
    for part in (
        "context 'lab'",
        "only you can read the kubeconfig (mode 600)",
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
        "Secret 'pollen-s3' exists",
        "Secret 'registry' exists",
    ):
        assert part in said
    assert "aHVzaC1odXNo" not in repr(findings)
    assert "a-token" not in repr(findings)


def test_a_kubeconfig_that_others_can_read(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fake.kubeconfig(tmp_path, mode=0o644)
    found = one(list(check_access(access_to(file, monkeypatch))), "mode 644")
    assert found.level is Level.WARNING
    assert found.resolution == f"chmod 600 {file}"


def test_a_context_without_a_namespace(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = access_to(fake.kubeconfig(tmp_path, namespace=None), monkeypatch)
    assert access.namespace == "default"
    assert one(list(check_access(access)), "no namespace").level is Level.WARNING


def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert find_access() is None
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(PollenError, match="which is not a file"):
        find_access()
    (tmp_path / "none").write_text("clusters: [")
    with pytest.raises(PollenError, match=r"kubeconfig .* can't be used"):
        find_access()


def test_a_token_that_ran_out(fake: FakeCluster, access: Access) -> None:
    fake.token = "another"
    (found,) = findings_of(check_cluster(access))
    assert found.level is Level.ERROR
    assert "401" in found.summary
    assert "Download the kubeconfig again" in found.summary


def test_a_cluster_that_does_not_answer(
    fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.address = f"http://127.0.0.1:{free_ports(1)[0]}"
    (found,) = findings_of(check_cluster(access_to(fake.kubeconfig(tmp_path), monkeypatch)))
    assert "can't be reached" in found.summary
    assert "VPN" in found.summary


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

    from services.doctor.checks.rights import _grants
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
        refused = attributes["resource"] == "rolebindings"
        return not refused and attributes.get("subresource") not in {"log", "exec"}

    fake.may = may
    mine, install, theirs = findings_of(check_rights(access))
    assert (mine.level, install.level, theirs.level) == (Level.ERROR, Level.WARNING, Level.ERROR)
    assert mine.summary.endswith("may not: get pods/log")
    assert install.summary.endswith(
        "it may not create pods/exec, get rolebindings, create rolebindings, patch rolebindings"
    )
    assert theirs.summary == "the service account 'pollen-worker' may not: create jobs"


def test_rights_of_workers_are_read_from_their_role(fake: FakeCluster, access: Access) -> None:
    fake.forbid_local_reviews()
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/pollen-worker"
    assert "there is no Role 'pollen-worker'" in findings_of(check_rights(access))[-1].summary
    fake.objects[path] = role("watch")
    assert "may not: watch jobs, watch pods" in findings_of(check_rights(access))[-1].summary


@pytest.mark.parametrize(
    ("kind", "items", "expected", "level"),
    [
        (
            "resourcequotas",
            [quota("lab", requests_nvidia_com__gpu=("2", "2"), pods=("50", "3"))],
            "quota 'lab' has no room for another run at present: requests.nvidia.com/gpu: a pod of pool 'gpu' requests "
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
    found = one(findings_of(check_resources(access, SITE)), expected)
    assert found.level is level
    assert found.resolution


def test_runs_want_what_their_pools_name_and_nothing_else(
    fake: FakeCluster, access: Access
) -> None:
    """Keys in a Secret of another name, settings in a ConfigMap, and one that may be missing."""
    named = [
        {"secretRef": {"name": "lab-keys"}},
        {"configMapRef": {"name": "proxy"}},
        {"secretRef": {"name": "extra", "optional": True}},
    ]
    pools = {name: SitePool(variables={"env_from": named}) for name in ("gpu", "cpu")}
    fake.take_away("secrets", "pollen-s3")
    fake.put("secrets", secret("lab-keys", "KEY"))
    found = findings_of(check_resources(access, Site(pools=pools)))
    (missing,) = (each for each in found if each.level is Level.ERROR)
    assert missing.summary.startswith(f"there is no ConfigMap 'proxy' in '{NAMESPACE}'")
    assert "env_from" in missing.resolution
    assert one(found, "Secret 'lab-keys' exists").level is Level.OK
    fake.put("configmaps", {"metadata": {"name": "proxy"}, "data": {"HTTPS_PROXY": "x"}})
    assert (
        one(
            findings_of(check_resources(access, Site(pools=pools))), "ConfigMap 'proxy' exists"
        ).level
        is Level.OK
    )


def test_the_servers_own_entries_are_wanted_where_it_is(fake: FakeCluster, access: Access) -> None:
    fake.put("secrets", secret("pollen-prefect", "auth-string"))
    wanted = "Secret 'pollen-prefect' lacks database-password, encryption-key"
    assert one(findings_of(check_resources(access, SITE)), wanted).level is Level.ERROR
    fake.put("pods", worker_pod("worker-gpu-1"))
    assert (
        one(findings_of(check_resources(access, SITE)), "Secret 'pollen-prefect' exists").level
        is Level.OK
    )


def test_a_cluster_without_gpus(fake: FakeCluster, access: Access) -> None:
    fake.put_nodes(node("a", nvidia_com__mig_1g_10gb="7"))
    found = one(findings_of(check_resources(access, SITE)), "no node offers nvidia.com/gpu")
    assert "gpu_resource" in found.resolution
    without = Site(pools={"gpu": SitePool(variables={"gpu_count": 0}), "cpu": SitePool()})
    found = one(findings_of(check_resources(access, without)), "no pool requests GPUs")
    assert found.level is Level.INFO


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("12Gi", 12 * 2**30), ("1e3", 1000), ("4", 4), ("2k", 2000)]
)
def test_amounts(text: str, number: float) -> None:
    assert float(amount(text)) == number


def test_no_amount() -> None:
    with pytest.raises(ValueError, match="12Go"):
        amount("12Go")
