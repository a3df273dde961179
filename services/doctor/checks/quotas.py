"""Check the quotas of the namespace: there is room for one more pod of each work pool."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from kubernetes_asyncio.client import ApiClient, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException

from services.doctor.checking import About
from services.doctor.checks.cluster import FORBIDDEN
from services.doctor.checks.quantity import amount
from services.doctor.cluster_access import REQUEST_SECONDS
from services.doctor.finding import Category, Finding

#: Name of a GPU resource if a pool names none.
GPU: Final = "nvidia.com/gpu"
#: Resources that a quota counts, and the variable of the job template with the amount that a pod requests.
_WANTED: Final = {
    "cpu": "cpu_request",
    "requests.cpu": "cpu_request",
    "limits.cpu": "cpu_limit",
    "memory": "memory_request",
    "requests.memory": "memory_request",
    "limits.memory": "memory_limit",
    "ephemeral-storage": "ephemeral_storage_request",
    "requests.ephemeral-storage": "ephemeral_storage_request",
    "limits.ephemeral-storage": "ephemeral_storage_limit",
}
#: Resources of which a run takes one.
_ONE_EACH: Final = ("pods", "count/pods", "count/jobs.batch")
#: Scopes without pods of our Jobs, which have requests, and no deadline of their own.
_OTHER_PODS: Final = {"BestEffort", "Terminating"}

_ABOUT = About(Category.RESOURCES)


@dataclass(frozen=True)
class Count:
    """One resource of a quota, and the request of a pod of a pool.

    Attributes:
        pool: Name of the pool.
        what: Resource, as the quota names it.
        wanted: Amount that one pod requests.
        hard: Amount in all.
        used: Amount that is used.
    """

    pool: str
    what: str
    wanted: str
    hard: str
    used: str

    @property
    def never(self) -> bool:
        """True if the pod does not even fit into an empty quota."""
        return amount(self.wanted) > amount(self.hard)

    @property
    def short(self) -> bool:
        """True if there is no room for the pod at present."""
        left = max(amount(self.hard) - amount(self.used), Decimal(0))
        return amount(self.wanted) > left

    def __str__(self) -> str:
        """Describe it in words."""
        return f"{self.what}: a pod of pool '{self.pool}' requests {self.wanted}, {self.used} of {self.hard} are used"


async def check_quotas(
    client: ApiClient, namespace: str, pools: Mapping[str, Mapping[str, Any]]
) -> AsyncIterator[Finding]:
    """Compare what quotas leave with what pods of the pools request.

    Args:
        client: Client of the cluster.
        namespace: Namespace to check.
        pools: Defaults of the job template's variables, by pool.
    """
    try:
        found = await CoreV1Api(client).list_namespaced_resource_quota(
            namespace, _request_timeout=REQUEST_SECONDS
        )
    except ApiException as error:
        if error.status != FORBIDDEN:
            raise
        yield _ABOUT.info("quotas not checked: this account may not read them")
        return
    quotas = [client.sanitize_for_serialization(quota) for quota in found.items]
    mine = [quota for quota in quotas if _counts_our_pods(quota.get("spec") or {})]
    if not mine:
        yield _ABOUT.ok(f"namespace '{namespace}' has no quota for pods of runs")
    for quota in mine:
        status = quota.get("status") or {}
        counts = list(_counts(status.get("hard") or {}, status.get("used") or {}, pools))
        for finding in _judged(quota["metadata"]["name"], counts):
            yield finding


def _counts_our_pods(spec: Mapping[str, Any]) -> bool:
    # A scopeSelector limits a quota to pods of a priority class; ours have none.
    return not _OTHER_PODS.intersection(spec.get("scopes") or ()) and not spec.get("scopeSelector")


def _counts(
    hard: Mapping[str, str], used: Mapping[str, str], pools: Mapping[str, Mapping[str, Any]]
) -> Iterator[Count]:
    """Yield the resources of a quota that pods of runs use; not Services, disks and the like."""
    for pool, defaults in pools.items():
        gpu = f"requests.{defaults.get('gpu_resource') or GPU}"
        for what, limit in hard.items():
            if what in _WANTED:
                wanted = str(defaults.get(_WANTED[what]) or 0)
            elif what == gpu:
                wanted = str(defaults.get("gpu_count") or 0)
            elif what in _ONE_EACH:
                wanted = "1"
            else:
                continue
            yield Count(pool, what, wanted, limit, used.get(what, "0"))


def _judged(name: str, counts: list[Count]) -> Iterator[Finding]:
    """Yield the findings about one quota."""
    never = [count for count in counts if count.never]
    short = [count for count in counts if count.short and not count.never]
    if never:
        yield _ABOUT.error(
            f"quota '{name}' is too small for a pod even when empty: {_listed(never)}",
            resolution="lower the requests in the pool's variables in deployments/site.yaml (then `pollen setup`), "
            "or ask the administrators for a larger quota",
        )
    if short:
        yield _ABOUT.warning(
            f"quota '{name}' has no room for another run at present: {_listed(short)}",
            resolution="runs wait, or are refused and tried again: wait until others end, or ask the administrators "
            "for more",
        )
    if not (never or short):
        yield _ABOUT.ok(f"quota '{name}' has room for a run", _listed(counts))


def _listed(counts: list[Count]) -> str:
    return "; ".join(map(str, counts))
