"""Quotas against what pods of the pools want."""

import pytest

from services.doctor.checks.resources import check_resources
from services.doctor.cluster_access import Access
from services.doctor.finding import Level
from tests.services.doctor.running_checks import SITE, findings_of, one
from tests.support.kubernetes import (
    FakeCluster,
    Json,
)


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
        ({"limits.memory": ("32Gi", "24Gi")}, Level.WARNING, "'gpu' requests 12Gi, 24Gi of 32Gi"),
        ({"requests.cpu": ("4", "3500m")}, Level.WARNING, "'gpu' requests 1, 3500m of 4"),
        ({"requests.ephemeral-storage": ("2Gi", "1Gi")}, Level.WARNING, "'gpu' requests 2Gi"),
        ({"count/jobs.batch": ("5", "5")}, Level.WARNING, "count/jobs.batch"),
        ({"pods": ("5", "5")}, Level.WARNING, "pods: a pod of pool"),
        # A pod that fits into no quota of this size waits for ever.
        ({"limits.cpu": ("3", "0")}, Level.ERROR, "limits.cpu: a pod of pool 'gpu' requests 4"),
        ({"requests.nvidia.com/gpu": ("0", "0")}, Level.ERROR, "'gpu' requests 1"),
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
    found = one(findings_of(check_resources(access, SITE)), "quota 'lab'")
    assert (found.level, said in found.summary) == (level, True), found


def test_a_quota_for_other_pods_is_left_alone(fake: FakeCluster, access: Access) -> None:
    put_quota(fake, {"pods": ("1", "1")}, {"scopes": ["Terminating"]})
    assert "no quota for pods of runs" in findings_of(check_resources(access, SITE))[0].summary
