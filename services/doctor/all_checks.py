"""The whole examination: which checks, which of them wait for others, and what is left out if those fail."""

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
from services.doctor.checks.deployments import check_deployments
from services.doctor.checks.model import check_model
from services.doctor.checks.prefect_api import PLANNERS, check_server, check_setup
from services.doctor.checks.resources import check_resources
from services.doctor.checks.rights import check_rights
from services.doctor.checks.storage import check_storage
from services.doctor.checks.workers import check_workers
from services.doctor.cluster_access import Access, find_access
from services.doctor.finding import SKIPPED, Category, Finding, Level
from services.setup.limits import roots
from services.site import Site, read_site
from tasks.storage.entries import joined
from tasks.storage.store import Location

#: In the order in which people read them. RUN is for `pollen doctor RUN`.
ORDER: Final = tuple(category for category in Category if category is not Category.RUN)
#: Seconds in which the weights of the model in production are to arrive: they can be large. A
#: storage that says nothing at all is noticed sooner.
MODEL_SECONDS: Final = 120.0
_ON_SERVER: Final = (*PLANNERS, Category.DEPLOYMENTS)


def examine(config: Path | None) -> list[Finding]:
    """Look at everything that can be looked at from here.

    Args:
        config: The site file; None for the application's.
    """
    # A server that is away is told of at once: people wait, and the other checks go on.
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        return asyncio.run(_Examination().all(config))


class _Examination:
    """One look at everything. Checks that do not depend on one another run at once."""

    def __init__(self) -> None:
        self._found: dict[Category, list[Finding]] = {category: [] for category in ORDER}
        self._site: Site | None = None

    async def all(self, config: Path | None) -> list[Finding]:
        """All findings, by category."""
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
        """The server, and then what is on it."""
        if get_current_settings().api.url is None:
            self._skip(
                [Category.PREFECT, *_ON_SERVER],
                "PREFECT_API_URL is not set",
                "set it to the address of the server, which the site file sets up"
                if self._declared
                else "",
            )
            await self._storage_without_block("no Prefect server is named")
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
        await self._check(category, category, in_thread(lambda: check_setup(category, site)))

    async def _storage_without_block(self, why: str) -> None:
        """Look at the bucket with the keys of the environment alone, as far as that is told where."""
        storage = self._site.storage if self._site else None
        if self._site is None or storage is None or storage.bucket is None:
            told = f"{why}, and no bucket is named (storage.bucket of the site file)"
            self._skip([Category.STORAGE, Category.MODEL], told)
            return
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        if storage.endpoint_url and endpoint != storage.endpoint_url:
            remedy = f"to look at it without, set AWS_ENDPOINT_URL={storage.endpoint_url}"
            self._skip([Category.STORAGE, Category.MODEL], why, remedy)
            return
        await self._storage(
            tuple(
                Location(bucket=storage.bucket, prefix=joined(storage.folder, prefix))
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
            f"{what} was not looked at to its end: its weights did not arrive within {MODEL_SECONDS:.0f} s",
            resolution="the way from here to the storage is slow; runs, which are nearer to it, hash the weights too",
        )
        await self._check(Category.MODEL, what, look, MODEL_SECONDS, late)

    async def _cluster(self) -> None:
        """The cluster, where there is a way to it."""
        categories = [Category.CLUSTER, Category.RIGHTS, Category.RESOURCES]
        site = self._site
        if site is not None and not _on_cluster(site):
            for category in categories:
                why = "nothing to look at: runs are processes, no pool of the site file is on a cluster"
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
                "the site file has pools on a cluster: name its kubeconfig (export KUBECONFIG=...), or say type: "
                "process for runs that are processes"
            )
            self._skip(categories, "there is no kubeconfig here", remedy if site else "")
            return
        await self._check(
            Category.CLUSTER, "the kubeconfig", in_thread(lambda: check_access(access))
        )
        if not await self._check(Category.CLUSTER, "the cluster", check_cluster(access)):
            self._skip(categories[1:], "see what is wrong with the cluster")
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
        """Run a check (see `collect`); returns whether it found no error."""
        found: list[Finding] = []
        await collect(About(category), what, look, found, seconds=seconds, late=late)
        for finding in found:
            self._add(finding)
        return not any(finding.level is Level.ERROR for finding in found)

    def _skip(self, categories: Sequence[Category], why: str, remedy: str = "") -> None:
        """Say what was not looked at; with a remedy, that is a warning: the site file declares it."""
        said = f"{SKIPPED}{why}"
        first, *others = categories
        about = About(first)
        self._add(about.warning(said, resolution=remedy) if remedy else about.info(said))
        for category in others:
            self._add(About(category).info(said))

    @property
    def _declared(self) -> bool:
        """Whether the site file says of anything that is to be on a server."""
        site = self._site
        return site is not None and (site.storage.bucket is not None or _on_cluster(site))

    def _add(self, finding: Finding) -> None:
        self._found[finding.category].append(finding)


def _on_cluster(site: Site) -> bool:
    return any(pool.type == "kubernetes" for pool in site.pools.values())
