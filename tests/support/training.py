"""Trainings small enough for tests: some pictures, few epochs, the bundled model to start from."""

from typing import Any

from pollen.evaluation.gate import GateSettings
from pollen.training.settings import TrainSettings
from tasks.storage.store import Location
from tasks.training.dataset import Staging
from tasks.training.request import TrainRequest

#: A gate that lets any model through that finds the grains of a few rendered pictures.
OPEN_GATE = GateSettings(min_grains=1, min_group_grains=1, worse_points=50, group_worse_points=50)
#: One that no model passes.
CLOSED_GATE = GateSettings(min_grains=10_000)


def train_settings(**values: Any) -> TrainSettings:  # noqa: ANN401  (passes through)
    """Settings of a small training that leaves the bundled model about as good as it is."""
    small = {
        "epochs": 1,
        "image_px": 160,
        "working_scale": 0.75,
        "batch": 4,
        "learning_rate": 1e-5,
        "warmup_epochs": 0,
        "mosaic_closed_epochs": 1,
        "negatives": 0.25,
        "device": "cpu",
    }
    return TrainSettings.model_validate(small | values)


def request_below(root: Location, **values: Any) -> TrainRequest:  # noqa: ANN401
    """A request for a small training with everything below one root."""
    settings = values.pop("settings", train_settings())
    return TrainRequest(
        staging=Staging.below(root, "pollen"),
        output=root,
        settings=settings,
        **{"gate": OPEN_GATE} | values,
    )
