"""The check itself finds each thing that it is there for."""

from copy import deepcopy
from typing import Any

import pytest

from tests.deployments.pod_security import violations

RESTRICTED: dict[str, Any] = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
    "volumes": [{"name": "scratch", "emptyDir": {}}],
}


def test_nothing_is_wrong_with_a_restricted_pod() -> None:
    assert violations(RESTRICTED) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"hostIPC": True}, "hostIPC"),
        ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"securityContext": {}}, "runAsNonRoot"),
        ({"securityContext": {}}, "seccompProfile"),
        ({"securityContext": {"runAsUser": 0}}, "root"),
        ({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}, "sysctl"),
        ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, "AppArmor"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}, "SELinux"),
        ({"initContainers": [{"name": "first"}]}, "first"),
        ({"ephemeralContainers": [{"name": "late"}]}, "late"),
    ],
)
def test_of_a_pod(change: dict[str, Any], word: str) -> None:
    assert any(word in each for each in violations({**RESTRICTED, **change}))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"privileged": True}, "privileged"),
        ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"runAsUser": 0}, "root"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
        ({"capabilities": {}}, "drop ALL"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}, "SYS_ADMIN"),
        ({"procMount": "Unmasked"}, "procMount"),
    ],
)
def test_of_a_container(change: dict[str, Any], word: str) -> None:
    pod = deepcopy(RESTRICTED)
    pod["containers"][0]["securityContext"] |= change
    assert any(word in each for each in violations(pod))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ports": [{"hostPort": 80}]}, "port"),
        ({"livenessProbe": {"httpGet": {"host": "elsewhere"}}}, "livenessProbe"),
    ],
)
def test_of_a_container_outside_its_context(change: dict[str, Any], word: str) -> None:
    pod = deepcopy(RESTRICTED)
    pod["containers"][0] |= change
    assert any(word in each for each in violations(pod))
