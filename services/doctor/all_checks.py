"""All checks: their order, which of them depend on others, and what is skipped if those fail."""

import asyncio
import os
from collections.abc import AsyncIterable, Iterable, Sequence
from pathlib import Path
from typing import Final

from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, get_current_settings, temporary_settings

from pollen.errors import PollenError
from services.doctor.checking import CHECK_SECONDS, About, collect, in_thread
from services.doctor.checks.cluster import check_access, check_cluster
from services.doctor.checks.configuration import check_environment
from services.doctor.checks.declared_objects import PLANNERS, check_declared
from services.doctor.checks.deployments import check_deployments
from services.doctor.checks.model import check_model
from services.doctor.checks.prefect_api import check_server
from services.doctor.checks.resources import check_resources
from services.doctor.checks.rights import check_rights
from services.doctor.checks.storage import check_storage
from services.doctor.checks.workers import check_workers
from services.doctor.cluster_access import Access, find_access
from services.doctor.finding import SKIPPED, Category, Finding, Level
from services.setup.limits import roots
from services.site import Site, read_site
from tasks.storage.objects import join_key
from tasks.storage.store import Location

#: Categories in the order in which people read them. RUN is for `pollen doctor RUN`.
ORDER: Final = tuple(category for category in Category if category is not Category.RUN)
#: Seconds that reading the weights of the model in production may take: they can be large. A storage
#: that does not answer at all is noticed sooner.
MODEL_SECONDS: Final = 120.0
_ON_SERVER: Final = (*PLANNERS, Category.DEPLOYMENTS)


def check_all(config: Path | None) -> list[Finding]:
    """Run all checks that can be run from here.

    Args:
        config: The site file; None for the application's.
    """
    # Report a server that is away at once: people wait, and the other checks do not need it.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        return asyncio.run(_AllChecks().all(config))


