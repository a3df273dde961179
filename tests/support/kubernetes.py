"""A small server that answers as the Kubernetes API does: no cluster can run where the tests run.

The shapes are those of Kubernetes' API reference; what it answers is put there by each test.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.support.proxy import serving

NAMESPACE = "stenc-ns"
_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_REVIEW = "accessreviews"
#: Kinds of which there may be none.
_KINDS = {"pods", "jobs", "secrets", "events", "nodes", "resourcequotas"}

Json = dict[str, Any]


def _everybody(attributes: Json, user: str | None) -> bool:
    """Everybody may do everything."""
    return True


@dataclass
class FakeCluster:
    """What is in the cluster, and who may do what.

    Attributes:
        address: Of the API.
        objects: Lists and single objects by path.
        forbidden: Paths that are answered with 403.
        may: Says whether a user (None: ourselves) may do something.
        token: The only one that is let in.
        asked: Paths and queries that were asked for.
    """

    address: str = ""
    objects: dict[str, Any] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    may: Callable[[Json, str | None], bool] = _everybody
    token: str = "a-token"
    asked: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)

    def put(self, kind: str, *items: Json) -> None:
        """Put objects of a kind, such as ``pods``, into the namespace."""
        self.objects[f"{_CORE}/{kind}"] = list(items)
        for item in items:
            self.objects[f"{_CORE}/{kind}/{item['metadata']['name']}"] = item

    def take_away(self, kind: str, name: str) -> None:
        """Take an object of a kind out of the namespace."""
        del self.objects[f"{_CORE}/{kind}/{name}"]

    def put_nodes(self, *nodes: Json) -> None:
        """Put nodes."""
        self.objects["/api/v1/nodes"] = list(nodes)

    def forbid(self, kind: str) -> None:
        """Let nobody read a kind."""
        self.forbidden.add("/api/v1/nodes" if kind == "nodes" else f"{_CORE}/{kind}")

    def kubeconfig(
        self, folder: Path, *, mode: int = 0o600, namespace: str | None = NAMESPACE
    ) -> Path:
        """Write a kubeconfig that leads here."""
        context: Json = {"cluster": "lab", "user": "engineer"}
        if namespace:
            context["namespace"] = namespace
        file = folder / "kubeconfig"
        file.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "lab",
                    "clusters": [{"name": "lab", "cluster": {"server": self.address}}],
                    "users": [{"name": "engineer", "user": {"token": "a-token"}}],
                    "contexts": [{"name": "lab", "context": context}],
                }
            )
        )
        file.chmod(mode)
        return file

    def answer(self, path: str, query: dict[str, list[str]], body: Json | None) -> tuple[int, Json]:
        """What a request gets."""
        if path == "/version/":
            return 200, {
                "major": "1",
                "minor": "36",
                "gitVersion": "v1.36.0",
                **dict.fromkeys(
                    ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"),
                    "x",
                ),
            }
        if _REVIEW in path:
            return self._review(path, body or {})
        if any(path == each or path.startswith(f"{each}/") for each in self.forbidden):
            return _status(403, "Forbidden", f"{path} is forbidden")
        if path not in self.objects:
            if path.rpartition("/")[2] in _KINDS:
                return 200, _list([])
            return _status(404, "NotFound", f"{path} not found")
        found = self.objects[path]
        return 200, _page(found, query) if isinstance(found, list) else found

    def _review(self, path: str, body: Json) -> tuple[int, Json]:
        local = "local" in path
        if local and path in self.forbidden:
            return _status(403, "Forbidden", "localsubjectaccessreviews is forbidden")
        spec = body["spec"]
        allowed = self.may(spec["resourceAttributes"], spec.get("user"))
        return 201, {**body, "status": {"allowed": allowed}}

    def forbid_local_reviews(self) -> None:
        """Let nobody ask what others may do."""
        self.forbidden.add(
            f"/apis/authorization.k8s.io/v1/namespaces/{NAMESPACE}/localsubjectaccessreviews"
        )


def _list(items: list[Json]) -> Json:
    return {"metadata": {}, "items": items}


def _page(items: list[Json], query: dict[str, list[str]]) -> Json:
    """Those that the selectors choose, and no more than were asked for."""

    def asked(name: str) -> str:
        return query.get(name, [""])[0]

    chosen = [
        item
        for item in items
        if _labelled(item, asked("labelSelector")) and _fits(item, asked("fieldSelector"))
    ]
    begin, limit = int(asked("continue") or 0), int(asked("limit") or len(items) or 1)
    more = {"continue": str(begin + limit)} if len(chosen) > begin + limit else {}
    return {"metadata": more, "items": chosen[begin : begin + limit]}


def _labelled(item: Json, selector: str) -> bool:
    """Whether labels are as a selector of the forms ``a=b`` and ``a in (b,c)`` wants them."""
    labels = item["metadata"].get("labels") or {}
    return all(
        labels.get(name) in (values.split(",") if values else [value])
        for name, value, values in _CONDITION.findall(selector)
    )


#: Name, and value or values.
_CONDITION = re.compile(r"([^=,\s]+)(?:=([^,]*)| in \(([^)]*)\))")


def _fits(item: Json, selector: str) -> bool:
    """Whether fields are as a selector such as ``a.b=c`` wants them."""
    for condition in filter(None, selector.split(",")):
        path, _, value = condition.partition("=")
        found: Any = item
        for name in path.split("."):
            found = found.get(name) or {}
        if found != value:
            return False
    return True


def _status(code: int, reason: str, message: str) -> tuple[int, Json]:
    return code, {"kind": "Status", "status": "Failure", "reason": reason, "message": message}


@contextmanager
def fake_cluster() -> Iterator[FakeCluster]:
    """A cluster to put things into."""
    cluster = FakeCluster()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            cluster.asked.append((parts.path, parse_qs(parts.query)))
            if self.headers.get("Authorization") == f"Bearer {cluster.token}":
                code, told = cluster.answer(parts.path, parse_qs(parts.query), body)
            else:
                code, told = _status(401, "Unauthorized", "Unauthorized")
            content = json.dumps(told).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:  # noqa: ANN401
            """Say nothing."""

    with serving(Handler) as address:
        cluster.address = address
        yield cluster


def secret(name: str, *entries: str, kind: str = "Opaque") -> Json:
    """A Secret whose values nobody must ever see."""
    return {
        "metadata": {"name": name},
        "type": kind,
        "data": dict.fromkeys(entries, "aHVzaC1odXNo"),
    }


def worker_pod(name: str, *, observer: str | None = NAMESPACE, status: Json | None = None) -> Json:
    """A worker's pod."""
    env = [{"name": "PREFECT_API_URL", "value": "http://prefect-server:4200/api"}]
    if observer:
        variable = "PREFECT_INTEGRATIONS_KUBERNETES_OBSERVER_NAMESPACES"
        env.append({"name": variable, "value": observer})
    return {
        "metadata": {"name": name, "labels": {"pollen/role": "worker"}},
        "spec": {
            "containers": [
                {"name": "worker", "args": ["prefect", "worker", "start", "--pool=gpu"], "env": env}
            ]
        },
        "status": status or {"phase": "Running"},
    }


