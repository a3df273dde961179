"""The profile "restricted" of Kubernetes' Pod Security Standards, as a list of violations.

https://kubernetes.io/docs/concepts/security/pod-security-standards/ , without the Windows rules. A
cluster enforces it on admission; here no cluster runs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
    }
)
_SELINUX_TYPES = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)


def violations(pod: Mapping[str, Any]) -> list[str]:
    """Return what the profile forbids in a pod's spec; an empty list if it allows everything."""
    return [*_of_pod(pod), *(each for one in _containers(pod) for each in _of_container(one, pod))]


def _containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod.get(kind, [])


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    for shared in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(shared):
            yield f"{shared} is set"
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f"volume {volume['name']} is of type {kind}"
    context = pod.get("securityContext", {})
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in _SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    yield from _of_context(context, "pod")


def _of_container(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    name, own = container["name"], container.get("securityContext", {})
    inherited = {**pod.get("securityContext", {}), **own}
    yield from _of_context(own, name)
    if own.get("privileged"):
        yield f"{name} is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    if inherited.get("runAsNonRoot") is not True:
        yield f"{name}: runAsNonRoot is not true"
    if inherited.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield f"{name}: seccompProfile is neither RuntimeDefault nor Localhost"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities do not drop ALL"
    for added in set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name} adds the capability {added}"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    yield from _of_ports(container)


def _of_ports(container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield f"{name} uses a port of the host"
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(kind, {})
        if any(probe.get(way, {}).get("host") for way in ("httpGet", "tcpSocket")):
            yield f"{name}: {kind} asks another host"


def _of_context(context: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield violations in the fields that the security contexts of pods and containers share."""
    if context.get("runAsUser") == 0:
        yield f"{where} runs as root"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{where} is a host process"
    if context.get("appArmorProfile", {}).get("type") == "Unconfined":
        yield f"{where}: AppArmor is off"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type", "") not in _SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{where}: SELinux is loosened"
