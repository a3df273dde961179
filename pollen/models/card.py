"""The machine-readable card beside a model's weights."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from pollen.errors import PollenError

CARD_NAME = "model.json"


class ModelError(PollenError):
    """A model that can't be used; the message says what to do."""


class ModelCard(BaseModel):
    """The facts about a model that counting needs.

    `working_scale` is the size of a model pixel relative to a pixel of the pictures it was
    trained on: at 0.5 a picture of the same microscope is halved before the model sees it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the weights file.")
    task: Literal["detect", "segment"] | None = Field(None, description="None: as in the weights.")
    classes: tuple[str, ...] | None = Field(
        None, description="Names in the order of the model's class numbers."
    )
    tile_px: int = Field(
        640, ge=64, le=4096, multiple_of=32, description="Side of the model's input."
    )
    working_scale: float = Field(1.0, gt=0, le=4)
    grain_diameter_px: float | None = Field(
        None, gt=0, description="Median diameter in the training pictures."
    )
    grain_diameter_range_px: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None,
        description="Least and largest median diameter of a training picture's grains (5 % to 95 % of the pictures).",
    )
    max_grain_px: float = Field(
        160, gt=0, description="Diameter of the largest expected grain, in training pictures."
    )
    pixel_size_um: float | None = Field(None, gt=0, description="Of the training pictures.")
    confidence: float = Field(0.25, gt=0, lt=1)
    merge_iou: float = Field(0.5, gt=0, lt=1)
    viable_odds: float = Field(
        1.0,
        gt=0,
        description="How much likelier than non-viable a grain must be to be called viable.",
    )
    metrics: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a card.

        Raises:
            ModelError: If there is no card, or it is not complete and valid.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise ModelError(
                f"{path.name} is missing beside the weights in {path.parent}: publish the model again"
            ) from error
        except ValueError as error:
            raise ModelError(f"{path} is not a usable model card: {error}") from error

    @classmethod
    def of_file(cls, weights: Path) -> Self:
        """Return the card of weights that a person named: the one beside them if it is theirs, else defaults.

        Raises:
            ModelError: If the file is missing.
        """
        digest = sha256_of(weights)
        beside = weights.with_name(CARD_NAME)
        if beside.is_file():
            card = cls.read(beside)
            if card.sha256 == digest:
                return card
        return cls(version=f"file-{digest[:12]}", sha256=digest)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal.

    Raises:
        ModelError: If the file is missing or can't be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"the model file {path} can't be read ({error.strerror}): check the path given as model"
        ) from error


def check_weights(weights: Path, card: ModelCard) -> None:
    """Refuse weights that are not those of the card, before they are loaded.

    Raises:
        ModelError: If the file is missing or its hash differs.
    """
    digest = sha256_of(weights)
    if digest != card.sha256:
        raise ModelError(
            f"the weights of model '{card.version}' were altered or damaged: expected SHA-256 {card.sha256}, "
            f"found {digest} in {weights}. They were not loaded. Publish the model again, or choose another one"
        )
