"""What is watched: the roots of the site file in the bucket that runs read, and what belongs to them."""

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
from tasks.storage.entries import joined

#: How often the block is read again, in seconds: runs read it afresh each time, and it may be changed.
LOOK_EVERY_S: Final = 60.0
#: How often where nothing is known yet, in seconds.
LOOK_FOR_EVERY_S: Final = 5.0


class UploadKind(StrEnum):
    """What was uploaded."""

    PICTURES = "pictures"
    EXPORTS = "exports"


class Passed(StrEnum):
    """Why a notice starts nothing; the values are names of counters."""

    FOREIGN = "foreign"
    """It tells of another bucket."""
    ELSEWHERE = "elsewhere"
    """It tells of something that no run takes as its input, such as a result."""
    REMOVED = "removed"
    """Something went away."""


@dataclass(frozen=True)
class Root:
    """A watched folder of the bucket.

    Attributes:
        block: Name of the S3Bucket block, which is how flows name the bucket.
        bucket: The store's own name of the bucket.
        prefix: The root below the block's folder, as the site file and flows name it.
        folder: The root below the top of the bucket, without slashes at its ends.
    """

    block: str
    bucket: str
    prefix: str
    folder: str

    @property
    def name(self) -> str:
        """How people name it."""
        return joined(self.block, self.prefix)

    def part(self, key: str) -> str | None:
        """A key of the bucket below this root; None where it is not."""
        if not self.folder:
            return key
        start = f"{self.folder}/"
        return key[len(start) :] if key.startswith(start) else None


@dataclass(frozen=True)
class Upload:
    """An object that a run wants to see.

    Attributes:
        root: Whose.
        kind: What it is.
        key: Its key below the root.
    """

    root: Root
    kind: UploadKind
    key: str


def classify(roots: Iterable[Root], notice: Notice) -> Upload | Passed:
    """What a notice means for the watched roots.

    Only what was written starts a run. What was removed changes a mark in the table, which the next
    run sets; to start one at once would recount nothing, and moving a folder would start two.

    Of roots inside each other the longest has it, among those that take the object as an input.
    """
    ours = [root for root in roots if root.bucket == notice.bucket]
    if not ours:
        return Passed.FOREIGN
    for root in sorted(ours, key=lambda each: len(each.folder), reverse=True):
        key = root.part(notice.key)
        kind = None if key is None else _kind(key)
        if key is not None and kind is not None:
            return Upload(root, kind, key) if notice.created else Passed.REMOVED
    return Passed.ELSEWHERE


def _kind(key: str) -> UploadKind | None:
    """What a key below a root is to runs, by the rules they list with."""
    if key.startswith(INPUTS):
        below = key.removeprefix(INPUTS)
        return UploadKind.PICTURES if is_picture(below) and not is_hidden(below) else None
    if key.startswith(STAGING) and not key.startswith(STAGING_ARCHIVE):
        return UploadKind.EXPORTS if key.lower().endswith(".zip") else None
    return None


def roots_in(site: Site, bucket: str, folder: str) -> tuple[Root, ...]:
    """The site's roots in a bucket.

    Args:
        site: What is set up.
        bucket: The store's name of the bucket.
        folder: Folder in it below which the roots are.
    """
    return tuple(
        Root(site.storage.block, bucket, prefix, joined(folder, prefix)) for prefix in site.prefixes
    )


class WatchedRoots:
    """The roots as last known: the saved block says where they are, as it does to runs.

    Until it was read, the site file's word counts where that names both bucket and folder; where
    it does not, nothing is known yet.

    Attributes:
        known: The roots; None while they are not known.
        on_known: Called when they are known, and when they have changed.
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
        """Read the block again and again; returns only when cancelled."""
        while True:
            found = await self.look()
            known = found and self.known is not None
            await asyncio.sleep(LOOK_EVERY_S if known else LOOK_FOR_EVERY_S)

    async def look(self) -> bool:
        """Read the block once; where that fails, what was known stays.

        Returns:
            Whether the server answered.
        """
        try:
            place = await _saved_place(self._site.storage)
        except PollenError as error:
            self._say(str(error))
            return False
        if place is not None:
            self._say(None)
            self._now_known(roots_in(self._site, *place))
        elif self._site.storage.bucket is not None:
            self._say(None)
            storage = self._site.storage
            self._now_known(roots_in(self._site, str(storage.bucket), storage.folder))
        else:
            self._say(
                f"which bucket? There is no block '{self._site.storage.block}' on the Prefect server, and the site "
                "file names no bucket: run `pollen setup`"
            )
        return True

    def _now_known(self, roots: tuple[Root, ...]) -> None:
        if roots == self.known:
            return
        places = ", ".join(f"s3://{joined(root.bucket, root.folder)}" for root in roots)
        self._log.info("watched: %s", places)
        self.known = roots
        if self.on_known is not None:
            self.on_known()

    def _say(self, trouble: str | None) -> None:
        """Tell once of what goes wrong, and once of its end."""
        if trouble is not None and trouble != self._trouble:
            self._log.warning("where uploads are looked for can't be read: %s", trouble)
        elif trouble is None and self._trouble is not None:
            self._log.info("the Prefect server says again where uploads are looked for")
        self._trouble = trouble


async def _saved_place(storage: SiteStorage) -> tuple[str, str] | None:
    """Bucket and folder of the saved block; None where there is no such block.

    Raises:
        PollenError: The server is out of reach, refuses, or has a block that names no bucket.
    """
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    try:
        # Tried again by those who ask, who can tell of it meanwhile.
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
        raise PollenError(f"the Prefect server is out of reach ({type(error).__name__})") from error
    bucket = (document.data or {}).get("bucket_name")
    if not isinstance(bucket, str) or not bucket:
        raise PollenError(f"block '{storage.block}' names no bucket: correct it in the Prefect UI")
    return bucket, str((document.data or {}).get("bucket_folder") or "")
