"""Access to a cluster: by a pod's own service account, or by a kubeconfig."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from kubernetes_asyncio import config
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.client.exceptions import ApiException
from yaml import YAMLError

from pollen.errors import PollenError
from services.namespace import current_namespace

#: Seconds that a request to the cluster may take.
REQUEST_SECONDS: Final = 10.0
#: Largest number of pods or events that are read.
PAGE: Final = 200

_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Access:
    """Access to a cluster.

    Attributes:
        files: Kubeconfig files; empty in a pod with a service account's token.
        context: Current context of the kubeconfig.
        server: Address of the cluster.
        namespace: Namespace that is checked.
        named: Whether the namespace was named anywhere; else it is Kubernetes' default.
    """

    files: tuple[Path, ...]
    context: str
    server: str
    namespace: str
    named: bool = True

    @property
    def source(self) -> str:
        """The source of the credentials, in the form that the client library takes."""
        return os.pathsep.join(map(str, self.files)) or self.context


def find_access(namespace: str | None = None) -> Access | None:
    """Find the access to a cluster from here; return None if there is none.

    Args:
        namespace: Namespace to check; None for that of this pod or of the kubeconfig's context.

    Raises:
        PollenError: If there is a kubeconfig that can't be used.
    """
    chosen = namespace or current_namespace()
    checked = chosen or "default"
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if host and _TOKEN.is_file():
        return Access((), "this pod's service account", f"https://{host}", checked)
    named = os.environ.get("KUBECONFIG")
    places = [Path(each).expanduser() for each in (named or "~/.kube/config").split(os.pathsep)]
    files = tuple(each for each in places if each.is_file())
    if files:
        return Access(files, *_current(files), checked, named=chosen is not None)
    if named:
        raise PollenError(f"KUBECONFIG names {named}, which is not a file: correct it, or unset it")
    return None


def _current(files: tuple[Path, ...]) -> tuple[str, str]:
    """Return the name of the current context, and the address of its cluster."""
    source = os.pathsep.join(map(str, files))
    try:
        active: Any = config.list_kube_config_contexts(source)[1]
        clusters: dict[str, Any] = {}
        for file in reversed(files):  # if a name occurs twice, the first file counts
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            clusters |= {each["name"]: each["cluster"] for each in content.get("clusters") or ()}
        return str(active["name"]), str(clusters[active["context"]["cluster"]]["server"])
    except _UNUSABLE as error:
        raise PollenError(
            f"the kubeconfig {source} can't be used ({error}): download it again, and choose a context with kubectl "
            "config use-context NAME"
        ) from error


_UNUSABLE: Final = (
    config.ConfigException,
    OSError,
    YAMLError,
    TypeError,
    KeyError,
    AttributeError,
    UnicodeDecodeError,
)


@asynccontextmanager
async def cluster(access: Access) -> AsyncIterator[ApiClient]:
    """Open a client of the cluster; turn its failures into one clear error.

    Raises:
        PollenError: If the cluster can't be reached, or refuses access.
    """
    try:
        async with await _client(access) as client:
            yield client
    except ApiException as error:
        if error.status == 401:
            raise PollenError(
                f"the cluster at {access.server} refuses the login (401): the token in {access.source} has "
                "expired or was revoked. Download the kubeconfig again (Rancher: the cluster's page, Download "
                "KubeConfig) and chmod 600 it"
            ) from error
        raise PollenError(
            f"the cluster at {access.server} answered {error.status} {error.reason}"
        ) from error
    except config.ConfigException as error:
        raise PollenError(
            f"{access.source} can't be used: {error}. Download the kubeconfig again"
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise PollenError(
            f"the cluster at {access.server} can't be reached ({str(error) or type(error).__name__}): check the "
            "network (is a VPN needed?) and the address in the kubeconfig"
        ) from error


async def _client(access: Access) -> ApiClient:
    if access.files:
        return await config.new_client_from_config(access.source, persist_config=False)
    settings = Configuration()
    config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    return ApiClient(configuration=settings)