class _AllChecks:
    """One run of all checks. Checks that do not depend on one another run at the same time."""

    def __init__(self) -> None:
        self._found: dict[Category, list[Finding]] = {category: [] for category in ORDER}
        self._site: Site | None = None

    async def all(self, config: Path | None) -> list[Finding]:
        """Run the checks; return all findings, ordered by category."""
        about = Category.CONFIGURATION
        await self._check(about, "the environment", in_thread(check_environment))
        await self._check(about, "the site file", in_thread(lambda: self._read_site(config)))
        await asyncio.gather(self._prefect(), self._cluster())
        return [finding for category in ORDER for finding in self._found[category]]

    def _read_site(self, config: Path | None) -> Iterable[Finding]:
        self._site = read_site(config)
        pools = ", ".join(f"{name} ({pool.type})" for name, pool in self._site.pools.items())
        yield About(Category.CONFIGURATION).ok(
            "the site file can be used", f"block '{self._site.storage.block}', pools {pools}"
        )

    async def _prefect(self) -> None:
        """Check the server, and then what is on it."""
        if get_current_settings().api.url is None:
            self._skip(
                [Category.PREFECT, *_ON_SERVER],
                "PREFECT_API_URL is not set",
                "set it to the address of the server that is set up by the site file"
                if self._declared
                else "",
            )
            await self._storage_without_block("PREFECT_API_URL is not set")
            return
        if not await self._check(Category.PREFECT, "the Prefect server", in_thread(check_server)):
            self._skip(_ON_SERVER, "the Prefect server can't be used")
            await self._storage_without_block("the Prefect server can't be used")
            return
        site = self._site
        if site is None:
            self._skip(_ON_SERVER, "the site file can't be used")
            self._skip([Category.STORAGE, Category.MODEL], "the site file can't be used")
            return
        await asyncio.gather(
            *(self._setup(category, site) for category in PLANNERS),
            self._check(Category.POOLS, "workers", in_thread(lambda: check_workers(site.pools))),
            self._check(
                Category.DEPLOYMENTS, "deployments", in_thread(lambda: check_deployments(site))
            ),
            self._storage(roots(site)),
        )

    async def _setup(self, category: Category, site: Site) -> None:
        await self._check(category, category, in_thread(lambda: check_declared(category, site)))

    async def _storage_without_block(self, why: str) -> None:
        """Check the bucket with the keys of the environment alone, if the site file names the bucket."""
        storage = self._site.storage if self._site else None
        if self._site is None or storage is None or storage.bucket is None:
            why += ", and the site file names no bucket (storage.bucket)"
            self._skip([Category.STORAGE, Category.MODEL], why)
            return
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if storage.endpoint_url and endpoint != storage.endpoint_url:
            remedy = f"to check it without the server, set AWS_ENDPOINT_URL={storage.endpoint_url}"
            self._skip([Category.STORAGE, Category.MODEL], why, remedy)
            return
        await self._storage(
            tuple(
                Location(bucket=storage.bucket, prefix=join_key(storage.folder, prefix))
                for prefix in self._site.prefixes
            )
        )

    async def _storage(self, places: tuple[Location, ...]) -> None:
        look = in_thread(lambda: check_storage(*places))
        if not await self._check(Category.STORAGE, "storage", look):
            self._skip([Category.MODEL], "storage can't be used")
            return
        await asyncio.gather(*(self._model(place) for place in places))

    async def _model(self, place: Location) -> None:
        look = in_thread(lambda: check_model(place))
        what = f"the model of {place.address}"
        late = About(Category.MODEL).info(
            f"{what} was not checked completely: its weights did not arrive within {MODEL_SECONDS:.0f} s",
            resolution="the connection to the storage is slow from here; runs are closer to it and check the weights",
        )
        await self._check(Category.MODEL, what, look, MODEL_SECONDS, late)

    async def _cluster(self) -> None:
        """Check the cluster, if it can be reached."""
        categories = [Category.CLUSTER, Category.RIGHTS, Category.RESOURCES]
        site = self._site
        if site is not None and not _on_cluster(site):
            for category in categories:
                why = (
                    "nothing to check: runs are processes, no pool of the site file is on a cluster"
                )
                self._add(About(category).info(why))
            return
        try:
            access = find_access(self._site.kubernetes.namespace if self._site else None)
        except PollenError as error:
            self._add(About(Category.CLUSTER).error(str(error)))
            self._skip(categories[1:], "the cluster can't be reached")
            return
        if access is None:
            remedy = (
                "the site file has pools on a cluster: name its kubeconfig (export KUBECONFIG=...), or set type: "
                "process for runs that are processes"
            )
            self._skip(categories, "there is no kubeconfig here", remedy if site else "")
            return
        await self._check(
            Category.CLUSTER, "the kubeconfig", in_thread(lambda: check_access(access))
        )
        if not await self._check(Category.CLUSTER, "the cluster", check_cluster(access)):
            self._skip(categories[1:], "the cluster can't be used")
            return
        await asyncio.gather(
            self._check(Category.RIGHTS, "rights", check_rights(access)),
            self._resources(access),
        )

    async def _resources(self, access: Access) -> None:
        if self._site is None:
            self._skip([Category.RESOURCES], "the site file can't be used")
            return
        look = check_resources(access, self._site)
        await self._check(Category.RESOURCES, "quota, GPUs and Secrets", look)

    async def _check(
        self,
        category: Category,
        what: str,
        look: AsyncIterable[Finding],
        seconds: float = CHECK_SECONDS,
        late: Finding | None = None,
    ) -> bool:
        """Run a check (see `collect`); return whether it found no error."""
        found: list[Finding] = []
        await collect(About(category), what, look, found, seconds=seconds, late=late)
        for finding in found:
            self._add(finding)
        return not any(finding.level is Level.ERROR for finding in found)

    def _skip(self, categories: Sequence[Category], why: str, remedy: str = "") -> None:
        """Report what was not checked; with a remedy, as a warning: the site file declares it."""
        summary = f"{SKIPPED}{why}"
        first, *others = categories
        about = About(first)
        self._add(about.warning(summary, resolution=remedy) if remedy else about.info(summary))
        for category in others:
            self._add(About(category).info(summary))

    @property
    def _declared(self) -> bool:
        """True if the site file declares anything that belongs on a server."""
        site = self._site
        return site is not None and (site.storage.bucket is not None or _on_cluster(site))

    def _add(self, finding: Finding) -> None:
        self._found[finding.category].append(finding)


def _on_cluster(site: Site) -> bool:
    return any(pool.type == "kubernetes" for pool in site.pools.values())
