"""A model ready to find grains, and frames run through it tile by tile."""

import ctypes
import hashlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pollen.classes import class_order
from pollen.detection.backends import Backend, OpenVinoBackend, TorchBackend
from pollen.detection.decoding import Decoder, OutputError
from pollen.detection.grains import FloatArray, Grains
from pollen.detection.settings import DetectSettings
from pollen.detection.tiling import Pixels, ScaleError, Tile, TileGrid, join_tiles
from pollen.errors import PollenError
from pollen.models.card import ModelCard, ModelError

#: Raised by hand whenever a change of the code changes counts, measurements or flags.
COUNTING_VERSION = 3
#: A frame whose longer side holds fewer grains of the stated diameter was not meant by it.
LEAST_DIAMETERS = 2


class DeviceError(PollenError):
    """The device asked for can't be used; the message says what to do."""


@dataclass(frozen=True)
class Profile:
    """Everything that decides the numbers of a run, with no setting left open.

    Two runs with equal profiles and equal pictures give equal tables. Threads, batch sizes and the
    code's commit are not part of it.
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
    edge_rule: str
    overlap_rule: str
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
            card: What the model says of itself.
            settings: What a person asks for.
            gpu: Whether the machine that will count has a GPU; None: it is this one, and is asked.

        Raises:
            DeviceError: The device, backend and precision asked for do not go together.
            ScaleError: A grain diameter is stated, and the model does not say its own.
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
        """Short name of the profile: 12 hexadecimal digits over all its values.

        Numbers are taken as floats: 500 and 500.0 mean the same, and which of them a setting is depends on
        whether it is a default or came through a form or a file.
        """
        values = {
            key: float(value) if isinstance(value, int) else value
            for key, value in asdict(self).items()
        }
        text = json.dumps(values, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def cuda_present() -> bool:
    """Whether an NVIDIA driver answers and has a device, asked without loading torch (seconds)."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


class Detector:
    """Finds grains in tiles. One per process and model; calls from several threads take turns."""

    def __init__(self, weights: Path, card: ModelCard, profile: Profile, cache: Path) -> None:
        """Load a model.

        Args:
            weights: The ``.pt`` file.
            card: Its card; the weights are refused if their hash differs.
            profile: What the run is to use.
            cache: Folder for models prepared for this machine.

        Raises:
            ModelError: The weights are missing, altered, or no model of grains.
        """
        self.card = card
        self.profile = profile
        self._lock = threading.Lock()
        self._backend: Backend = (
            OpenVinoBackend(weights, card, cache)
            if profile.backend == "openvino"
            else TorchBackend(
                weights,
                card,
                cache / "ultralytics",
                device=profile.device,
                half=profile.precision == "fp16",
            )
        )
        try:
            classes = class_order(self._backend.facts.names)
        except ValueError as error:
            raise ModelError(
                f"model '{card.version}' does not know our classes: {error}"
            ) from error
        self._decoder = Decoder(
            classes, profile.confidence, profile.merge_iou, card.tile_px, profile.viable_odds
        )
        self._checked = False

    @property
    def batch(self) -> int:
        """How many tiles a call should bring, at the least, to keep the device busy."""
        return self._backend.batch

    def detect(self, tiles: Sequence[Pixels]) -> list[Grains]:
        """As :meth:`detect_each`, where all tiles are needed.

        Raises:
            ModelError: The model is not of our kind.
            OutputError: What it gave for one of the tiles can't be used.
        """
        found = self.detect_each(tiles)
        for grains in found:
            if isinstance(grains, OutputError):
                raise grains
        return [grains for grains in found if isinstance(grains, Grains)]

    def detect_each(self, tiles: Sequence[Pixels]) -> list[Grains | OutputError]:
        """Grains of each tile, in model-input pixels, or why its output can't be used.

        Args:
            tiles: ``(tile_px, tile_px, 3)`` uint8 RGB each.

        Raises:
            ModelError: The model is not of our kind.
        """
        if not tiles:
            return []
        found: list[Grains | OutputError | None] = [None] * len(tiles)

        def consume(number: int, raw: FloatArray, prototypes: FloatArray | None) -> None:
            if not self._checked:
                self._decoder.check(raw.shape, prototypes is not None)
                self._checked = True
            try:
                found[number] = self._decoder.decode(raw, prototypes)
            except OutputError as error:
                found[number] = error

        with self._lock:
            self._backend.run(tiles, consume)
        given = [grains for grains in found if grains is not None]
        if missing := len(tiles) - len(given):
            raise ModelError(f"the model gave no result for {missing} of {len(tiles)} tiles")
        return given

    def grid(self, pixel_size_um: float | None, size_px: tuple[int, int] | None = None) -> TileGrid:
        """How to cut a frame with this pixel size, by what the profile and the card know of scale.

        The frame is resampled only by a known ratio: a stated grain diameter, or its own pixel size
        where the card knows the one of the training pictures. Otherwise it is taken as it is.

        Args:
            pixel_size_um: Of the frame, where it is known.
            size_px: Width and height of the frame; None: not asked whether they suit the grains.

        Raises:
            ScaleError: The frame is so small that the stated grain diameter can't be meant.
        """
        ratio = 1.0
        stated = self.profile.grain_diameter_px
        if stated and size_px and max(size_px) < LEAST_DIAMETERS * stated:
            raise ScaleError(
                f"the picture has {size_px[0]} x {size_px[1]} px, less than {LEAST_DIAMETERS} grains of the stated "
                f"{stated:g} px beside each other: correct grain_diameter_px, or count this picture on its own"
            )
        if stated and self.card.grain_diameter_px:
            ratio = self.card.grain_diameter_px / stated
        elif pixel_size_um and self.card.pixel_size_um:
            ratio = pixel_size_um / self.card.pixel_size_um
        return TileGrid(
            self.card.tile_px, ratio * self.card.working_scale, self.card.max_grain_px / ratio
        )


