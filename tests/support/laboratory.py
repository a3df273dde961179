"""A whole laboratory: a locked Prefect server, set up and deployed, workers, and a storage that tells of uploads."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun

from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.embedded.ports import LOOPBACK, free_ports
from tests.support.cluster import Cluster, runs_of
from tests.support.events import TOKEN
from tests.support.inbox import Inbox, inbox
from tests.support.runs import BUCKET, COUNTS, REPOSITORY, bucket_tables, command, rows

ROOT: Final = "Ostatni/lab"
#: A root of its own below the other.
UPLOADS: Final = "uploads"
SITE: Final[dict[str, Any]] = {
    "storage": {"bucket": BUCKET, "folder": ROOT, "region": "us-east-1"},
    "prefixes": ["", UPLOADS],
    "pools": {"gpu": {"type": "process"}, "cpu": {"type": "process"}},
    "events": {"quiet_seconds": 3, "longest_wait_seconds": 60},
    "notifications": {"to": [{"block": "custom-webhook/lab", "about": ["failed_images"]}]},
}


class TellingS3(EmbeddedS3):
    """A storage that tells a receiver of everything that changes in it.

    Args:
        port: Where the receiver listens, once it does.
    """

    def __init__(self, port: int) -> None:
        super().__init__([BUCKET])
        folder = self._runtime_folder / ".seaweedfs"
        folder.mkdir()
        (folder / "notification.toml").write_text(
            "[notification.webhook]\n"
            "enabled = true\n"
            f'endpoint = "http://{LOOPBACK}:{port}/events"\n'
            f'bearer_token = "{TOKEN}"\n'
        )


@dataclass
class Laboratory:
    """All that runs, and what people do with it.

    Attributes:
        server: The Prefect server, which is current.
        storage: The storage, which is current too.
        cluster: Workers and deployments.
        inbox: Receives the messages.
        port: Where the storage expects the receiver.
    """

    server: EmbeddedPrefect
    storage: EmbeddedS3
    cluster: Cluster
    inbox: Inbox
    port: int

    def upload(self, pictures: dict[str, bytes]) -> None:
        """Put pictures below the root for uploads, several at once."""
        client = self.storage.client()

        def put(picture: tuple[str, bytes]) -> None:
            name, data = picture
            client.put_object(Bucket=BUCKET, Key=f"{self._inputs}/{name}", Body=data)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, pictures.items()))

    def delete(self, name: str) -> None:
        """Take one away."""
        self.storage.client().delete_object(Bucket=BUCKET, Key=f"{self._inputs}/{name}")

    def table(self) -> dict[str, dict[str, str]]:
        """The rows of the table there, of which no two are of one picture."""
        return rows(bucket_tables(self.storage, f"{ROOT}/{UPLOADS}")[COUNTS])

    def detections(self) -> list[FlowRun]:
        """Runs that count uploads, oldest first; not those that wait for the hour of their schedule."""
        found = (run for run in runs_of("detect") if run.parameters.get("prefix") == UPLOADS)
        return [run for run in found if not (run.auto_scheduled and run.state_name == "Scheduled")]

    @property
    def _inputs(self) -> str:
        return f"{ROOT}/{UPLOADS}/detect_images"


@contextmanager
def laboratory(folder: Path) -> Iterator[Laboratory]:
    """Start everything, from an empty server; the receiver is not started.

    Args:
        folder: For the site file and logs. The variables of who deploys are those of this process.
    """
    site = folder / "lab.yaml"
    site.write_text(yaml.safe_dump(SITE))
    (port,) = free_ports(1)
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPrefect(auth_string="engineer:for this test only"))
        storage = stack.enter_context(TellingS3(port))
        told = stack.enter_context(inbox())
        stack.enter_context(server.active())
        stack.enter_context(storage.active())
        CustomWebhookNotificationBlock(
            name="lab",
            url=f"{told.address}/lab",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        ).save("lab")
        assert "detect/on-upload" in set_up(site)  # what is still to be deployed
        keys = storage.environment()
        cluster = stack.enter_context(Cluster(server, folder, keys, make_pools=False))
        assert "pollen: on upload of pictures" in set_up(site)  # what waited for it
        assert "Nothing to change." in set_up(site)
        yield Laboratory(server, storage, cluster, told, port)


def set_up(site: Path) -> str:
    """Give `pollen setup`; returns what it printed."""
    done = command("setup", "--config", site)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def prefect(*arguments: str) -> str:
    """Give a command of Prefect's own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def results_shown() -> list[str]:
    """The results of detections that the user interface shows, oldest first."""
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["detection-summary"]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted)
    return [str(each.data) for each in sorted(found, key=lambda each: str(each.created))]
