"""The profile of a run: everything that decides its numbers, with no setting left open."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from pollen.detection.gpu import cuda_present
from pollen.detection.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.detection.tiling import ScaleError, TileGrid
from pollen.errors import PollenError
from pollen.models.card import ModelCard

#: Increased by hand whenever a change of the code changes counts, measurements or flags.
COUNTING_VERSION = 3
#: If fewer grains of the stated diameter fit along a frame's longer side, the diameter is not meant for it.
LEAST_DIAMETERS = 2


class DeviceError(PollenError):
    """The device asked for can't be used; the message says what to do."""


@dataclass(frozen=True)
class Profile:
    """Everything that decides the numbers of a run.

    Two runs with equal profiles and equal pictures give equal tables. Threads, batch sizes and the
    commit of the code are not part of it.
    """

    model_version: str
    model_sha256: str
    tile_px: int
    working_scale: float
    trained_diameter_px: float | None
    trained_pixel_size_um: float | None
    max_grain_px: float
    confidence: float
    merge_iou: float
    viable_odds: float
    edge_rule: EdgeRule
    overlap_rule: OverlapRule
    overlap_fraction: float
    grain_diameter_px: float | None
    pixel_size_um: float | None
    frame_max_megapixels: float
    backend: Literal["openvino", "torch"]
    device: Literal["cpu", "cuda"]
    precision: Literal["fp32", "fp16"]
    counting_version: int = COUNTING_VERSION

    @classmethod
    def resolve(
        cls, card: ModelCard, settings: DetectSettings, *, gpu: bool | None = None
    ) -> "Profile":
        """Fill in what the settings leave to the model and the machine.

        Args:
            card: The model's card.
            settings: The settings of the run.
            gpu: Whether the machine that will count has a GPU; None: it is this machine, which is checked.

        Raises:
            DeviceError: If device, backend and precision do not fit together.
            ScaleError: If a grain diameter is stated, but the model's card states none.
        """
        if settings.grain_diameter_px is not None and card.grain_diameter_px is None:
            raise ScaleError(
                f"grain_diameter_px is set, but model '{card.version}' does not say how large its training grains "
                "were: leave the setting empty, write grain_diameter_px into its card, or choose another model"
            )
        if gpu is None:
            gpu = settings.device != "cpu" and cuda_present()
        device = settings.device if settings.device != "auto" else "cuda" if gpu else "cpu"
        backend = (
            settings.backend
            if settings.backend != "auto"
            else "torch"
            if device == "cuda"
            else "openvino"
        )
        precision = (
            settings.precision
            if settings.precision != "auto"
            else "fp16"
            if device == "cuda"
            else "fp32"
        )
        if device == "cuda" and not gpu:
            raise DeviceError(
                "no usable NVIDIA GPU on this machine: run on a machine or pool with a GPU, or set device: cpu"
            )
        if backend == "openvino" and device == "cuda":
            raise DeviceError(
                "the OpenVINO backend runs on a CPU only: set device: cpu or backend: torch"
            )
        if precision == "fp16" and device == "cpu":
            raise DeviceError("precision fp16 needs a GPU: set precision: fp32 or auto")
        return cls(
            model_version=card.version,
            model_sha256=card.sha256,
            tile_px=card.tile_px,
            working_scale=card.working_scale,
            trained_diameter_px=card.grain_diameter_px,
            trained_pixel_size_um=card.pixel_size_um,
            max_grain_px=card.max_grain_px,
            confidence=settings.confidence or card.confidence,
            merge_iou=settings.merge_iou or card.merge_iou,
            viable_odds=card.viable_odds,
            edge_rule=settings.edge_rule,
            overlap_rule=settings.overlap_rule,
            overlap_fraction=settings.overlap_fraction,
            grain_diameter_px=settings.grain_diameter_px,
            pixel_size_um=settings.pixel_size_um,
            frame_max_megapixels=settings.frame_max_megapixels,
            backend=backend,
            device=device,
            precision=precision,
        )

    @property
    def fingerprint(self) -> str:
        """A short name of the profile: 12 hexadecimal digits over all its values.

        Numbers are written as floats: 500 and 500.0 mean the same, but a default, a form and a file may give
        one or the other.
        """
        values = {
            key: float(value) if isinstance(value, int) else value
            for key, value in asdict(self).items()
        }
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def known_pixel_size_um(self, own_um: float | None) -> float | None:
        """Return the pixel size that a frame's file states, else the one that the settings state."""
        return own_um or self.pixel_size_um

    def ratio_to_training(self, own_pixel_size_um: float | None) -> float:
        """Return the pixels of a training picture per pixel of a frame.

        A frame is resampled only by a known ratio: a stated grain diameter, or its pixel size if the
        model knows that of its training pictures. Otherwise it is taken as it is.

        Args:
            own_pixel_size_um: As the frame's file states it; None if it does not.
        """
        if self.grain_diameter_px and self.trained_diameter_px:
            return self.trained_diameter_px / self.grain_diameter_px
        pixel_size_um = self.known_pixel_size_um(own_pixel_size_um)
        if pixel_size_um and self.trained_pixel_size_um:
            return pixel_size_um / self.trained_pixel_size_um
        return 1.0

    def grid(
        self, own_pixel_size_um: float | None = None, size_px: tuple[int, int] | None = None
    ) -> TileGrid:
        """Return how to cut a frame into tiles.

        Args:
            own_pixel_size_um: As the frame's file states it; None if it does not.
            size_px: Width and height of the frame; None: do not check that they suit the grains.

        Raises:
            ScaleError: If the frame is so small that the stated grain diameter can't be meant, or
                if the grains do not fit the model's tiles.
        """
        stated = self.grain_diameter_px
        if stated and size_px and max(size_px) < LEAST_DIAMETERS * stated:
            raise ScaleError(
                f"the picture has {size_px[0]} x {size_px[1]} px, less than {LEAST_DIAMETERS} grains of the stated "
                f"{stated:g} px beside each other: correct grain_diameter_px, or count this picture on its own"
            )
        ratio = self.ratio_to_training(own_pixel_size_um)
        return TileGrid(self.tile_px, ratio * self.working_scale, self.max_grain_px / ratio)
