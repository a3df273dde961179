"""Check that work pools have workers. It needs no library for clusters, so that `pollen run` is quick."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound

from services.doctor.checking import CONNECT_SECONDS, READ_SECONDS, About
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import connected

_POOLS = About(Category.POOLS)


def check_workers(names: Iterable[str]) -> Iterator[Finding]:
    """Check that workers take runs from the pools."""
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        for name in names:
            try:
                pool = client.read_work_pool(name)
            except ObjectNotFound:
                yield _POOLS.info(f"workers of pool '{name}' not checked: the pool is missing")
                continue
            if pool.is_paused:
                yield _POOLS.error(
                    f"work pool '{name}' is paused: its runs wait",
                    resolution=f"prefect work-pool resume {name}",
                )
            yield _workers(client, name, pool.type)


def _workers(client: SyncPrefectClient, name: str, kind: str) -> Finding:
    workers = client.read_workers_for_work_pool(name)
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    if online:
        return _POOLS.ok(
            f"work pool '{name}' has {len(online)} online worker(s)", ", ".join(online)
        )
    seen = max((w.last_heartbeat_time for w in workers if w.last_heartbeat_time), default=None)
    detail = "no worker was ever online"
    if seen is not None:
        minutes = (datetime.now(UTC) - seen).total_seconds() / 60
        detail = f"the last heartbeat was {minutes:.0f} minutes ago"
    return _POOLS.error(
        f"no worker is online for work pool '{name}': its runs wait",
        detail,
        start_worker(name, kind),
    )


def start_worker(pool: str, kind: str) -> str:
    """Explain how to start a worker for a pool."""
    if kind == "kubernetes":
        return (
            "check whether its pod runs (kubectl get pods -l pollen/role=worker) and read its log. If there is no pod: "
            "kubectl apply -k deployments/kubernetes/overlays/..."
        )
    return f"start one on the machine for runs: prefect worker start --pool {pool}"
