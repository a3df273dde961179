"""Checks for every manifest of ours, whatever rendered it."""

import os
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from packaging.version import Version

from tests.deployments.pod_security import violations

GOLDEN = Path(__file__).parent / "golden"
OLDEST = Version("1.29")
VERSIONS = sorted(
    {
        kubernetes_validate.utils.major_minor(each)
        for each in kubernetes_validate.utils.all_versions()
        if Version(each) >= OLDEST
    },
    key=Version,
)

#: The library reads several megabytes anew for every manifest.
_read_once = cache(kubernetes_validate.utils.schema_contents)

#: With it set, the golden files are written anew instead of compared; look at `git diff` then.
WRITE = "POLLEN_WRITE_GOLDEN"


def assert_golden(path: Path, text: str) -> None:
    """Check that the text equals the golden file, byte for byte."""
    if os.environ.get(WRITE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    wanted = path.read_text(encoding="utf-8") if path.is_file() else ""
    if text != wanted:
        pytest.fail(
            f"{path.name} is not what is made now. If it should be, write it anew with {WRITE}=1 and read "
            "`git diff`"
        )


def as_yaml(*documents: Mapping[str, Any]) -> str:
    """In the order in which it was made, without anchors."""

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, _data: object) -> bool:
            return True

    return yaml.dump_all(documents, Dumper=Plain, sort_keys=False, width=120)


def assert_valid(manifest: Mapping[str, Any], version: str) -> None:
    """Kubernetes of that version knows every field of the manifest, and their values fit."""
    with mock.patch.object(kubernetes_validate.utils, "schema_contents", _read_once):
        kubernetes_validate.validate(dict(manifest), version, strict=True)


def as_kubernetes_reads(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Job without a field that Prefect's worker requires and Kubernetes drops, as it is at the wrong place."""
    read = deepcopy(dict(job))
    for unknown in ("parallelism", "completions"):
        assert read["spec"]["template"]["spec"].pop(unknown) == 1
    return read


def assert_safe(pod: Mapping[str, Any]) -> None:
    """Check restricted Pod Security, and our own rules beyond it."""
    assert violations(pod) == []
    assert pod["enableServiceLinks"] is False
    assert "automountServiceAccountToken" in pod
    assert pod["serviceAccountName"].startswith("pollen-")
    for container in pod["containers"]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        for kind in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= container["resources"][kind].keys()
        image, _, tag = container["image"].rpartition(":")
        assert image, "the image has no tag"
        assert tag != "latest"
        for mount in container["volumeMounts"]:
            assert mount["name"] in {volume["name"] for volume in pod["volumes"]} | {"data"}
    for volume in pod["volumes"]:
        if "emptyDir" in volume:
            assert volume["emptyDir"]["sizeLimit"]
