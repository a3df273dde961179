"""A model ready to find grains in tiles."""

import threading
from collections.abc import Sequence
from pathlib import Path

from pollen.arrays import FloatArray, Pixels
from pollen.classes import class_order
from pollen.detection.backends import Backend, OpenVinoBackend, TorchBackend
from pollen.detection.decoding import Decoder, OutputError
from pollen.detection.grains import Grains
from pollen.detection.profile import Profile
from pollen.models.card import ModelCard, ModelError


class Detector:
    """Finds grains in tiles. One per process and model; calls from several threads take turns."""

    def __init__(self, weights: Path, card: ModelCard, profile: Profile, cache: Path) -> None:
        """Load a model.

        Args:
            weights: The `.pt` file.
            card: Its card; the weights are refused if their hash differs.
            profile: The profile of the run.
            cache: Folder for models prepared for this machine.

        Raises:
            ModelError: If the weights are missing, altered, or no model of grains.
        """
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
        """The smallest number of tiles per call that keeps the device busy."""
        return self._backend.batch

    def detect(self, tiles: Sequence[Pixels]) -> list[Grains]:
        """Return the grains of each tile, in model-input pixels.

        Raises:
            ModelError: If the model is not of our kind.
            OutputError: If its output for one of the tiles can't be used.
        """
        found = self.detect_each(tiles)
        for grains in found:
            if isinstance(grains, OutputError):
                raise grains
        return [grains for grains in found if isinstance(grains, Grains)]

    def detect_each(self, tiles: Sequence[Pixels]) -> list[Grains | OutputError]:
        """Return the grains of each tile, in model-input pixels, or the error of its output.

        Args:
            tiles: `(tile_px, tile_px, 3)` uint8 RGB each.

        Raises:
            ModelError: If the model is not of our kind.
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
        results = [result for result in found if result is not None]
        if missing := len(tiles) - len(results):
            raise ModelError(f"the model gave no result for {missing} of {len(tiles)} tiles")
        return results
