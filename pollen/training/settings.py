"""Settings of a training; the same model is part of the form in the Prefect UI."""

from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """Settings of a training. The defaults are the laboratory's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    recipe: Literal["ultralytics", "bundled"] = Field(
        "ultralytics",
        description="bundled: the stages by which the model shipped with this package was made (collages of the "
        "pictures' own grains, rendered frames, YOLOv8n-seg at 480 px and working scale 0.75), from random weights "
        "unless a base is named. It has its own epochs, sizes and rates, and keeps all training pictures in memory "
        "(about 10 bytes per pixel).",
    )
    recipe_share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="With recipe bundled: the part of its 10,600 steps that is done; less than 1 is for trials.",
    )
    rendered_frames: int = Field(
        500, ge=0, le=100_000, description="With recipe bundled: rendered pictures it learns from."
    )
    epochs: int = Field(300, ge=1, le=10_000, description="Passes over the training pictures.")
    patience: int = Field(
        100,
        ge=1,
        description="Stop early after this many epochs without a better result on the val split.",
    )
    image_px: int = Field(
        640,
        ge=64,
        le=2048,
        multiple_of=32,
        description="Side of the model's input. Larger pictures are cut into pieces of this size, "
        "smaller ones padded; they are never stretched to fit.",
    )
    working_scale: float = Field(
        1.0,
        gt=0.05,
        le=4,
        description="Model pixels per picture pixel: at 0.75 pictures are reduced to three quarters first, "
        "in training and in every later detection. Smaller is faster and sees less.",
    )
    batch: int = Field(16, ge=1, le=1024, description="Pictures per step.")
    rotation_degrees: float = Field(
        180, ge=0, le=180, description="Pictures are turned by up to this angle."
    )
    flip: float = Field(
        0.5, ge=0, le=1, description="Share of pictures mirrored, in each direction."
    )
    zoom: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Pictures are enlarged or reduced by up to this part: large values make grains of sizes "
        "no microscope shows.",
    )
    mosaic: float = Field(1.0, ge=0, le=1, description="Share of pictures put together from four.")
    mosaic_closed_epochs: int = Field(
        20, ge=0, description="Last epochs without mosaics, so that training ends on real pictures."
    )
    brightness: float = Field(
        0.1,
        ge=0,
        le=0.5,
        description="Light is changed by up to this part. Hue and saturation are never changed: colour is what "
        "tells viable from non-viable.",
    )
    learning_rate: float = Field(0.001, gt=0, le=0.1, description="At the start (AdamW).")
    last_learning_rate: float = Field(
        0.01, gt=0, le=1, description="At the end, as a part of that at the start (cosine between)."
    )
    weight_decay: float = Field(0.0005, ge=0, le=0.1, description="Of AdamW.")
    warmup_epochs: float = Field(
        3, ge=0, description="Epochs over which the learning rate rises from nothing."
    )
    negatives: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Pictures of debris without any grain that are added to the train split, "
        "as a part of its pictures.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Start of all randomness.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: the GPU where there is one."
    )
    workers: int = Field(
        4,
        ge=0,
        le=64,
        description="Processes that prepare pictures ahead, with a GPU or recipe bundled.",
    )
    cache: Literal["none", "ram", "disk"] = Field(
        "none",
        description="Where decoded training pictures are kept between epochs; ram needs 3 bytes per pixel of all of "
        "them.",
    )
    checkpoint_minutes: float = Field(
        0,
        ge=0,
        description="Least time between checkpoints; 0: after every epoch. A training that is killed "
        "goes on from the last one.",
    )

    keep_days: float = Field(
        30,
        ge=1,
        description="Checkpoints of trainings that were given up, and copies of pictures on this machine that no "
        "training used, are deleted by the next training after so many days.",
    )

    #: What changes only how a training runs, not what is learnt: the same training may go on with
    #: other values.
    RUN_ONLY: ClassVar = frozenset(
        {"device", "workers", "cache", "checkpoint_minutes", "keep_days"}
    )

    #: What only the bundled recipe asks for, and what it asks for besides.
    RECIPE_ONLY: ClassVar = frozenset({"recipe", "recipe_share", "rendered_frames"})
    RECIPE_TOO: ClassVar = frozenset({"negatives", "seed"})

    @model_validator(mode="after")
    def _is_one_recipe(self) -> Self:
        """Refuse settings that the recipe would ignore."""
        unused = self._unused() - {"recipe"}
        idle = [
            name
            for name, field in type(self).model_fields.items()
            if name in unused and getattr(self, name) != field.default
        ]
        if idle:
            raise ValueError(
                f"{', '.join(idle)}: not used by recipe {self.recipe}; leave it out, or choose the other recipe"
            )
        return self

    def _unused(self) -> set[str]:
        """Return the settings that the recipe ignores, and that decide what the other one learns."""
        if self.recipe == "ultralytics":
            return set(self.RECIPE_ONLY)
        return set(type(self).model_fields) - self.RECIPE_ONLY - self.RECIPE_TOO - self.RUN_ONLY

    def learnt_from(self) -> dict[str, Any]:
        """Return the settings that decide what is learnt: part of a training's identity."""
        return self.model_dump(mode="json", exclude=set(self.RUN_ONLY) | self._unused())
