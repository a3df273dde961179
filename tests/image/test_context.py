"""What a build is given, by Docker's own reading of .dockerignore."""

import shutil
import subprocess
from pathlib import Path

from tests.support.dockerfile import context
from tests.support.runs import REPOSITORY


def test_nothing_that_git_ignores_and_no_test_enters_the_image() -> None:
    files = context()

    assert {"pollen/bundled/best.pt", "flows/detect.py", "deployments/site.yaml"} <= files
    assert not files & _git("ls-files", "--others", "--ignored", "--exclude-standard")
    tops = {path.split("/")[0] for path in files}
    assert not tops & {".git", ".venv", ".ci", "tests", "docs", "benchmarks", "runs", "tools"}


def test_only_the_bundled_model_s_weights_enter_the_image() -> None:
    weights = {
        path for path in context() if path.endswith((".pt", ".pth", ".onnx", ".bin", ".xml"))
    }

    assert weights == {"pollen/bundled/best.pt"}


def test_leftovers_and_keys_stay_out_wherever_they_lie(tmp_path: Path) -> None:
    wanted = {
        "LICENSE",
        "prefect.yaml",
        "requirements.lock",
        "pollen/bundled/best.pt",
        "pollen/reports/templates/report.html.j2",
        "deployments/kubernetes/base/kustomization.yaml",
    }
    unwanted = {
        ".git/config",
        ".env",
        "notes.txt",
        "id_rsa",
        "runs/best.pt",
        "tests/conftest.py",
        "pollen/__pycache__/grains.cpython-311.pyc",
        "pollen/bundled/best_openvino_model/best.bin",
        "flows/.mypy_cache/cache.json",
        "services/old.pyc",
        "deployments/.env",
        "deployments/overlays/.env.production",
        "deployments/overlays/ca.pem",
        "deployments/overlays/server.key",
        "deployments/overlays/ca.crt",
        "deployments/prefect-2026-11-23.dump",
        "deployments/kubeconfig.yaml",
        "pollen_viability_flows.egg-info/PKG-INFO",
    }
    for name in wanted | unwanted:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    shutil.copy(REPOSITORY / ".dockerignore", tmp_path)

    assert context(tmp_path) - {".dockerignore"} == wanted


def _git(*arguments: str) -> set[str]:
    told = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return set(told.stdout.splitlines())
