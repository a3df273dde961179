"""The watched roots: those of the site file, in the bucket that runs read, and which keys belong to them."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from pollen.detection.batches import is_hidden
from pollen.errors import PollenError
from pollen.frames import is_picture
from pollen.layout import INPUTS, STAGING, STAGING_ARCHIVE
from services.events.notices import Notice
from services.prefect_server.connection import CONNECT_SECONDS, READ_SECONDS, refusal
from services.site import Site, SiteStorage
from tasks.storage.objects import join_key

#: Seconds between two readings of the block, which may be changed; runs read it afresh each time.
READ_EVERY_S: Final = 60.0
#: The same as long as nothing is known yet.
READ_FIRST_EVERY_S: Final = 5.0


class UploadKind(StrEnum):
    """The kind of an upload."""

    PICTURES = "pictures"
    EXPORTS = "exports"


class SkipReason(StrEnum):
    """The reason why a notice starts nothing; the values are names of counters.

    Attributes:
        FOREIGN: It is about another bucket.
        ELSEWHERE: It is about an object that no run takes as its input, such as a result.
        REMOVED: It is about an object that was removed.
    """

    FOREIGN = "foreign"
    ELSEWHERE = "elsewhere"
    REMOVED = "removed"


@dataclass(frozen=True)
class Root:
    """A watched folder of the bucket.

    Attributes:
        block: Name of the S3Bucket block, by which flows name the bucket.
        bucket: Name of the bucket in the store.
        prefix: Path of the root below the block's folder, as the site file and flows name it.
        folder: Path of the root in the bucket, without slashes at its ends.
    """

    block: str
    bucket: str
    prefix: str
    folder: str

    @property
    def name(self) -> str:
        """The name of the root for people."""
        return join_key(self.block, self.prefix)

    def part(self, key: str) -> str | None:
        """Return the part of a key below this root, or None if the key is not below it."""
        if not self.folder:
            return key
        start = f"{self.folder}/"
        return key[len(start) :] if key.startswith(start) else None


@dataclass(frozen=True)
class Upload:
    """An uploaded object that a run takes as its input.

    Attributes:
        root: Root of the object.
        kind: Kind of the object.
        key: Key of the object below the root.
    """

    root: Root
    kind: UploadKind
    key: str


def classify(roots: Iterable[Root], notice: Notice) -> Upload | SkipReason:
    """Return the upload that a notice reports, or the reason why it starts nothing.

    Only an object that was written starts a run. A removed one only changes a mark in the table, which the next run
    sets: a run at once would recount nothing, and moving a folder would start two.

    Among nested roots, the upload belongs to the longest one that takes the object as an input.
    """
    ours = [root for root in roots if root.bucket == notice.bucket]
    if not ours:
        return SkipReason.FOREIGN
    for root in sorted(ours, key=lambda each: len(each.folder), reverse=True):
        key = root.part(notice.key)
        kind = None if key is None else _kind(key)
        if key is not None and kind is not None:
            return Upload(root, kind, key) if notice.created else SkipReason.REMOVED
    return SkipReason.ELSEWHERE


def _kind(key: str) -> UploadKind | None:
    """Return the kind of a key below a root, by the rules by which runs list their inputs."""
    if key.startswith(INPUTS):
        below = key.removeprefix(INPUTS)
        return UploadKind.PICTURES if is_picture(below) and not is_hidden(below) else None
    if key.startswith(STAGING) and not key.startswith(STAGING_ARCHIVE):
        return UploadKind.EXPORTS if key.lower().endswith(".zip") else None
    return None


def roots_in(site: Site, bucket: str, folder: str) -> tuple[Root, ...]:
    """Return the site's roots in a bucket.

    Args:
        site: The site file.
        bucket: Name of the bucket in the store.
        folder: Folder of the bucket that contains the roots.
    """
    return tuple(
        Root(site.storage.block, bucket, prefix, join_key(folder, prefix))
        for prefix in site.prefixes
    )


class WatchedRoots:
    """The roots as last known, in the place that the saved block names, as for runs.

    Until the block was read, the site file decides if it names both bucket and folder; otherwise the roots are not
    known yet.

    Attributes:
        known: The roots; None while they are not known.
        on_known: Called when the roots are known for the first time, and when they change.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self.on_known: Callable[[], None] | None = None
        self._log = logging.getLogger("pollen.events")
        self._trouble: str | None = None
        storage = site.storage
        self.known: tuple[Root, ...] | None = None
        if storage.bucket is not None and "folder" in storage.model_fields_set:
            self.known = roots_in(site, storage.bucket, storage.folder)

    async def keep_known(self) -> None:
        """Read the block again and again; return only when cancelled."""
        while True:
            found = await self.read()
            known = found and self.known is not None
            await asyncio.sleep(READ_EVERY_S if known else READ_FIRST_EVERY_S)

    async def read(self) -> bool:
        """Read the block once; if that fails, the roots stay as they were.

        Returns:
            Whether the server answered.
        """
        try:
            place = await _saved_place(self._site.storage)
        except PollenError as error:
            self._set_trouble(str(error))
            return False
        if place is not None:
            self._set_trouble(None)
            self._set_known(roots_in(self._site, *place))
        elif self._site.storage.bucket is not None:
            self._set_trouble(None)
            storage = self._site.storage
            self._set_known(roots_in(self._site, str(storage.bucket), storage.folder))
        else:
            self._set_trouble(
                f"the bucket is not known: there is no block '{self._site.storage.block}' on the Prefect server, and "
                "the site file names no bucket. Run `pollen setup`"
            )
        return True

    def _set_known(self, roots: tuple[Root, ...]) -> None:
        if roots == self.known:
            return
        places = ", ".join(f"s3://{join_key(root.bucket, root.folder)}" for root in roots)
        self._log.info("watched: %s", places)
        self.known = roots
        if self.on_known is not None:
            self.on_known()

    def _set_trouble(self, trouble: str | None) -> None:
        """Log a new trouble once, and once that it is over."""
        if trouble is not None and trouble != self._trouble:
            self._log.warning("it can't be read which bucket is watched: %s", trouble)
        elif trouble is None and self._trouble is not None:
            self._log.info("the Prefect server can be read again")
        self._trouble = trouble


async def _saved_place(storage: SiteStorage) -> tuple[str, str] | None:
    """Return bucket and folder of the saved block, or None if there is no such block.

    Raises:
        PollenError: If the server can't be reached, refuses, or has a block that names no bucket.
    """
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        # The caller tries again, and can log the failure meanwhile.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            async with get_client(httpx_settings={"timeout": timeout}) as client:
                document = await client.read_block_document_by_name(
                    storage.block, "s3-bucket", include_secrets=False
                )
    except ObjectNotFound:
        return None
    except httpx.HTTPStatusError as error:
        raise PollenError(refusal(error.response)) from error
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        raise PollenError(
            f"the Prefect server can't be reached ({type(error).__name__})"
        ) from error
    bucket = (document.data or {}).get("bucket_name")
    if not isinstance(bucket, str) or not bucket:
        raise PollenError(f"block '{storage.block}' names no bucket: correct it in the Prefect UI")
    return bucket, str((document.data or {}).get("bucket_folder") or "")
