import pickle

import pytest

from pollen.dataset.exports.dataset_folder import DatasetFolderError
from pollen.dataset.exports.trees import TreeError
from pollen.dataset.manifest import ManifestError
from pollen.detection.decoding import OutputError
from pollen.detection.profile import DeviceError
from pollen.detection.tiling import ScaleError
from pollen.errors import PollenError, heals
from pollen.frames import FrameError
from pollen.models.card import ModelError
from pollen.training.ultralytics_run import TrainingError


@pytest.mark.parametrize(
    "kind",
    [
        DatasetFolderError,
        DeviceError,
        FrameError,
        ManifestError,
        ModelError,
        OutputError,
        ScaleError,
        TrainingError,
        TreeError,
    ],
)
def test_errors_of_the_science_floor_do_not_heal(kind: type[PollenError]) -> None:
    error = kind("damaged: upload it again")
    assert isinstance(error, PollenError)
    assert str(error) == "damaged: upload it again"
    assert not heals(error)


def test_whether_an_error_heals_survives_the_way_between_processes() -> None:
    assert heals(pickle.loads(pickle.dumps(PollenError("busy: wait", heals=True))))
    assert not heals(ValueError("no error of ours"))
