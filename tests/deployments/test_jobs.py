"""Jobs of all deployments: they equal the golden files, and a restricted namespace accepts them.

They are made by the worker's own code; Kubernetes itself is replaced where the Job would be sent.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from tests.deployments.checking import (
    GOLDEN,
    VERSIONS,
    as_kubernetes_reads,
    as_yaml,
    assert_golden,
    assert_safe,
    assert_valid,
)
from tests.deployments.rendering import AUTH_STRING, IMAGE, ROOT, render

DEPLOYMENTS = (
    "detect/on-demand",
    "detect/nightly",
    "detect/on-upload",
    "detect/sweep",
    "detect-shard/gpu",
    "train/on-demand",
    "promote/on-demand",
    "dataset-check/on-upload",
)

#: What a site or a single run may want otherwise: deployment, variables of the run, of the pool.
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "slice-of-a-gpu": ("detect-shard/gpu", {}, {"gpu_resource": "nvidia.com/mig-1g.10gb"}),
    "two-gpus-on-chosen-nodes": (
        "train/on-demand",
        {
            "gpu_count": 2,
            "memory_limit": "48Gi",
            "memory_request": "48Gi",
            "shm_size": "16Gi",
            "node_selector": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
            "tolerations": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}],
            "runtime_class_name": "nvidia",
            "active_deadline_seconds": 604800,
        },
        {},
    ),
    "no-gpu": ("detect-shard/gpu", {"gpu_count": 0, "tolerations": []}, {}),
    "private-registry-and-environment": (
        "detect/on-demand",
        {"env": {"PREFECT_LOGGING_LEVEL": "DEBUG"}},
        {
            "image_pull_secrets": [{"name": "registry"}],
            "env": {"AWS_CA_BUNDLE": "/etc/pollen/ca/ca.crt"},
            "env_from": [{"secretRef": {"name": "pollen-s3"}}, {"secretRef": {"name": "proxy"}}],
            "labels": {"team": "pollen"},
            "annotations": {"note": "nightly"},
        },
    ),
}


@cache
def job(name: str) -> Mapping[str, Any]:
    """The Job of a deployment or variant."""
    if name in VARIANTS:
        deployment, run, site = VARIANTS[name]
        return render(deployment, run=run, site=site)
    return render(name)


def pod(name: str) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = job(name)["spec"]["template"]["spec"]
    return spec


def container(name: str) -> Mapping[str, Any]:
    (only,) = pod(name)["containers"]
    found: Mapping[str, Any] = only
    return found


def environment(name: str) -> dict[str, Any]:
    entries = container(name)["env"]
    assert len({entry["name"] for entry in entries}) == len(entries)
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in entries}


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_is_as_the_golden_file(name: str) -> None:
    assert_golden(GOLDEN / "jobs" / f"{name.replace('/', '-')}.yaml", as_yaml(job(name)))


def test_each_golden_file_is_compared() -> None:
    names = {name.replace("/", "-") for name in (*DEPLOYMENTS, *VARIANTS)}
    assert {path.stem for path in (GOLDEN / "jobs").iterdir()} == names


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    assert_valid(as_kubernetes_reads(job(name)), version)


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_fits_a_restricted_namespace(name: str) -> None:
    assert_safe(pod(name))
    assert pod(name)["serviceAccountName"] == "pollen-job"
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["securityContext"]["runAsUser"] == 1000


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_ends_at_some_time_and_is_kept_long_enough(name: str) -> None:
    spec = job(name)["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["ttlSecondsAfterFinished"] >= 86400
    assert pod(name)["restartPolicy"] == "Never"
    # An evicted run ends Crashed; else Prefect starts it anew for ever.
    assert environment(name)["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"] == "crash"


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_holds_no_password(name: str) -> None:
    assert AUTH_STRING not in json.dumps(job(name))
    assert environment(name)["PREFECT_API_AUTH_STRING"] == {
        "secretKeyRef": {"name": "pollen-prefect", "key": "auth-string"}
    }
    assert {"secretRef": {"name": "pollen-s3"}} in container(name)["envFrom"]


@pytest.mark.parametrize("name", [*DEPLOYMENTS, *VARIANTS])
def test_writes_only_where_it_may(name: str) -> None:
    writable = {
        mount["mountPath"] for mount in container(name)["volumeMounts"] if not mount.get("readOnly")
    }
    assert writable <= {"/scratch", "/tmp", "/dev/shm"}
    # The worker hands on its own settings; where it keeps them is not where a run may write.
    assert environment(name)["PREFECT_HOME"].startswith("/scratch/")


def test_runs_the_image_of_the_deployment() -> None:
    assert {container(name)["image"] for name in DEPLOYMENTS} == {IMAGE}


def test_only_pool_gpu_asks_for_gpus() -> None:
    asked = {
        name: container(name)["resources"]["limits"].get("nvidia.com/gpu") for name in DEPLOYMENTS
    }
    assert asked == dict.fromkeys(DEPLOYMENTS) | {"detect-shard/gpu": 1, "train/on-demand": 1}


def test_slices_of_a_gpu_are_counted_under_their_own_name() -> None:
    limits = container("slice-of-a-gpu")["resources"]["limits"]
    assert limits["nvidia.com/mig-1g.10gb"] == 1
    assert "nvidia.com/gpu" not in limits


def test_a_run_may_want_more_than_the_pool_gives() -> None:
    name = "two-gpus-on-chosen-nodes"
    limits = container(name)["resources"]["limits"]
    assert (limits["nvidia.com/gpu"], limits["memory"]) == (2, "48Gi")
    assert pod(name)["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    assert pod(name)["tolerations"] == [
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
    ]
    assert pod(name)["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in pod("train/on-demand")


def test_more_environment_adds_and_takes_nothing_away() -> None:
    added = environment("private-registry-and-environment")
    assert added.items() >= environment("detect/on-demand").items()
    assert added["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert added["AWS_CA_BUNDLE"] == "/etc/pollen/ca/ca.crt"
    assert pod("private-registry-and-environment")["imagePullSecrets"] == [{"name": "registry"}]


def test_the_templates_differ_only_where_gpus_matter() -> None:
    templates = {
        pool: json.loads((ROOT / f"deployments/work-pools/{pool}.json").read_text())
        for pool in ("gpu", "cpu")
    }
    gpu, cpu = (templates[pool]["variables"]["properties"] for pool in ("gpu", "cpu"))
    assert gpu.keys() - cpu.keys() == {
        "gpu_count",
        "gpu_resource",
        "shm_size",
        "runtime_class_name",
    }
    assert cpu.keys() <= gpu.keys()
    same = cpu.keys() - {
        *("cpu_request", "cpu_limit", "memory_request", "memory_limit", "scratch_size"),
        *("ephemeral_storage_request", "ephemeral_storage_limit", "active_deadline_seconds"),
        *("node_selector", "tolerations"),
    }
    assert {name: gpu[name] for name in same} == {name: cpu[name] for name in same}
