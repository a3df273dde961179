"""`pollen doctor` from end to end: a locked Prefect server, S3, the shipped deployments, a cluster's API.

No cluster can run here: a small server answers as its API does (tests/support/kubernetes.py).
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolUpdate
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    temporary_settings,
)
from rich.console import Console

from pollen.layout import promotion_key, weights_key
from services.commands.doctor import run_doctor
from services.commands.setup import run_setup
from services.console import OUT
from services.doctor import all_checks, printing
from services.doctor.checking import CHECK_SECONDS
from services.doctor.checks import deployments
from services.doctor.finding import Finding
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.embedded.ports import free_ports
from services.setup.limits import roots
from services.site import APP_DIR, Overrides, read_site
from tasks.cluster.turns import limit_name
from tests.services.doctor.conftest import Doctor
from tests.services.doctor.runs import with_client
from tests.support.kubernetes import FakeCluster, fake_cluster, node, quota, secret, worker_pod
from tests.support.prefect_servers import PreparedPrefect
from tests.support.runs import BUCKET, REPOSITORY, objects, upload
from tests.support.wire import tapped

PASSWORD = "correct-horse-battery"
ROOT = f"doctor/{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def locked_server() -> Iterator[EmbeddedPrefect]:
    """A real Prefect server that lets nobody in without the password."""
    with PreparedPrefect(auth_string=f"operator:{PASSWORD}") as server:
        yield server


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCluster]:
    """A cluster in which all is well."""
    with fake_cluster() as made:
        made.put("pods", worker_pod("worker-gpu-1"), worker_pod("worker-cpu-1"))
        made.put("resourcequotas", quota("lab", requests_nvidia_com__gpu=("4", "1")))
        made.put_nodes(node("a", nvidia_com__gpu="4"))
        made.put(
            "secrets",
            secret("pollen-s3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            secret("pollen-prefect", "auth-string"),
            secret("registry", kind="kubernetes.io/dockerconfigjson"),
        )
        yield made


@pytest.fixture(autouse=True)
def surroundings(
    locked_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    fake: FakeCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """Both servers are current, and the cluster is in the kubeconfig."""
    with locked_server.active(), s3_server.active():
        monkeypatch.setenv("KUBECONFIG", str(fake.kubeconfig(tmp_path)))
        monkeypatch.setenv("POLLEN_APP_DIR", str(REPOSITORY))
        yield


@pytest.fixture
def site(tmp_path: Path, s3_server: EmbeddedS3) -> Path:
    """A site file."""
    path = tmp_path / "site.yaml"
    path.write_text(
        f"storage: {{bucket: {BUCKET}, folder: {ROOT}, endpoint_url: {s3_server.endpoint_url}}}\n"
        "pools:\n"
        "  gpu: {variables: {image_pull_secrets: [{name: registry}]}}\n"
        "  cpu: {variables: {image_pull_secrets: [{name: registry}]}}\n"
    )
    return path


@pytest.fixture
def ready(site: Path, locked_server: EmbeddedPrefect, s3_server: EmbeddedS3) -> Path:
    """All of it set up and deployed, once for this module, with workers that give a sign of life."""
    if not objects(s3_server, ROOT):
        upload(s3_server, ROOT, {"detect_images/a.png": b"a"})
        assert run_setup(site, Overrides()) == 0
        deployed = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=REPOSITORY,
            env={
                **{name: each for name, each in os.environ.items() if name != APP_DIR},
                **locked_server.environment(),
                "POLLEN_IMAGE": "registry.example/pollen:abc123",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        # Triggers name deployments, so they are made when those are there.
        assert run_setup(site, Overrides()) == 0

    async def beat(client: PrefectClient) -> None:
        for pool in ("gpu", "cpu"):
            await client.send_worker_heartbeat(pool, f"{pool}-worker")

    asyncio.run(with_client(beat))
    return site


def those(findings: list[dict[str, str]], *levels: str) -> list[tuple[str, str]]:
    """Category and summary of findings of some levels."""
    return [(each["category"], each["summary"]) for each in findings if each["level"] in levels]


def test_all_is_well_and_nothing_was_changed(
    ready: Path, doctor: Doctor, s3_server: EmbeddedS3
) -> None:
    before = objects(s3_server, ROOT)
    code, findings = doctor(config=ready)
    assert those(findings, "error", "warning") == []
    assert code == 0
    looked_at = {category for category, _ in those(findings, "ok")}
    assert looked_at == {
        "configuration",
        "storage",
        "prefect",
        "blocks",
        "pools",
        "limits",
        "automations",
        "deployments",
        "cluster",
        "rights",
        "resources",
        "model",
    }
    assert objects(s3_server, ROOT) == before
    everything = repr(findings)
    for hidden in (PASSWORD, s3_server.secret_key, s3_server.access_key, "a-token", "aHVza"):
        assert hidden not in everything


def test_as_lines_and_as_a_table(
    ready: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OUT, "_width", 300)
    assert run_doctor(None, ready) == 0
    lines = capsys.readouterr().out
    assert "ok      prefect" in lines
    assert "Nothing is wrong" in lines
    monkeypatch.setattr(printing, "OUT", Console(force_terminal=True, width=200))
    assert run_doctor(None, ready) == 0
    table = capsys.readouterr().out
    assert "the Prefect server at" in table
    assert PASSWORD not in lines + table


def test_what_is_changed_by_hand_is_found(ready: Path, doctor: Doctor) -> None:
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("detect/nightly")
        client.update_deployment(
            nightly.id,
            DeploymentUpdate(
                tags=["pollen"], paused=True, job_variables={"image": "pollen:latest"}
            ),
        )
        gpu = client.read_work_pool("gpu")
        client.delete_global_concurrency_limit_by_name(limit_name(roots(read_site(ready))[0]))
        client.update_work_pool("gpu", WorkPoolUpdate(is_paused=True))
        try:
            code, findings = doctor(config=ready)
        finally:
            client.update_work_pool("gpu", WorkPoolUpdate(is_paused=False))
            client.update_deployment(
                nightly.id,
                DeploymentUpdate(
                    tags=nightly.tags, paused=False, job_variables=nightly.job_variables
                ),
            )
            run_setup(ready, Overrides())
    assert code == 2, findings
    errors = those(findings, "error")
    assert ("pools", "work pool 'gpu' is paused: its runs wait") in errors
    assert any(category == "limits" and "missing" in text for category, text in errors)
    warnings = [text for _, text in those(findings, "warning")]
    assert "deployment 'detect/nightly' differs from prefect.yaml" in warnings
    assert "deployment 'detect/nightly' is paused: its schedule starts nothing" in warnings
    assert any("no fixed tag" in text for text in warnings)
    assert gpu.type == "kubernetes"


def test_a_pool_without_gpus_wants_all_that_counts_or_trains_on_the_cpu(ready: Path) -> None:
    """Deployed again without POLLEN_DEVICE, which takes the device from the settings."""

    def told(without: str) -> set[str]:
        ready.write_text(ready.read_text().replace("gpu: {variables: {", without))
        found = deployments.check_deployments(read_site(ready))
        wrong = [each.summary for each in found if each.level == "error"]
        assert all("pool 'gpu' has no GPUs" in each for each in wrong), wrong
        return {each.split("'")[1] for each in wrong}

    assert told("gpu: {variables: {") == set()
    wanted = {"detect/on-demand", "detect/nightly", "detect/on-upload", "detect/sweep"}
    assert told("gpu: {variables: {gpu_count: 0, ") == wanted | {"train/on-demand"}
    with get_client(sync_client=True) as client:
        nightly = client.read_deployment_by_name("detect/nightly")
        right = {"settings": {**nightly.parameters.get("settings", {}), "device": "cpu"}}
        client.update_deployment(nightly.id, DeploymentUpdate(parameters=right))
        try:
            assert "detect/nightly" not in told("gpu: {variables: {")
        finally:
            client.update_deployment(nightly.id, DeploymentUpdate(parameters=nightly.parameters))


def test_a_folder_that_was_filled_in_by_whoever_deployed_is_told() -> None:
    def said(folder: str) -> list[str]:
        step = {"prefect.deployments.steps.set_working_directory": {"directory": folder}}
        return [finding.summary for finding in deployments._code("detect/nightly", [step])]

    assert said("{{ $POLLEN_APP_DIR }}") == said("/opt/app") == []
    assert said("/home/me/pollen") == [
        "runs of 'detect/nightly' look for their code in /home/me/pollen, which is not in the image"
    ]


def test_a_model_that_was_altered_and_promotions_that_are_damaged(
    ready: Path, doctor: Doctor, s3_server: EmbeddedS3
) -> None:
    client = s3_server.client()
    first = client.get_object(Bucket=BUCKET, Key=f"{ROOT}/{promotion_key(1)}")["Body"].read()
    client.put_object(Bucket=BUCKET, Key=f"{ROOT}/{promotion_key(2)}", Body=b"{")
    code, findings = doctor(config=ready)
    assert code == 2, findings
    assert any("000002.json, can't be read" in text for _, text in those(findings, "error"))

    client.put_object(Bucket=BUCKET, Key=f"{ROOT}/{promotion_key(3)}", Body=first)
    code, findings = doctor(config=ready)
    assert code == 1
    assert those(findings, "warning")[0][0] == "model"

    (weights,) = [key for key in objects(s3_server, ROOT) if key.endswith("weights/best.pt")]
    version = weights.split("/")[1]
    assert weights == weights_key(version)
    kept = client.get_object(Bucket=BUCKET, Key=f"{ROOT}/{weights}")["Body"].read()
    client.put_object(Bucket=BUCKET, Key=f"{ROOT}/{weights}", Body=b"altered")
    try:
        code, findings = doctor(config=ready)
    finally:
        client.put_object(Bucket=BUCKET, Key=f"{ROOT}/{weights}", Body=kept)
        for number in (2, 3):
            client.delete_object(Bucket=BUCKET, Key=f"{ROOT}/{promotion_key(number)}")
    assert code == 2, findings
    assert [category for category, _ in those(findings, "error")] == ["model"]


def test_nothing_is_set_up(doctor: Doctor, site: Path) -> None:
    """A server that was only just installed: everything is named, with the way out, and no trace."""
    site.write_text(site.read_text().replace("storage: {", "storage: {block: fresh, "))
    code, findings = doctor(config=site)
    assert code == 2, findings
    errors = dict(those(findings, "error"))
    assert "block 'fresh' is missing" in errors["blocks"]
    assert "no S3Bucket block named 'fresh'" in errors["storage"]
    assert ("model", "not checked: storage can't be used") in those(findings, "info")


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        (PREFECT_API_AUTH_STRING, "operator:wrong", "does not let us in (HTTP 401)"),
        (PREFECT_API_URL, "closed", "can't be reached"),
        (PREFECT_API_URL, "short", "does PREFECT_API_URL end with /api?"),
    ],
)
def test_a_server_that_can_not_be_used(
    doctor: Doctor,
    ready: Path,
    locked_server: EmbeddedPrefect,
    setting: Any,  # noqa: ANN401  (a setting)
    value: str,
    expected: str,
) -> None:
    """The storage is looked at all the same, with the keys of the environment."""
    value = {
        "closed": f"http://operator:{PASSWORD}@127.0.0.1:{free_ports(1)[0]}/api",
        "short": locked_server.api_url.removesuffix("/api"),
    }.get(value, value)
    with temporary_settings({setting: value}):
        code, findings = doctor(config=ready)
    assert code == 2, findings
    (error,) = those(findings, "error")
    assert (error[0], expected in error[1]) == ("prefect", True), error
    assert ("blocks", "not checked: the Prefect server can't be used") in those(findings, "info")
    assert any(category == "storage" for category, _ in those(findings, "ok"))
    assert any(category == "model" for category, _ in those(findings, "ok"))
    assert PASSWORD not in repr(findings)


def test_dead_ends_take_a_bounded_time(
    doctor: Doctor, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that take a connection and never say a word, for all three at once."""
    import socket

    with socket.create_server(("127.0.0.1", 0), backlog=50) as deaf:
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        dead = FakeCluster(address=address)
        monkeypatch.setenv("KUBECONFIG", str(dead.kubeconfig(tmp_path)))
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        site.write_text(
            f"storage: {{bucket: {BUCKET}, folder: {ROOT}, endpoint_url: '{address}'}}\n"
        )
        began = time.monotonic()
        with temporary_settings({PREFECT_API_URL: f"{address}/api"}):
            code, findings = doctor(config=site)
    assert time.monotonic() - began < 45  # about 17 s, and more where other tests are at work
    assert code == 2, findings
    assert {category for category, _ in those(findings, "error")} == {
        "storage",
        "prefect",
        "cluster",
    }


