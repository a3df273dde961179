"""From staged zips to a version of the dataset: read, merge, write, publish, archive, in this order.

A zip is archived only behind the manifest that holds its pictures, and pictures only count from the
moment a manifest names them: a merge that is killed anywhere is simply done again.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pollen.dataset.exports.dataset_folder import read_dataset_folder
from pollen.dataset.exports.open_tree import open_tree
from pollen.dataset.exports.reading import Export, read_export, read_label, read_picture
from pollen.dataset.exports.trees import TreeError
from pollen.dataset.findings import DatasetFinding, Severity, in_order
from pollen.dataset.manifest import Changes, Manifest, Split
from pollen.dataset.merging import Merge, Write, merge
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from pollen.layout import STAGING, dataset_folder
from pollen.models.card import sha256_of
from tasks.faults import NotFoundError, StorageError
from tasks.stage import Pool, healing, logger, stage
from tasks.storage.local_copies import StoreTree, local_files
from tasks.storage.objects import StoredObject
from tasks.storage.store import Location, Store, open_store

VERSIONS: Final = "versions/"
ARCHIVE: Final = "archive/"
_VERSION = re.compile(rf"{VERSIONS}(\d{{6}})\.json")
#: Files of a dataset beside its pictures and labels that reading wants.
_NAMES_FILES: Final = ("data.yaml", "data.yml", "classes.txt")
#: What labelling tools call the folders that a dataset calls `val` and `train`.
_EXPORT_FOLDERS: Final = ("valid/", "obj_train_data/")
_WRITERS: Final = 16
#: Findings that are logged; all are in the report.
FINDINGS_LOGGED: Final = 20


class Staging(BaseModel):
    """The locations of a dataset.

    Attributes:
        name: Of the dataset.
        pictures: Its pictures and labels, in `train/`, `val/` and `test/`.
        manifests: Where its versions are kept.
        zips: Where newly labelled exports are staged; None: nowhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,39}$")
    pictures: Location
    manifests: Location
    zips: Location | None = None

    @classmethod
    def below(cls, root: Location, name: str) -> Self:
        """Return a dataset in its place below one root.

        Raises:
            PollenError: If the name can't be that of a dataset.
        """
        folder = root.below(dataset_folder(name))
        try:
            return cls(name=name, pictures=folder, manifests=folder, zips=root.below(STAGING))
        except ValidationError as error:
            raise PollenError(
                f"'{name}' can't be the name of a dataset: expected up to 40 letters, digits, '.', '_' and '-'"
            ) from error


@dataclass(frozen=True)
class DatasetVersion:
    """The current version of a dataset.

    Attributes:
        dataset: Name of the dataset.
        number: Of the version, from 1.
        manifest: Its content.
        parent: The version before; None for the first.
        changes: What the last merge changed; nothing where it changed nothing.
        copies: Names of pictures that show the same, of which one is new.
        findings: What was noticed while reading and merging.
        merged: Staged zips whose pictures are in the manifest: to be archived.
        refused: Names of staged zips that could not be used and stay where they are.
    """

    dataset: str
    number: int
    manifest: Manifest
    parent: Manifest | None
    changes: Changes
    copies: tuple[tuple[str, str], ...]
    findings: tuple[DatasetFinding, ...]
    merged: tuple[StoredObject, ...]
    refused: tuple[str, ...] = ()

    @property
    def is_new(self) -> bool:
        """Return whether the last merge published it."""
        return self.parent is None or self.parent.content_id != self.manifest.content_id

    @property
    def name(self) -> str:
        """Dataset and version in one word."""
        return f"{self.dataset}-{self.number:03d}"


@stage("merge into {staging.name}")
def update_dataset(staging: Staging, settings: DatasetSettings) -> DatasetVersion:
    """Read what is staged, merge it into the dataset, and publish the version that results.

    Raises:
        PollenError: If the dataset can't be read, nothing is labelled, or another run published a
            version meanwhile (which heals: the merge is done again on top of it).
    """
    manifests, pictures = open_store(staging.manifests), open_store(staging.pictures)
    number, latest = latest_version(manifests)
    with ExitStack() as opened:
        curated = read_dataset_folder(_dataset_tree(staging.name, pictures), settings, latest)
        exports, refused, zips = _staged(staging.zips, settings, opened)
        merged = merge(curated, exports, settings, latest, number)
        _write(pictures, merged.writes, exports, settings)
    findings = in_order(
        [*curated.findings, *refused, *merged.findings]
        + [found for export in exports for found in export.findings]
    )
    for found in findings[:FINDINGS_LOGGED]:
        level = logging.INFO if found.severity is Severity.NOTE else logging.WARNING
        logger().log(level, "%s: %s", found.where, found.message)
    if len(findings) > FINDINGS_LOGGED:
        logger().warning("... and %d findings more", len(findings) - FINDINGS_LOGGED)
    if not merged.manifest.images:
        raise PollenError(
            f"the dataset '{staging.name}' has no labelled picture: put some into "
            f"{pictures.address}/train/images and labels, or a labelled export (zip) into the staging area. "
            + _first(findings)
        )
    if merged.is_new:
        number = _publish(manifests, merged, (number or 0) + 1)
    return DatasetVersion(
        dataset=staging.name,
        number=number or 1,
        manifest=merged.manifest,
        parent=latest,
        changes=merged.changes,
        copies=merged.copies,
        findings=findings,
        merged=tuple(zips[export.name] for export in exports),
        refused=tuple(sorted(set(zips) - {export.name for export in exports})),
    )


def _first(findings: Sequence[DatasetFinding]) -> str:
    return f"First finding: {findings[0]}" if findings else ""


