"""What tests of the doctor's command share."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.commands.doctor import run_doctor
from services.console import ERR, OUT
from services.doctor.cluster_access import Access
from tests.services.doctor.running_checks import access_to
from tests.support.kubernetes import (
    FakeCluster,
    fake_cluster,
    node,
    quota,
    role_pod,
    secret,
    worker_pod,
)

Doctor = Callable[..., tuple[int, list[dict[str, str]]]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Ask the doctor as the command does; exit code, and the findings of its JSON."""
    monkeypatch.setattr(OUT, "_width", 300)
    monkeypatch.setattr(ERR, "_width", 300)

    def run(
        name: str | None = None, config: Path | None = None
    ) -> tuple[int, list[dict[str, str]]]:
        code = run_doctor(name, config, as_json=True)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        reply: dict[str, Any] = json.loads(told.out)
        assert reply["exit_code"] == code
        return code, reply["findings"]

    return run


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
            secret("pollen-prefect", "auth-string", "encryption-key", "database-password"),
            secret("registry", kind="kubernetes.io/dockerconfigjson"),
        )
        yield made


@pytest.fixture
def access(fake: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    """The way to it."""
    return access_to(fake.kubeconfig(tmp_path), monkeypatch)
