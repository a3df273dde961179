"""Which namespace of a cluster this program works with."""

import os
from pathlib import Path

from kubernetes_asyncio.config import ConfigException, list_kube_config_contexts
from yaml import YAMLError

_OF_THIS_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def current_namespace(pod_file: Path = _OF_THIS_POD) -> str | None:
    """The namespace of this pod, else that of the kubeconfig's current context.

    Args:
        pod_file: Where Kubernetes writes a pod's namespace.

    Returns:
        None where neither says one; Kubernetes' own default would be ``default``.
    """
    try:
        return pod_file.read_text(encoding="utf-8").strip() or None
    except OSError:  # not in a pod
        pass
    named = os.environ.get("KUBECONFIG") or "~/.kube/config"
    if not any(Path(each).expanduser().is_file() for each in named.split(os.pathsep) if each):
        return None  # the client library would warn of it
    try:
        _, active = list_kube_config_contexts(named)
        namespace = active["context"].get("namespace") if active else None
    # A file without a current context, one that can't be read, and one that is no kubeconfig.
    except (ConfigException, OSError, YAMLError, TypeError, KeyError, AttributeError):
        return None
    return str(namespace) if namespace else None
