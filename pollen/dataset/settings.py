"""Settings of reading exports and merging them into a dataset."""

from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pollen.detection.settings import DetectSettings
from pollen.statistics.samples import sample_of


class Unsure(StrEnum):
    """The treatment of pictures with grains of the class `unsure`.

    `reject`: the picture is left out, with a finding. `cover`: the picture is taken, and training
    covers those grains with background.
    """

    REJECT = "reject"
    COVER = "cover"


class MissingLabels(StrEnum):
    """The meaning of a picture without a label file; an empty label file always means: no grain.

    `reject`: somebody forgot to label it; left out, with a finding. `empty`: it has no grain.
    """

    REJECT = "reject"
    EMPTY = "empty"


class Limits(BaseModel):
    """Limits of an export; a larger one is refused before memory or disk fill up."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    entries: int = Field(50_000, ge=1, le=1_000_000, description="Files in one export.")
    total_gigabytes: float = Field(
        50, gt=0, description="All files of one export together, unpacked."
    )
    picture_megabytes: float = Field(500, gt=0, description="One picture file, unpacked.")
    label_megabytes: float = Field(8, gt=0, description="One label file, unpacked.")
    labels_megabytes: float = Field(
        500, gt=0, description="All label files of one zip together, unpacked."
    )
    compression: float = Field(
        200,
        ge=10,
        description="How many times larger than packed a file may be: pictures hardly shrink, a file "
        "that does is made to fill the disk. Files below a megabyte may be anything.",
    )
    picture_megapixels: float = Field(100, gt=0, description="Pixels of one picture.")


class Shares(BaseModel):
    """The parts of the pictures that the splits should have; new groups go where most is missing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    train: float = Field(0.7, gt=0, le=1)
    val: float = Field(0.15, ge=0, lt=1)
    test: float = Field(0.15, ge=0, lt=1)

    @model_validator(mode="after")
    def _is_a_whole(self) -> Self:
        """Refuse parts that do not sum up to one."""
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(
                f"the shares train {self.train:g}, val {self.val:g} and test {self.test:g} must sum up to 1"
            )
        return self


_SAMPLE_PATTERN: Final[str] = DetectSettings().sample_pattern


class DatasetSettings(BaseModel):
    """Settings of reading and merging labelled pictures."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    shares: Shares = Field(Shares(), description="Wanted parts of train, val and test.")
    sample_pattern: str = Field(
        _SAMPLE_PATTERN,
        description="Regular expression that finds plant, ploidy and replicate in a file name. Pictures of "
        "one plant stay in one split; a picture that does not match is a group of its own.",
    )
    unsure: Unsure = Field(
        Unsure.REJECT,
        description="reject: pictures with grains of the class 'unsure' are left out, and listed; cover: "
        "they are taken, and training covers those grains with background.",
    )
    missing_labels: MissingLabels = Field(
        MissingLabels.REJECT,
        description="reject: pictures without a label file are left out, and listed; empty: they are "
        "pictures without grains.",
    )
    limits: Limits = Field(Limits(), description="What one export may hold.")

    @field_validator("sample_pattern")
    @classmethod
    def _is_usable(cls, pattern: str) -> str:
        """Refuse a pattern before anything is read."""
        sample_of("", pattern)
        return pattern