def test_runs_that_are_processes_need_no_cluster(
    doctor: Doctor, fake: FakeCluster, tmp_path: Path
) -> None:
    """A kubeconfig may lie about for other work: it is none of this site's business."""
    path = tmp_path / "site.yaml"
    path.write_text("pools: {gpu: {type: process}, cpu: {type: process}}\n")
    fake.asked.clear()
    with temporary_settings({PREFECT_API_URL: None}):
        _, findings = doctor(config=path)
    why = "nothing to check: runs are processes, no pool of the site file is on a cluster"
    for category in ("cluster", "rights", "resources"):
        assert [each["summary"] for each in findings if each["category"] == category] == [why]
    assert fake.asked == []


@pytest.mark.parametrize(
    ("text", "code", "wants_a_look", "said"),
    [
        (
            "pools: {gpu: {type: process}, cpu: {type: process}}",
            0,
            set(),
            "Nothing is wrong in what was checked (",
        ),
        ("pools: {gpu: {}, cpu: {}}", 1, {"prefect", "cluster"}, "Something needs attention ("),
        (
            "storage: {bucket: lab, endpoint_url: 'https://s3.example.org'}\n"
            "pools: {gpu: {type: process}, cpu: {type: process}}",
            1,
            {"prefect", "storage"},
            "Something needs attention (",
        ),
    ],
)
def test_what_was_not_looked_at_is_not_called_well(
    doctor: Doctor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    code: int,
    wants_a_look: set[str],
    said: str,
) -> None:
    """In a terminal in which neither server, storage nor cluster is named."""
    path = tmp_path / "site.yaml"
    path.write_text(text)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with temporary_settings({PREFECT_API_URL: None}):
        found, findings = doctor(config=path)
        told = printing.conclusion(all_checks.check_all(path))
    assert found == code
    assert {category for category, _ in those(findings, "warning")} == wants_a_look
    assert told.startswith(said)
    assert ". Not checked: storage, prefect, blocks, " in told