def role_pod(role: str, name: str, *, status: Json | None = None, **metadata: Any) -> Json:  # noqa: ANN401
    """A pod of a Deployment or StatefulSet of ours."""
    ready = container(role, running={}) | {"ready": True}
    return {
        "metadata": {"name": name, "labels": {"pollen/role": role}, **metadata},
        "spec": {"containers": [{"name": role}]},
        "status": status or pod_status("Running", ready),
    }


def node(name: str, **allocatable: str) -> Json:
    """A node; of names with dots and slashes ``__`` stands for ``/`` and ``_`` for a dot."""
    named = {key.replace("__", "/").replace("_", "."): each for key, each in allocatable.items()}
    return {"metadata": {"name": name}, "status": {"allocatable": named}}


def quota(name: str, **hard_and_used: tuple[str, str]) -> Json:
    """A quota: what may be used, and what is."""
    amounts = {
        key.replace("__", "/").replace("_", "."): each for key, each in hard_and_used.items()
    }
    return {
        "metadata": {"name": name},
        "status": {
            "hard": {key: hard for key, (hard, _) in amounts.items()},
            "used": {key: used for key, (_, used) in amounts.items()},
        },
    }


def container(name: str = "prefect-job", **state: Json) -> Json:
    """The status of a container, such as ``waiting={"reason": "ImagePullBackOff"}``."""
    return {
        "name": name,
        "image": "registry.example/pollen:abc",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def pod_status(phase: str, *containers: Json, **more: str) -> Json:
    """The status of a pod."""
    return {"phase": phase, "containerStatuses": list(containers), **more}


def job(name: str, reason: str | None = None, message: str = "") -> Json:
    """A Job; with a reason it failed."""
    failed = {"type": "Failed", "status": "True", "reason": reason, "message": message}
    return {"metadata": {"name": name}, "status": {"conditions": [failed] if reason else []}}
