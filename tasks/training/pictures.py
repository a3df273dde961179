"""Labelled pictures of a dataset, brought to this machine and checked against its manifest."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.manifest import ManifestImage
from pollen.errors import PollenError
from pollen.models.card import sha256_of
from tasks.stage import stage
from tasks.storage.local_copies import local_files
from tasks.storage.store import Location, Store, open_store


@stage("fetch pictures")
def fetch_pictures(images: Sequence[ManifestImage], dataset: Location) -> list[LabelledPicture]:
    """Fetch pictures and labels, in the order given.

    Raises:
        PollenError: If one is missing, or is not what the manifest says: training on it would not be
            the training the manifest stands for.
    """
    store = open_store(dataset)
    present = {entry.key: entry for entry in store.list()}
    for image in images:
        if image.key not in present:
            raise _missing(store, image.key)
        if image.label_key not in present and image.grains.total:
            raise _missing(store, image.label_key)
    pictures = local_files(store, [present[image.key] for image in images])
    labelled = [image for image in images if image.label_key in present]
    paths = local_files(store, [present[image.label_key] for image in labelled])
    labels = {image.key: path for image, path in zip(labelled, paths, strict=True)}
    return [
        _checked(store, image, picture, labels.get(image.key))
        for image, picture in zip(images, pictures, strict=True)
    ]


def _checked(
    store: Store, image: ManifestImage, picture: Path, label: Path | None
) -> LabelledPicture:
    """Return a labelled picture after a check that its bytes are those of the manifest."""
    if sha256_of(picture) != image.sha256:
        raise _altered(store, image.key)
    text = label.read_bytes() if label else b""
    if label and hashlib.sha256(text).hexdigest() != image.label_sha256:
        raise _altered(store, image.label_key)
    size_px = (image.width_px, image.height_px)
    return LabelledPicture(image.name, picture, text.decode("utf-8-sig"), size_px)


def _missing(store: Store, key: str) -> PollenError:
    return PollenError(
        f"{store.address}/{key} is listed in the dataset's manifest, but it does not exist: restore it, or run "
        "again: the next version of the dataset leaves it out"
    )


def _altered(store: Store, key: str) -> PollenError:
    return PollenError(
        f"{store.address}/{key} is not the file of the dataset's manifest: it was changed after the version was "
        "made. Run again: the next version contains the change"
    )
