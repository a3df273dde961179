"""The bundled model, prepared once for all tests of the science floor."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pollen.bundled
from pollen.detection.detector import Detector
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.models.card import CARD_NAME, ModelCard
from tests.pollen.model_making import rendered


@dataclass(frozen=True)
class Prepared:
    """A model, its card, and the folder it is prepared in."""

    weights: Path
    card: ModelCard
    cache: Path

    def detector(self, **settings: object) -> Detector:
        """A detector on this machine's CPU."""
        wanted = DetectSettings.model_validate({"device": "cpu"} | settings)
        return Detector(self.weights, self.card, Profile.resolve(self.card, wanted), self.cache)


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The model that comes with the project."""
    folder = Path(pollen.bundled.__file__).parent
    card = ModelCard.read(folder / CARD_NAME)
    return Prepared(folder / "best.pt", card, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def on_openvino(bundled: Prepared) -> Detector:
    """The bundled model as it runs on a laptop."""
    return bundled.detector(backend="openvino")


@pytest.fixture(scope="session")
def on_torch(bundled: Prepared) -> Detector:
    """The bundled model in PyTorch."""
    return bundled.detector(backend="torch")


@pytest.fixture(scope="session")
def tiles(bundled: Prepared) -> list[NDArray[np.uint8]]:
    """Rendered micrographs of the size that the bundled model takes."""
    return rendered(6, bundled.card.tile_px, seed=3)