def test_large_weights_on_a_slow_way_are_no_error(
    ready: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_: object) -> list[Finding]:
        time.sleep(2)
        return []

    assert all_checks.MODEL_SECONDS > 2 * CHECK_SECONDS
    monkeypatch.setattr(all_checks, "MODEL_SECONDS", 0.1)
    monkeypatch.setattr(all_checks, "check_model", slow)
    code, findings = doctor(config=ready)
    assert code == 0
    told = [text for category, text in those(findings, "info") if category == "model"]
    assert len(told) == 1
    assert "was not checked completely" in told[0]


def test_an_unexpected_error_is_a_finding(
    ready: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("somebody made a mistake")

    monkeypatch.setattr(all_checks, "check_workers", broken)
    code, findings = doctor(config=ready)
    assert code == 1
    ((category, text),) = those(findings, "warning")
    assert category == "pools"
    assert "unexpected error (ZeroDivisionError: somebody made a mistake)" in text


def test_a_site_file_that_can_not_be_used(
    doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("storage: {secret_key: hush}\n")
    code, findings = doctor(config=path)
    assert code == 2, findings
    ((category, text),) = those(findings, "error")
    assert category == "configuration"
    assert "'storage.secret_key' is not a setting" in text
    assert "hush" not in repr(findings)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AWS_SECRET_ACCESS_KEY", "", "one of the two S3 keys is missing"),
        ("AWS_ACCESS_KEY_ID", "AKID\n", "line break"),
        ("AWS_CA_BUNDLE", "/no/such.pem", "which does not exist"),
        ("AWS_ENDPOINT_URL", "s3.example.org", "is not an address"),
    ],
)
def test_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    from services.doctor.checks.configuration import check_environment

    monkeypatch.setenv(name, value)
    found = [each.summary for each in check_environment() if each.level == "error"]
    assert len(found) == 1
    assert expected in found[0]


def test_storage_that_refuses_is_told_once(
    ready: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    tapped(monkeypatch).fail("ListObjectsV2", 403)
    code, findings = doctor(config=ready)
    assert code == 2, findings
    ((category, text),) = those(findings, "error")
    assert category == "storage"
    assert "AccessDenied" in text
