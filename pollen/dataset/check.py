"""What `pollen dataset check` finds: an export or dataset read as a merge would read it, and nothing written."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pollen.dataset.curated import CuratedError, is_curated, read_curated
from pollen.dataset.exports import Export, read_export
from pollen.dataset.findings import Finding, Severity, in_order
from pollen.dataset.manifest import GrainCounts, Manifest, Split
from pollen.dataset.merging import Merge, merge
from pollen.dataset.settings import DatasetSettings
from pollen.dataset.trees import NoTree, TreeError, open_tree


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Attributes:
        name: Of the folder or zip.
        form: The labelling tool's form, or ``dataset``.
        pictures: Pictures that would be taken.
        left_out: Pictures that would not.
        grains: Labelled grains of the pictures that would be taken.
        splits: Pictures by split; for an export, as a first merge would split them.
        findings: The gravest first.
        is_usable: Whether it can be merged, or trained on. A fault refuses an export whole; of a
            dataset it only leaves out the picture.
        is_complete: Of a dataset: whether train and val have what training wants; an export need not.
    """

    name: str
    form: str
    pictures: int
    left_out: int
    grains: GrainCounts
    splits: dict[Split, int]
    findings: tuple[Finding, ...]
    is_usable: bool
    is_complete: bool = True


def check(path: Path, settings: DatasetSettings) -> CheckResult:
    """Check a folder or zip; whatever is wrong becomes a finding.

    Raises:
        TreeError: There is nothing at the path, or it can't be read.
    """
    with open_tree(path, settings.limits) as tree:
        try:
            # A zip is always read as an export: its split is not kept.
            if path.is_dir() and is_curated(tree):
                curated = read_curated(tree, settings)
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
                return _refused(export.name, export.form, export.findings, len(export.rejected))
            nothing = Export(NoTree(), "dataset", (), (), {}, ())
            return _merged(export, merge(nothing, [export], settings), is_usable=True)
        except (CuratedError, TreeError) as error:
            return _refused(tree.name, "dataset", [Finding.error(tree.name, str(error))])


def _missing(name: str, manifest: Manifest) -> Iterator[Finding]:
    """What a dataset lacks that training or judging by it wants."""
    for split, why in (
        (Split.TRAIN, "there is nothing to learn from"),
        (Split.VAL, "the best epoch and the thresholds are chosen by it"),
    ):
        grains = manifest.grains(split)
        if not grains.viable + grains.non_viable:
            message = (
                f"has no labelled grain in {split}: {why}. Stage labelled pictures of further plants, which go where "
                f"most is missing, or put some into {split}/images and {split}/labels"
            )
            yield Finding.warning(name, message)
    if not manifest.split(Split.TEST):
        message = (
            "has no test split: models are judged on val, which flatters them, and none goes into production by "
            "itself"
        )
        yield Finding.note(name, message)


def _merged(export: Export, merged: Merge, *, is_usable: bool) -> CheckResult:
    """The result for what was merged."""
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


def _refused(name: str, form: str, findings: Iterable[Finding], left_out: int = 0) -> CheckResult:
    """The result for what can't be used."""
    return CheckResult(
        name, form, 0, left_out, GrainCounts(), dict.fromkeys(Split, 0), in_order(findings), False
    )