class ReadableFrame(Protocol):
    """What detection needs of a frame; see :class:`pollen.frames.Frame`."""

    @property
    def width_px(self) -> int:
        """Width in pixels."""
        ...

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        ...

    def read(self, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        """Region x0, y0, x1, y1 as ``(h, w, 3)`` uint8 RGB."""
        ...


F = TypeVar("F", bound=ReadableFrame)


@dataclass
class _Pending(Generic[F]):
    """A frame whose tiles are on their way through the model."""

    frame: F
    grid: TileGrid | None = None
    tiles: list[Tile] = field(default_factory=list)
    found: list[Grains] = field(default_factory=list)
    error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether the model has seen every tile, or the frame failed."""
        return self.error is not None or len(self.found) == len(self.tiles)

    def result(self, merge_iou: float) -> Grains | Exception:
        """The grains of the frame, or what went wrong."""
        if self.error is not None or self.grid is None:
            return self.error or RuntimeError("the frame was never cut into tiles")
        size = self.frame.width_px, self.frame.height_px
        return join_tiles(self.tiles, self.found, self.grid, size, merge_iou)


def detect_frames(
    frames: Iterable[F | None], detector: Detector, grid_of: Callable[[F], TileGrid]
) -> Iterator[tuple[F, Grains | Exception]]:
    """Run frames through the model, the tiles of several frames filling each call.

    Args:
        frames: Frames in order; consumed only as fast as the model needs them. ``None`` asks to run
            what is waiting now, because nothing more comes before frames are given back.
        detector: The model.
        grid_of: How to cut a frame.

    Yields:
        Each frame in order with its grains in frame pixels, or with the error of reading it or of
        the model's output for one of its tiles: such a frame costs the others nothing.
    """
    line = _Line[F](detector)
    for frame in frames:
        if frame is None:
            line.flush()
        else:
            line.add(frame, grid_of)
        yield from line.finished()
    line.flush()
    yield from line.finished()


class _Line(Generic[F]):
    """Frames in order and their tiles, waiting for the model."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._pending: deque[_Pending[F]] = deque()
        self._tiles: list[tuple[_Pending[F], Pixels]] = []

    def add(self, frame: F, grid_of: Callable[[F], TileGrid]) -> None:
        """Queue a frame; the model runs whenever a batch of tiles is full."""
        entry = _Pending(frame)
        self._pending.append(entry)
        tiles = _cut(entry, grid_of)
        while True:
            try:
                tile = next(tiles, None)
            except Exception as error:  # noqa: BLE001  (one frame never costs the others)
                entry.error = error
                self._tiles = [item for item in self._tiles if item[0] is not entry]
                return
            if tile is None:
                return
            self._tiles.append((entry, tile))
            if len(self._tiles) >= self._detector.batch:
                self.flush()
                if entry.error is not None:
                    return

    def flush(self) -> None:
        """Run the model on the tiles that wait."""
        found = self._detector.detect_each([tile for _, tile in self._tiles])
        for (entry, _), grains in zip(self._tiles, found, strict=True):
            if isinstance(grains, OutputError):
                entry.error = grains
            else:
                entry.found.append(grains)
        self._tiles = []

    def finished(self) -> Iterator[tuple[F, Grains | Exception]]:
        """Take the leading frames off that are through."""
        while self._pending and self._pending[0].finished:
            entry = self._pending.popleft()
            yield entry.frame, entry.result(self._detector.profile.merge_iou)


def _cut(entry: _Pending[F], grid_of: Callable[[F], TileGrid]) -> Iterator[Pixels]:
    """Decide how to cut a frame and read its tiles one after the other."""
    frame = entry.frame
    entry.grid = grid_of(frame)
    entry.tiles = entry.grid.tiles(frame.width_px, frame.height_px)
    for tile in entry.tiles:
        window = frame.read((tile.x.start, tile.y.start, tile.x.stop, tile.y.stop))
        yield entry.grid.model_input(window)
