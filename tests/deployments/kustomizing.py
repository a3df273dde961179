"""The manifests as `kubectl apply -k` would send them."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deployments" / "kubernetes"

#: What a site of its own says, fixed here: engineers edit the overlay in the repository, and may.
EXAMPLE = "overlays/example"
_EXAMPLE = """apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: stenc-ns
resources:
  - ../../base
components:
  - ../../components/events
images:
  - name: pollen-viability-flows
    newName: registry.example.org/pollen/pollen-viability-flows
    newTag: "0123456789ab"
"""

#: What newer ones call by other names, or do not tell apart: a component of resources alone is a base.
_OLD_WORDS = {
    "resources:\n  - ../../base": "bases:\n  - ../../base",
    "\ncomponents:\n": "\n",
    "kustomize.config.k8s.io/v1alpha1\nkind: Component": "kustomize.config.k8s.io/v1beta1\nkind: Kustomization",
    "patches:": "patchesStrategicMerge:",
}


def kubectl() -> str:
    """The program; the test is skipped on a machine without it."""
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl, which puts the manifests together, is not on this machine")
    return found


@cache
def built(folder: str, *, all_patches: bool = False, more: str = "") -> tuple[dict[str, Any], ...]:
    """The manifests of a kustomization below `deployments/kubernetes`.

    Args:
        folder: The kustomization; `EXAMPLE` is there besides those in the repository.
        all_patches: Also take in the patches and components that are commented out for sites to choose from.
        more: Further content of `EXAMPLE`, such as patches with targets (for no kubectl before 1.21).
    """
    with TemporaryDirectory() as scratch:
        copy = Path(scratch, "kubernetes")
        shutil.copytree(KUBERNETES, copy)
        (copy / EXAMPLE).mkdir(parents=True)
        (copy / EXAMPLE / "kustomization.yaml").write_text(_EXAMPLE + more, encoding="utf-8")
        file = copy / folder / "kustomization.yaml"
        if all_patches:
            text = file.read_text(encoding="utf-8").replace("# - path:", "- path:")
            text = text.replace("# components:\n#   - ", "components:\n  - ")
            file.write_text(text, encoding="utf-8")
        if _before_1_21():  # what Debian 12 has
            if more:
                pytest.skip("this kubectl knows no patches with targets")
            for each in (file, *copy.glob("components/*/kustomization.yaml")):
                _say_in_old_words(each)
        done = subprocess.run(
            [kubectl(), "kustomize", str(file.parent)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def _say_in_old_words(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    for new, old in _OLD_WORDS.items():
        text = text.replace(new, old)
    file.write_text(text.replace("- path: ", "- "), encoding="utf-8")


@cache
def _before_1_21() -> bool:
    done = subprocess.run(
        [kubectl(), "version", "--client"], capture_output=True, text=True, check=True
    )
    version = re.search(r"v1\.(\d+)", done.stdout)
    return version is not None and int(version[1]) < 21
