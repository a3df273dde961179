"""Orders of runs: checked before anything is started, and merged with the settings of the deployment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from pollen.dataset.settings import DatasetSettings
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.evaluation.gate import GateSettings
from pollen.training.settings import TrainSettings
from services.options import parse_options, parse_train_options
from tasks.cluster.shards import DetectRequest
from tasks.storage.store import Location
from tasks.training.dataset import Staging

#: Parameters that are settings of their own.
MODELS: dict[str, type[BaseModel]] = {"merging": DatasetSettings, "gate": GateSettings}


@dataclass(frozen=True)
class RunOrder:
    """An order of a run.

    Attributes:
        deployment: Name of the deployment, with that of its flow.
        given: Parameters that were given.
        settings: Parameters that are settings, with the model that checks them; only what was given.
        also: Deployments whose runs the run will start.
    """

    deployment: str
    given: Mapping[str, Any]
    settings: Mapping[str, tuple[type[BaseModel], Mapping[str, Any]]]
    also: tuple[str, ...] = ()

    def parameters(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of the run: settings that are not given stay those of the deployment.

        The server would replace all of the deployment's `settings` with those of the run.

        Raises:
            PollenError: If they can't be used together.
        """
        chosen = dict(self.given)
        for name, (model, given) in self.settings.items():
            if not given:
                continue
            merged = _merged(defaults.get(name) or {}, given)
            try:
                model.model_validate(merged)
            except ValidationError as error:
                wrong = "; ".join(each["msg"] for each in error.errors())
                raise PollenError(
                    f"these settings and those of the deployment '{self.deployment}' can't be used together: {wrong}"
                ) from error
            chosen[name] = merged
        return chosen


def detection(deployment: str, given: Mapping[str, Any], settings: Sequence[str]) -> RunOrder:
    """Order a detection.

    Raises:
        PollenError: If a setting or parameter can't be used.
    """
    chosen = parse_options(settings, DetectSettings).model_dump(mode="json", exclude_unset=True)
    parameters = _given(given)
    named, shards = parameters.get("bucket", "the deployment's"), parameters.get("shards", 1)
    DetectRequest(named, None, "", shards).check()
    return RunOrder(
        deployment, parameters, {"settings": (DetectSettings, chosen)}, also=("detect-shard/gpu",)
    )


def training(deployment: str, given: Mapping[str, Any], settings: Sequence[str]) -> RunOrder:
    """Order a training.

    Raises:
        PollenError: If a setting or parameter can't be used.
    """
    options = parse_train_options(settings)
    chosen = options.model_dump(mode="json", exclude_unset=True)
    parameters = _given(given)
    if "dataset" in parameters:
        Staging.below(Location(block="checked"), parameters["dataset"])
    checked: dict[str, tuple[type[BaseModel], Mapping[str, Any]]] = {
        "settings": (TrainSettings, chosen.get("train", {})),
        **{name: (model, chosen.get(name, {})) for name, model in MODELS.items()},
    }
    return RunOrder(deployment, parameters, checked)


def _given(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Replace settings below with those above, also in nested settings."""
    merged = dict(below)
    for name, value in above.items():
        lower = merged.get(name)
        if isinstance(value, Mapping) and isinstance(lower, Mapping):
            merged[name] = _merged(lower, value)
        else:
            merged[name] = value
    return merged
