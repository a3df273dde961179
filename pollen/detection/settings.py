"""Settings of a detection run; the Prefect UI shows the same model as a form."""

import re
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class EdgeRule(StrEnum):
    """The rule for grains at the border of a frame: which of them are left out of the counts.

    `frame` is the two-edge counting frame (Gundersen 1977): grains that touch the right or the
    bottom side are left out, so that large and small grains have the same chance to be counted.
    """

    FRAME = "frame"
    EXCLUDE = "exclude"
    ALL = "all"


class OverlapRule(StrEnum):
    """The rule for grains that lie over one another.

    `count`: counted by class, but not measured. `exclude`: left out of the counts too, as the
    laboratory's old script did.
    """

    COUNT = "count"
    EXCLUDE = "exclude"


class DetectSettings(BaseModel):
    """Settings of a detection run. The defaults suit pictures like those the model was trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    edge_rule: EdgeRule = Field(
        EdgeRule.FRAME,
        description="frame: leave out grains touching the right or bottom side (unbiased); "
        "exclude: any side (as the old script); all: leave out none.",
    )
    overlap_rule: OverlapRule = Field(
        OverlapRule.COUNT,
        description="count: overlapping grains are counted but not measured; exclude: they are left out "
        "of the counts too (as the old script).",
    )
    overlap_fraction: float = Field(
        0.1,
        gt=0,
        le=1,
        description="Two grains overlap when they share more than this part of the smaller one's area.",
    )
    confidence: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Least confidence of a grain; empty: the value chosen with the model.",
    )
    merge_iou: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Boxes that overlap by more than this are one grain; empty: the value chosen with the model.",
    )
    grain_diameter_px: float | None = Field(
        None,
        gt=4,
        le=2000,
        description="Typical diameter of a grain in these pictures, in pixels, if it differs from the model's: "
        "the pictures are then resampled to the scale the model was trained at. Empty: they are used as they are.",
    )
    pixel_size_um: float | None = Field(
        None,
        gt=0,
        description="Width of a pixel in micrometres, for files that do not state it themselves.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="auto: the GPU if there is one.",
    )
    backend: Literal["auto", "openvino", "torch"] = Field(
        "auto", description="auto: OpenVINO on a CPU, PyTorch on a GPU."
    )
    precision: Literal["auto", "fp32", "fp16"] = Field(
        "auto", description="auto: fp32 on a CPU, fp16 on a GPU. fp16 needs a GPU."
    )
    annotate: bool = Field(True, description="Draw the grains into a copy of every picture.")
    annotated_max_megapixels: float = Field(
        40,
        gt=0,
        description="Annotated pictures of larger frames are drawn smaller, down to this size.",
    )
    frame_max_megapixels: float = Field(
        500,
        gt=0,
        description="Pictures that can only be decoded in one piece (JPEG, PNG) are refused above this size, with a "
        "reason, instead of filling the memory.",
    )
    batch_images: int = Field(
        64,
        ge=1,
        le=4096,
        description="Pictures per batch. A batch that fails is counted again as a whole.",
    )
    io_threads: int = Field(
        4,
        ge=1,
        le=64,
        description="Threads that download and decode ahead, and as many that draw and upload.",
    )
    memory_megapixels: float = Field(
        300,
        gt=0,
        description="Pixels that the pictures in work may hold in memory at once (3 bytes each).",
    )
    grain_table_rows: int = Field(
        1_000_000,
        ge=0,
        description="Every run rewrites the table of single grains up to this many grains. Above that, only the "
        "nightly run or a run with refresh_grain_table does.",
    )
    refresh_grain_table: bool = Field(
        False, description="Rewrite the table of single grains, however many rows it has."
    )
    sample_pattern: str = Field(
        r"(?P<plant>\d+-\d+-[A-Za-z0-9]+)_(?P<ploidy>[sS]?\d+[xX])_(?P<replicate>[A-Za-z])",
        description="Regular expression that finds plant, ploidy and replicate in a file name; "
        "pictures that do not match are grouped by folder.",
    )

    @field_validator("sample_pattern")
    @classmethod
    def _is_regular_expression(cls, pattern: str) -> str:
        """Refuse a pattern before the run, not after all pictures are counted."""
        try:
            groups = re.compile(pattern).groupindex
        except re.error as error:
            raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
        if not {"plant", "ploidy", "replicate"} & set(groups):
            raise ValueError(
                f"'{pattern}' names no part of a sample: at least one of the groups (?P<plant>...), "
                "(?P<ploidy>...) and (?P<replicate>...) is needed"
            )
        return pattern
