"""The receiver in tests: run as a command, told of uploads, and its events as the Prefect server has them."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import get_client

from services.embedded.ports import LOOPBACK, free_ports
from services.embedded.process import SupervisedProcess
from tests.support.runs import POLLEN, REPOSITORY


def events_of(block: str, at_least: int, example: str = "") -> list[dict[str, Any]]:
    """The receiver's events for a block, once there are enough; each test has a block of its own.

    Args:
        block: Name of the block.
        at_least: How many there have to be.
        example: How the key begins that they name.
    """
    deadline = time.monotonic() + 60
    while True:
        with get_client(sync_client=True) as client:
            answer = client.request(
                "POST",
                "/events/filter",
                json={
                    "filter": {"resource": {"id_prefix": [f"pollen.root.{block}"]}},
                    "limit": 50,
                },
            )
        found = [
            each
            for each in answer.json()["events"]
            if each["payload"].get("bucket") == block
            and each["payload"]["example"].startswith(example)
        ]
        if len(found) >= at_least or time.monotonic() > deadline:
            assert len(found) >= at_least, f"{len(found)} events came, expected {at_least}"
            return found
        time.sleep(0.2)


def ceph(bucket: str, key: str, opaque: str | None = None) -> dict[str, Any]:
    """A notice as Ceph sends it: keys are not encoded, and a text of one's own may come along."""
    record = {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "eventTime": "2026-11-23T02:47:53.139652Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "size": 5}},
        "eventId": "1795402073.143158.5d41402a",
    }
    return {"Records": [record if opaque is None else {**record, "opaqueData": opaque}]}


def minio(bucket: str, key: str) -> dict[str, Any]:
    """A notice as MinIO sends it, with an encoded key."""
    record = {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "eventName": "s3:ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": "18EA8DCA"}},
    }
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/{key}", "Records": [record]}


#: What senders give in tests.
TOKEN = "a-token-for-tests-only"


class RunningReceiver:
    """`pollen events` as a process of its own."""

    def __init__(
        self,
        folder: Path,
        site: Mapping[str, object],
        environment: dict[str, str],
        first: str = "",
        port: int | None = None,
    ) -> None:
        (folder / "site.yaml").write_text(yaml.safe_dump(dict(site)), encoding="utf-8")
        port = port or free_ports(1)[0]
        self.url = f"http://{LOOPBACK}:{port}"
        self._log = folder / "receiver.log"
        options = ["--config", str(folder / "site.yaml"), "--host", LOOPBACK, "--port", str(port)]
        self.process = SupervisedProcess(
            [*POLLEN[:-1], first + POLLEN[-1], "events", *options],
            environment={**os.environ, "POLLEN_EVENTS_TOKEN": TOKEN, **environment},
            folder=REPOSITORY,
            log_path=self._log,
            grace_s=60,
        )
        self.headers = {"Authorization": f"Bearer {TOKEN}"}

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + 120
        while True:
            try:
                if httpx.get(f"{self.url}/health", trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            assert self.process.exit_code is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def post(self, body: object) -> httpx.Response:
        """Tell of something, as a sender with the token does."""
        return httpx.post(f"{self.url}/events", json=body, headers=self.headers, trust_env=False)

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(encoding="utf-8")

    @property
    def status(self) -> dict[str, Any]:
        """What its status page says."""
        answer = httpx.get(f"{self.url}/status", headers=self.headers, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found


@contextmanager
def receiving(
    folder: Path,
    site: Mapping[str, object],
    environment: dict[str, str],
    first: str = "",
    port: int | None = None,
) -> Iterator[RunningReceiver]:
    """Run the receiver inside the block.

    Args:
        folder: For its site file and its log.
        site: What the site file says.
        environment: Where the Prefect server is, and whatever else differs from this process.
        first: Python to run before, such as for other constants.
        port: Where it listens; None for any that is free.
    """
    receiver = RunningReceiver(folder, site, environment, first, port)
    try:
        receiver.wait()
        yield receiver
    finally:
        receiver.process.stop()
