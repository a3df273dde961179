"""Events of the receiver, as the Prefect server has them."""

import time
from typing import Any

from prefect.client.orchestration import get_client


def events_of(block: str, at_least: int, within_s: float = 60) -> list[dict[str, Any]]:
    """The receiver's events for a block, once there are enough; each test has a block of its own."""
    deadline = time.monotonic() + within_s
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
        found = [each for each in answer.json()["events"] if each["payload"].get("bucket") == block]
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
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": "18EA8DCABB1A8C40"}},
    }
    return {"EventName": "s3:ObjectCreated:Put", "Key": f"{bucket}/{key}", "Records": [record]}
