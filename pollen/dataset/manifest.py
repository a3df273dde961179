"""Manifests: which pictures a version of the dataset has, in which split, immutable.

The bytes of a manifest are canonical: equal content gives equal bytes, whoever writes them and
whenever. Training reads only what a manifest names.
"""

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pollen.classes import GrainClass
from pollen.dataset.labels import LABEL_NAMES, LabelledGrain
from pollen.errors import PollenError

#: Source of a picture that was in the curated dataset and came by no export.
CURATED: Final = "curated"

_SHA256: Final = r"^[0-9a-f]{64}$"


class Split(StrEnum):
    """The three parts of a dataset; the value is the folder's name."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class ManifestError(PollenError):
    """A manifest that can't be used; the message says what to do."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GrainCounts(_Record):
    """Labelled grains by class."""

    viable: int = Field(0, ge=0)
    non_viable: int = Field(0, ge=0)
    unsure: int = Field(0, ge=0)

    @classmethod
    def of(cls, grains: Iterable[LabelledGrain]) -> Self:
        """Count grains."""
        classes = [grain.grain_class for grain in grains]
        return cls(
            viable=classes.count(GrainClass.VIABLE),
            non_viable=classes.count(GrainClass.NON_VIABLE),
            unsure=classes.count(None),
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.viable + self.non_viable + self.unsure

    def __add__(self, other: "GrainCounts") -> "GrainCounts":
        """Return the sums, class by class."""
        return GrainCounts(
            viable=self.viable + other.viable,
            non_viable=self.non_viable + other.non_viable,
            unsure=self.unsure + other.unsure,
        )


class Source(_Record):
    """The source of a picture: an export, or `CURATED`."""

    name: str = CURATED
    sha256: str = Field("", pattern=rf"^$|{_SHA256}", description="Of the export; empty: curated.")


class ManifestImage(_Record):
    """A picture of the dataset, with its label."""

    key: str = Field(description="Below the dataset's folder: train/images/a.jpg.")
    split: Split
    original: str = Field("", description="File name it came with, which says what it belongs to.")
    sha256: str = Field(pattern=_SHA256, description="Of the picture file.")
    label_sha256: str = Field(pattern=_SHA256, description="Of the label file.")
    pixels_sha256: str = Field(pattern=_SHA256, description="Of size and decoded pixels.")
    look: str = Field(pattern=_SHA256, description="Perceptual hash, see duplicates.py.")
    width_px: int = Field(ge=1)
    height_px: int = Field(ge=1)
    group: str = Field(description="Plant and ploidy, or the family where the name says nothing.")
    family: str = Field(description="Name that all copies of one picture share.")
    grains: GrainCounts
    boxes_only: bool = Field(False, description="Whether the label has boxes, no outlines.")
    source: Source = Source()

    @property
    def label_key(self) -> str:
        """The key of the label."""
        return label_key(self.key)

    @property
    def name(self) -> str:
        """File name of the picture."""
        return PurePosixPath(self.key).name

    @model_validator(mode="after")
    def _lies_in_its_split(self) -> Self:
        """Refuse a key outside the split's folder, which could lead anywhere."""
        if self.key != image_key(self.split, self.name):
            raise ValueError(f"expected a key {self.split}/images/<name>, got '{self.key}'")
        return self


class LeftOut(_Record):
    """A picture that is not in the dataset, and why."""

    name: str = Field(description="The key in the dataset, or the path in the export.")
    sha256: str = Field(pattern=rf"^$|{_SHA256}", description="Of the picture; empty: unreadable.")
    reason: str
    source: Source = Source()


class Manifest(_Record):
    """One version of a dataset."""

    format: Literal[1] = 1
    parent: int | None = Field(None, description="Number of the version before; None: the first.")
    classes: tuple[str, ...] = Field(LABEL_NAMES, description="Names by class number in labels.")
    settings: dict[str, Any] = Field(default_factory=dict, description="Settings of the merge.")
    images: tuple[ManifestImage, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @field_validator("images")
    @classmethod
    def _sorted_images(cls, images: tuple[ManifestImage, ...]) -> tuple[ManifestImage, ...]:
        """Sort by key, and refuse two pictures that share a key or a label."""
        labels = {image.label_key for image in images}
        if len(labels) != len(images):
            raise ValueError("two pictures share a key or a label file: names must be unique")
        return tuple(sorted(images, key=lambda image: image.key))

    @field_validator("left_out")
    @classmethod
    def _sorted_left_out(cls, left_out: tuple[LeftOut, ...]) -> tuple[LeftOut, ...]:
        """Sort, each once."""
        return tuple(sorted(set(left_out), key=lambda one: one.model_dump_json()))

    @classmethod
    def read(cls, data: bytes, name: str) -> Self:
        """Read a manifest.

        Raises:
            ManifestError: If the bytes are no manifest.
        """
        try:
            return cls.model_validate_json(data)
        except ValueError as error:
            raise ManifestError(
                f"{name} is not a usable manifest ({error}): restore it, a manifest is never changed"
            ) from error

    def to_bytes(self) -> bytes:
        """Return canonical JSON: sorted, indented, no clock time; ends with a line feed."""
        return _canonical(self.model_dump(mode="json"))

    @cached_property
    def content_id(self) -> str:
        """SHA-256 of everything but the parent: equal for equal datasets."""
        return hashlib.sha256(
            _canonical(self.model_dump(mode="json", exclude={"parent"}))
        ).hexdigest()

    @cached_property
    def pictures_id(self) -> str:
        """SHA-256 of what is trained on and judged by: equal where only the record of it differs."""
        what = {"key", "split", "sha256", "label_sha256", "group"}
        images = [image.model_dump(mode="json", include=what) for image in self.images]
        return hashlib.sha256(_canonical({"classes": self.classes, "images": images})).hexdigest()

    @property
    def sources(self) -> frozenset[Source]:
        """The sources of its pictures and of those that are left out."""
        images, left_out = self.images, self.left_out
        return frozenset([one.source for one in images] + [one.source for one in left_out])

    @cached_property
    def by_key(self) -> dict[str, ManifestImage]:
        """The pictures by their key."""
        return {image.key: image for image in self.images}

    def split(self, split: Split) -> tuple[ManifestImage, ...]:
        """Return the pictures of one split, by key."""
        return tuple(image for image in self.images if image.split is split)

    def grains(self, split: Split | None = None) -> GrainCounts:
        """Return labelled grains of one split, or of all."""
        images = self.images if split is None else self.split(split)
        return sum((image.grains for image in images), GrainCounts())


class Changes(_Record):
    """Differences between a manifest and the previous one; keys, sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def compare(before: Manifest | None, after: Manifest) -> Changes:
    """Compare two versions."""
    old = before.by_key if before else {}
    new = after.by_key
    return Changes(
        added=tuple(sorted(new.keys() - old.keys())),
        removed=tuple(sorted(old.keys() - new.keys())),
        changed=tuple(sorted(key for key in new.keys() & old.keys() if new[key] != old[key])),
    )


def image_key(split: Split, name: str) -> str:
    """Return the key of a picture below its dataset's folder."""
    return f"{split}/images/{name}"


def label_key(image_key: str) -> str:
    """Return the key of a picture's label: found by the stem, as Ultralytics does."""
    split, _, name = image_key.split("/", 2)
    return f"{split}/labels/{PurePosixPath(name).stem}.txt"


def _canonical(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1, allow_nan=False)
    return f"{text}\n".encode()
