"""A detection as a cluster runs it, by hand: what the image holds is started as pods start it.

No Kubernetes runs here, so this stands for its worker: it starts `prefect flow-run execute` for
each scheduled run, with the variables that the job templates and Secrets give to pods.
"""

import base64
import csv
import io
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO
from uuid import UUID, uuid4

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Pending

from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.embedded.server import direct_connection
from tests.support.installed import Installed
from tests.support.pictures import picture
from tests.support.runs import BUCKET, COUNTS, upload

PICTURES = 2
SHARD = "detect-shard"
_PATIENCE_S = 600.0
_PAGE = 200
#: Everything that the server tells of runs and what is set up, by POST.
_RECORDS = (
    "deployments",
    "flow_runs",
    "task_runs",
    "logs",
    "artifacts",
    "block_documents",
    "work_pools",
    "automations",
    "variables",
    "v2/concurrency_limits",
)


@dataclass(frozen=True)
class Finished:
    """What a finished detection left.

    Attributes:
        states: Names of the last states of the runs of each flow, in the order of their start.
        table: The counts, by picture.
        secrets: What was given to the pods and must not be anywhere.
        endpoint: Address of the S3 server, which may be.
        texts: Everything that remains of it: records, logs, what was printed, the database, the bucket.
    """

    states: Mapping[str, list[str]]
    table: Mapping[str, Mapping[str, str]]
    secrets: tuple[str, ...]
    endpoint: str
    texts: dict[str, bytes]


def run_in_pods(image: Installed, server: EmbeddedPrefect, store: EmbeddedS3) -> Finished:
    """Set up and deploy from the image, then count pictures in a run, whose first shard is evicted."""
    folder = f"image-{uuid4().hex[:8]}"
    pictures = {f"{number}.png": picture(number) for number in range(PICTURES)}
    upload(store, f"{folder}/detect_images", pictures)
    environment = _pod_environment(server, store)
    printed = [
        _done(image, environment, "pollen", "setup", "--bucket", BUCKET, "--folder", folder),
        _done(image, environment, "prefect", "--no-prompt", "deploy", "--all"),
    ]
    with server.active(), get_client(sync_client=True) as client, TemporaryFile("w+") as log:
        states = _execute(client, image, environment, log)
        printed.append(_read(log))
    texts = _remains(server, store, folder) | {"output": "".join(printed).encode()}
    table = store.client().get_object(Bucket=BUCKET, Key=f"{folder}/{COUNTS}")["Body"].read()
    login = environment["PREFECT_API_AUTH_STRING"]
    return Finished(
        states=states,
        table={row["filename"]: row for row in csv.DictReader(io.StringIO(table.decode()))},
        secrets=(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            login.partition(":")[2],
            base64.b64encode(login.encode()).decode(),  # as requests carry it
        ),
        endpoint=store.endpoint_url,
        texts=texts,
    )


def _pod_environment(server: EmbeddedPrefect, store: EmbeddedS3) -> dict[str, str]:
    return {
        **store.environment(),
        "PREFECT_API_URL": server.api_url,
        "PREFECT_API_AUTH_STRING": server.environment()["PREFECT_API_AUTH_STRING"],
        "PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR": "crash",
        "POLLEN_IMAGE": "registry.example.org/lab/pollen-viability-flows:0123456789ab",
        "POLLEN_DEVICE": "cpu",
        **direct_connection(),
    }


def _done(image: Installed, environment: Mapping[str, str], *command: str) -> str:
    told = image.run(*command, environment=environment)
    assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"
    return told.stdout + told.stderr


class _Pods:
    """Does what a worker does: starts a pod for each run that is to start."""

    def __init__(
        self,
        client: SyncPrefectClient,
        image: Installed,
        environment: Mapping[str, str],
        log: IO[str],
    ) -> None:
        self._client = client
        self._image = image
        self._environment = environment
        self._log = log
        self.processes: dict[UUID, subprocess.Popen[str]] = {}

    def start(self, run: UUID) -> None:
        self._client.set_flow_run_state(run, Pending())
        scratch = self._image.scratch / f"pod-{len(self.processes)}"  # a new pod has an empty cache
        variables = {"PREFECT__FLOW_RUN_ID": str(run), "POLLEN_CACHE_DIR": str(scratch)}
        self.processes[run] = self._image.start(
            self._image.app / "deployments/entrypoint.sh",
            *("prefect", "flow-run", "execute"),
            environment={**self._environment, **variables},
            log=self._log.fileno(),
        )

    def evict(self, run: UUID) -> None:
        """Do what a node does when it is drained: tini passes the signal on to its child."""
        self.processes[run].terminate()

    @property
    def running(self) -> bool:
        return any(process.poll() is None for process in self.processes.values())

    def end(self) -> None:
        for process in self.processes.values():
            _end(process)


def _execute(
    client: SyncPrefectClient, image: Installed, environment: Mapping[str, str], log: IO[str]
) -> dict[str, list[str]]:
    """Start the run and its shards, of which the first is evicted; returns their last states."""
    deployment = client.read_deployment_by_name("detect/on-demand")
    flows = {flow.id: flow.name for flow in client.read_flows()}
    pods = _Pods(client, image, environment, log)
    pods.start(client.create_flow_run_from_deployment(deployment.id).id)
    evicted: UUID | None = None
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while pods.running:
            assert time.monotonic() < deadline, f"the run does not end\n{_read(log)}"
            # Not the nightly runs, which wait for their time.
            for run in (run for run in client.read_flow_runs() if flows[run.flow_id] == SHARD):
                if run.id not in pods.processes:
                    pods.start(run.id)
                elif not evicted and run.state and run.state.is_running():
                    evicted = run.id
                    pods.evict(run.id)
            time.sleep(0.3)
    finally:
        pods.end()
    states: dict[str, list[str]] = {}
    for run in map(client.read_flow_run, pods.processes):
        states.setdefault(flows[run.flow_id], []).append(f"{run.state and run.state.name}")
    return states


def _end(pod: "subprocess.Popen[str]") -> None:
    """Kill what is left of a pod: the flow runs in a child of the program that was started."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pod.pid).children(recursive=True):
            process.kill()
    pod.kill()
    pod.wait()


def _read(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def _remains(server: EmbeddedPrefect, store: EmbeddedS3, folder: str) -> dict[str, bytes]:
    user, _, password = server.environment()["PREFECT_API_AUTH_STRING"].partition(":")
    texts = {}
    with httpx.Client(base_url=server.api_url, auth=(user, password), trust_env=False) as raw:
        for name in _RECORDS:
            answer = raw.post(f"/{name}/filter", json={"limit": _PAGE}, timeout=60)
            texts[name] = answer.raise_for_status().content
    texts["database"] = b"".join(path.read_bytes() for path in server.home.glob("*.db*"))
    client = store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
    objects = (item["Key"] for page in pages for item in page.get("Contents", ()))
    texts["bucket"] = b"".join(
        client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in objects
    )
    return texts
