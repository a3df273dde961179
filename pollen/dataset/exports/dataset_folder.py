"""Reading the dataset as it is: `{train,val,test}/{images,labels}`."""

from dataclasses import replace

from pollen.dataset.exports.class_names import classes_of
from pollen.dataset.exports.reading import Export, ExportImage, Rejected, read_export
from pollen.dataset.exports.trees import Tree
from pollen.dataset.findings import DatasetFinding, in_order
from pollen.dataset.labels import LABEL_NAMES
from pollen.dataset.manifest import Manifest, ManifestImage, Split, image_key, label_key
from pollen.dataset.pictures import PictureFacts
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError

_NAMES = dict(enumerate(LABEL_NAMES))
_SPLIT_FOLDERS = tuple(f"{split}/" for split in Split)


class DatasetFolderError(PollenError):
    """A dataset that can't be read as one; the message says what to do."""


def is_curated(tree: Tree) -> bool:
    """Return whether a tree is a dataset with its split, and not an export (which has `valid/`)."""
    tops = {name.partition("/images/")[0] for name in tree.names if "/images/" in name}
    return bool(tops) and tops <= set(Split)


def read_dataset_folder(
    tree: Tree, settings: DatasetSettings, latest: Manifest | None = None
) -> Export:
    """Read a dataset; a faulty picture is left out with a finding, and does not stop the others.

    Args:
        tree: The dataset's folder; empty if there is none yet.
        settings: How to take unsure grains and missing labels; limits.
        latest: The latest manifest: pictures it knows by their hash are not decoded again.

    Raises:
        DatasetFolderError: If classes are numbered in another order than this project writes, or nobody can
            tell how.
        TreeError: If the disk fails.
    """
    if not any(name.startswith(_SPLIT_FOLDERS) for name in tree.names):
        return Export(tree, "dataset", (), (), {}, ())
    known = {image.sha256: _facts(image) for image in latest.images} if latest else {}
    export = read_export(tree, settings, known=known, default_names=_NAMES)
    if not export.names:  # only where a file of names, or the whole folder, can't be read
        raise DatasetFolderError(f"the dataset {tree.name} can't be read: {export.findings[0]}")
    if classes_of(export.names) != {number: _NAMES.get(number) for number in export.names}:
        given = ", ".join(f"{number} {name}" for number, name in sorted(export.names.items()))
        raise DatasetFolderError(
            f"the dataset {tree.name} numbers its classes {given or '(none)'}, expected 0 viable, 1 non_viable "
            "(and 2 unsure): its labels would be misread. Stage the dataset as a zip instead, with its "
            "data.yaml: exports are read by class name"
        )
    images = [image for image in export.images if _in_place(image)]
    strays = [image for image in export.images if not _in_place(image)]
    return replace(
        export,
        images=tuple(images),
        rejected=(*export.rejected, *(_stray(image) for image in strays)),
        findings=in_order([*export.findings, *(_about(tree, image) for image in strays)]),
    )


def _in_place(image: ExportImage) -> bool:
    """Return whether a picture lies at `<split>/images/<name>`, and its label where it belongs."""
    name = image.entry.rpartition("/")[2]
    if image.split is None or image.entry != image_key(image.split, name):
        return False
    return image.label_entry in {"", label_key(image.entry)}


_REASON = "lies outside train/images, val/images and test/images, or its label outside labels"


def _stray(image: ExportImage) -> Rejected:
    return Rejected(image.entry, image.facts.sha256, _REASON)


def _about(tree: Tree, image: ExportImage) -> DatasetFinding:
    message = f"{_REASON}; the picture is left out: move the two where they belong"
    return DatasetFinding.warning(f"{tree.name}/{image.entry}", message)


def _facts(image: ManifestImage) -> PictureFacts:
    return PictureFacts(
        image.sha256, image.pixels_sha256, image.look, image.width_px, image.height_px
    )