def latest_version(manifests: Store) -> tuple[int | None, Manifest | None]:
    """Return the number and the content of the latest version, None if there is none.

    Raises:
        PollenError: If it can't be read.
    """
    numbers = [
        int(match[1])
        for entry in manifests.list(VERSIONS)
        if (match := _VERSION.fullmatch(entry.key))
    ]
    if not numbers:
        return None, None
    return max(numbers), read_version(manifests, max(numbers))


def read_version(manifests: Store, number: int) -> Manifest:
    """Read the manifest of a version.

    Raises:
        PollenError: If it can't be read.
    """
    key = version_key(number)
    return Manifest.read(manifests.read(key), f"{manifests.address}/{key}")


def version_key(number: int) -> str:
    """Return the key of a version's manifest."""
    return f"{VERSIONS}{number:06d}.json"


def _dataset_tree(name: str, store: Store) -> StoreTree:
    """Return the pictures and labels of the dataset; not its versions and reports.

    Raises:
        PollenError: If the place holds an export, whose split nobody decided.
    """
    splits = tuple(f"{split}/" for split in Split)
    entries = list(store.list())
    if any(entry.key.startswith(_EXPORT_FOLDERS) for entry in entries):
        raise PollenError(
            f"{store.address} is an export of a labelling tool, not a dataset: put it (as a zip) into a staging area, "
            "from which it is merged into a dataset, or rename valid/ to val/ to keep its split"
        )
    wanted = (e for e in entries if e.key.startswith(splits) or e.key in _NAMES_FILES)
    return StoreTree(name, store, wanted)


def _staged(
    zips: Location | None, settings: DatasetSettings, opened: ExitStack
) -> tuple[list[Export], list[DatasetFinding], dict[str, StoredObject]]:
    """Return the usable exports, findings against the others, and the stored zips by the export's name."""
    if zips is None:
        return [], [], {}
    store = open_store(zips)
    entries = {entry.key: entry for entry in staged_zips(store)}
    exports: list[Export] = []
    refused: list[DatasetFinding] = []
    for entry, path in zip(
        entries.values(), local_files(store, list(entries.values())), strict=True
    ):
        try:
            tree = opened.enter_context(open_tree(path, settings.limits, entry.key))
        except TreeError as error:
            refused.append(DatasetFinding.error(entry.key, str(error)))
            continue
        export = read_export(tree, settings)
        if export.is_usable:
            exports.append(export)
        else:
            refused += [
                *export.findings,
                DatasetFinding.error(
                    entry.key, "is not merged and stays in the staging area: see its errors"
                ),
            ]
    return exports, refused, entries


def staged_zips(store: Store) -> list[StoredObject]:
    """Return the staged zips, by name."""
    waiting = [
        entry
        for entry in store.list()
        if entry.key.lower().endswith(".zip") and not entry.key.startswith(ARCHIVE)
    ]
    return sorted(waiting, key=lambda entry: entry.key)


def _write(
    store: Store, writes: Iterable[Write], exports: Sequence[Export], settings: DatasetSettings
) -> None:
    """Write labels, then pictures: a merge that breaks off leaves no picture without its label.

    Only where nothing is: two merges at once may choose one name for different pictures.

    Raises:
        PollenError: If the store fails, or another run was there first (which heals: the merge is
            done again).
    """
    by_name = {export.name: export for export in exports}
    create = healing(store.create)

    def write(one: Write) -> None:
        data, kind = (
            b"",
            "text/plain; charset=utf-8" if one.is_label else "application/octet-stream",
        )
        if one.is_label and one.entry:
            data = read_label(by_name[one.export], one.entry, one.sha256, settings).encode()
        elif not one.is_label:
            data = read_picture(by_name[one.export].tree, one.entry, one.sha256, settings)
        if not create(one.key, data, kind):
            raise PollenError(
                f"{store.address}/{one.key} was written with other content meanwhile: another run is merging now. If "
                "no run is, one was killed and its zip replaced: delete that file and run again",
                heals=True,
            )

    waiting = list(writes)
    with Pool(_WRITERS, thread_name_prefix="write") as pool:
        try:
            for labels in (True, False):
                turn = [one for one in waiting if one.is_label == labels]
                for done in [pool.submit(write, one) for one in turn]:
                    done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _publish(manifests: Store, merged: Merge, number: int) -> int:
    """Publish a version under its number, which only one run can take."""
    key = version_key(number)
    if not manifests.create(key, merged.manifest.to_bytes(), "application/json"):
        raise PollenError(
            f"another run published {manifests.address}/{key} meanwhile: the merge is repeated on top of it",
            heals=True,
        )
    return number


@stage("archive staged zips")
def archive_zips(zips: Location | None, merged: Sequence[StoredObject]) -> None:
    """Move merged zips to the archive; each is copied completely before it is deleted.

    Raises:
        PollenError: If the store fails.
    """
    if zips is None:
        return
    store = open_store(zips)
    for entry in merged:
        try:
            (path,) = local_files(store, [entry])
            store.write_file(_archived(entry.key, path), path, "application/zip")
            if store.version(entry.key) == entry.version:  # a person may have put a newer one there
                store.delete([entry.key])
        except NotFoundError:  # archived by another run
            continue
        except StorageError as error:
            if error.heals:
                raise
            logger().warning("%s was merged but can't be archived: %s", entry.key, error)


def _archived(key: str, path: Path) -> str:
    """Return the key of an archived zip: with its hash, so that a later zip of its name does not replace it."""
    name = PurePosixPath(key)
    return f"{ARCHIVE}{name.with_name(f'{name.stem}-{sha256_of(path)[:8]}{name.suffix}')}"
