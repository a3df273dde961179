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
        states: Name of the last state of the run of each flow.
        table: The counts, by picture.
        secrets: What was given to the pods and must not be anywhere.
        endpoint: Address of the S3 server, which may be.
        texts: Everything that remains of it: records, logs, what was printed, the database, the bucket.
    """

    states: Mapping[str, str]
    table: Mapping[str, Mapping[str, str]]
    secrets: tuple[str, ...]
    endpoint: str
    texts: dict[str, bytes]


def run_in_pods(image: Installed, server: EmbeddedPrefect, store: EmbeddedS3) -> Finished:
    """Set up and deploy from the image, then count pictures in a run and its shard."""
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


def _execute(
    client: SyncPrefectClient, image: Installed, environment: Mapping[str, str], log: IO[str]
) -> dict[str, str]:
    """Start the run and, when it is there, its shard; returns their states."""
    deployment = client.read_deployment_by_name("detect/on-demand")
    flows = {flow.id: flow.name for flow in client.read_flows()}

    def start(run: UUID) -> "subprocess.Popen[str]":
        # As a worker does: the run is pending, then its pod starts.
        client.set_flow_run_state(run, Pending())
        variables = {**environment, "PREFECT__FLOW_RUN_ID": str(run)}
        return image.start(
            "prefect", "flow-run", "execute", environment=variables, log=log.fileno()
        )

    run = client.create_flow_run_from_deployment(deployment.id)
    pods = {run.id: start(run.id)}
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while any(pod.poll() is None for pod in pods.values()):
            assert time.monotonic() < deadline, f"the run does not end\n{_read(log)}"
            for found in client.read_flow_runs():
                # Not the nightly runs, which wait for their time.
                if found.id not in pods and flows[found.flow_id] == "detect-shard":
                    pods[found.id] = start(found.id)
            time.sleep(0.5)
    finally:
        for pod in pods.values():
            _end(pod)
    return {
        flows[ended.flow_id]: str(ended.state and ended.state.name)
        for ended in map(client.read_flow_run, pods)
    }


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
