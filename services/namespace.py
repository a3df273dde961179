"""The namespace of the cluster that this program works with."""

import os
from pathlib import Path

from kubernetes_asyncio.config import ConfigException, list_kube_config_contexts
from yaml import YAMLError

_OF_THIS_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def current_namespace(pod_file: Path = _OF_THIS_POD) -> str | None:
    """Return the namespace of this pod, or else that of the kubeconfig's current context.

    Args:
        pod_file: File in which Kubernetes puts the namespace of a pod.

    Returns:
        The namespace; None if neither names one (Kubernetes' own default would be `default`).
    """
    try:
        return pod_file.read_text(encoding="utf-8").strip() or None
    except OSError:  # not in a pod
        pass
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(each).expanduser().is_file() for each in named.split(os.pathsep) if each):
        return None  # the client library would log a warning
    try:
        _, active = list_kube_config_contexts(named)
        namespace = active["context"].get("namespace") if active else None
    # No current context, a file that can't be read, or a file that is not a kubeconfig.
    except (ConfigException, OSError, YAMLError, TypeError, KeyError, AttributeError):
        return None
    return str(namespace) if namespace else None
