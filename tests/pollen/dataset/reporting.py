"""Manifests and findings for the tests of the dataset's report."""

from hashlib import sha256

import numpy as np

from pollen.classes import GrainClass
from pollen.dataset.contact_sheet import labelled_thumbnail
from pollen.dataset.labels import LabelledGrain
from pollen.dataset.manifest import GrainCounts, Manifest, ManifestImage, Source, Split


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def image(
    name: str,
    split: Split = Split.TRAIN,
    group: str = "1-1-A_2x",
    grains: tuple[int, ...] = (3, 1),
    **facts: object,
) -> ManifestImage:
    """A picture with (viable, non-viable, unsure) grains."""
    viable, non_viable, unsure = (*grains, 0, 0, 0)[:3]
    given: dict[str, object] = {
        "key": f"{split}/images/{name}",
        "split": split,
        "sha256": digest(name),
        "label_sha256": digest(f"label {name}"),
        "pixels_sha256": digest(f"pixels {name}"),
        "look": "0" * 64,
        "width_px": 640,
        "height_px": 640,
        "group": group,
        "family": name,
        "grains": GrainCounts(viable=viable, non_viable=non_viable, unsure=unsure),
        "source": Source(),
    }
    return ManifestImage.model_validate(given | facts)


def manifest(*images: ManifestImage, parent: int | None = None) -> Manifest:
    return Manifest(parent=parent, images=images)


def grain(
    grain_class: GrainClass | None, x: float, y: float, radius: float = 0.15
) -> LabelledGrain:
    """A round grain, in fractions of the picture's sides."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points = np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])
    return LabelledGrain(grain_class, np.clip(points, 0, 1))


def thumbnail_of(_key: str, longest_px: int) -> bytes:
    """An even picture with labels of a viable and a non-viable grain, whatever the key."""
    grains = (grain(GrainClass.VIABLE, 0.3, 0.3), grain(GrainClass.NON_VIABLE, 0.7, 0.7))
    return labelled_thumbnail(np.full((64, 64, 3), 190, np.uint8), grains, longest_px)
