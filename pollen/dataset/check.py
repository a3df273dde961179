"""The check of an export or dataset: it is read as a merge would read it, and nothing is written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from pollen.dataset.exports.dataset_folder import (
    DatasetFolderError,
    is_curated,
    read_dataset_folder,
)
from pollen.dataset.exports.open_tree import open_tree
from pollen.dataset.exports.reading import Export, read_export
from pollen.dataset.exports.trees import NoTree, TreeError
from pollen.dataset.findings import DatasetFinding, Severity, has_error, in_order
from pollen.dataset.manifest import GrainCounts, Manifest, Split
from pollen.dataset.merging import Merge, merge
from pollen.dataset.settings import DatasetSettings


class CheckOutcome(Enum):
    """The outcome of a check, in words that follow the name of the export or dataset."""

    GOOD = "can be used as it is."
    LOOK = "can be used; check the warnings {place} first."
    PARTLY = "can be used, without the pictures that are left out: see the errors {place}."
    INCOMPLETE = "can't be trained on yet: the warnings {place} list what is missing."
    REFUSED = "would be refused: correct the errors {place} and check again."

    def sentence(self, place: str) -> str:
        """Return the words; `place` says where the findings are, such as `above` or `below`."""
        return self.value.format(place=place)


@dataclass(frozen=True)
class CheckResult:
    """The result of a check.

    Attributes:
        name: Of the folder or zip.
        form: The labelling tool's form, or `dataset`.
        pictures: Pictures that would be taken.
        left_out: Pictures that would not.
        grains: Labelled grains of the pictures that would be taken.
        splits: Pictures by split; for an export, as a first merge would split them.
        findings: The gravest first.
        is_usable: Whether it can be merged, or trained on. A fault refuses an export whole; of a
            dataset it only leaves out the picture.
        is_complete: Of a dataset: whether train and val have what training wants; an export need not.
        is_sound: Whether it could be opened and looked into: a zip that is broken or hostile is not.
    """

    name: str
    form: str
    pictures: int
    left_out: int
    grains: GrainCounts
    splits: dict[Split, int]
    findings: tuple[DatasetFinding, ...]
    is_usable: bool
    is_complete: bool = True
    is_sound: bool = True

    @property
    def verdict(self) -> CheckOutcome:
        """The outcome, in words that follow the name."""
        if not self.is_usable:
            return CheckOutcome.REFUSED
        if not self.is_complete:
            return CheckOutcome.INCOMPLETE
        if has_error(self.findings):
            return CheckOutcome.PARTLY
        if any(found.severity is not Severity.NOTE for found in self.findings):
            return CheckOutcome.LOOK
        return CheckOutcome.GOOD


def check(path: Path, settings: DatasetSettings, name: str | None = None) -> CheckResult:
    """Check a folder or zip; whatever is wrong becomes a finding.

    Args:
        path: The folder or zip.
        settings: How a merge would read it.
        name: What findings call it; by default its file name.

    Raises:
        TreeError: If there is nothing at the path, or it can't be read.
    """
    with open_tree(path, settings.limits, name) as tree:
        try:
            # A zip is always read as an export: its split is not kept.
            if path.is_dir() and is_curated(tree):
                curated = read_dataset_folder(tree, settings)
                merged = merge(curated, [], settings)
                result = _merged(curated, merged, is_usable=bool(merged.manifest.images))
                if not result.is_usable:
                    return result
                missing = [*_missing(curated.name, merged.manifest)]
                return replace(
                    result,
                    findings=in_order([*result.findings, *missing]),
                    is_complete=all(found.severity is Severity.NOTE for found in missing),
                )
            export = read_export(tree, settings)
            if not export.is_usable:
                result = _refused(export.name, export.form, export.findings, len(export.rejected))
                return replace(result, is_sound=not has_error(tree.findings))
            nothing = Export(NoTree(), "dataset", (), (), {}, ())
            return _merged(export, merge(nothing, [export], settings), is_usable=True)
        except (DatasetFolderError, TreeError) as error:
            return _refused(tree.name, "dataset", [DatasetFinding.error(tree.name, str(error))])


def refused(name: str, message: str) -> CheckResult:
    """Return the result for an export that can't even be looked into.

    Args:
        name: What findings call it.
        message: What was expected, what came, and what to do.
    """
    return replace(_refused(name, "", [DatasetFinding.error(name, message)]), is_sound=False)


def _missing(name: str, manifest: Manifest) -> Iterator[DatasetFinding]:
    """Yield findings on what a dataset lacks for training or judging."""
    for split, why in (
        (Split.TRAIN, "there is nothing to learn from"),
        (Split.VAL, "it decides the best epoch and the thresholds"),
    ):
        grains = manifest.grains(split)
        if not grains.viable + grains.non_viable:
            message = (
                f"has no labelled grain in {split}: {why}. Stage labelled pictures of more plants, which go where "
                f"most is missing, or put some into {split}/images and {split}/labels"
            )
            yield DatasetFinding.warning(name, message)
    if not manifest.split(Split.TEST):
        message = (
            "has no test split: models are judged on val, which flatters them, and none is put into production "
            "automatically"
        )
        yield DatasetFinding.note(name, message)


def _merged(export: Export, merged: Merge, *, is_usable: bool) -> CheckResult:
    """Return the result for what was merged."""
    manifest = merged.manifest
    return CheckResult(
        name=export.name,
        form=export.form,
        pictures=len(manifest.images),
        left_out=len(manifest.left_out),
        grains=manifest.grains(),
        splits={split: len(manifest.split(split)) for split in Split},
        findings=in_order([*export.findings, *merged.findings]),
        is_usable=is_usable,
    )


def _refused(
    name: str, form: str, findings: Iterable[DatasetFinding], left_out: int = 0
) -> CheckResult:
    """Return the result for what can't be used."""
    return CheckResult(
        name, form, 0, left_out, GrainCounts(), dict.fromkeys(Split, 0), in_order(findings), False
    )
