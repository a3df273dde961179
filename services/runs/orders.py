"""What a person asks for, checked before anything is started, and put over what the deployment says."""

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
from tasks.cluster.shards import Order as ShardOrder
from tasks.storage.store import Location
from tasks.training.dataset import Staging

#: Parameters that are settings of their own.
MODELS: dict[str, type[BaseModel]] = {"merging": DatasetSettings, "gate": GateSettings}


@dataclass(frozen=True)
class RunOrder:
    """A run that is asked for.

    Attributes:
        deployment: Name of the deployment, with its flow's.
        given: Parameters, only those that were said.
        settings: Parameters that are settings, by the model that checks them: only what was said.
        also: Deployments whose runs the run will start.
    """

    deployment: str
    given: Mapping[str, Any]
    settings: Mapping[str, tuple[type[BaseModel], Mapping[str, Any]]]
    also: tuple[str, ...] = ()

    def parameters(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of the run: a setting that is not said stays what the deployment says.

        The server would put a run's `settings` in place of the deployment's, all of them.

        Raises:
            PollenError: Together they can't be used.
        """
        chosen = dict(self.given)
        for name, (model, said) in self.settings.items():
            if not said:
                continue
            merged = _over(defaults.get(name) or {}, said)
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
    """A detection.

    Raises:
        PollenError: A setting or parameter can't be used.
    """
    said = parse_options(settings, DetectSettings).model_dump(mode="json", exclude_unset=True)
    parameters = _said(given)
    named, shards = parameters.get("bucket", "the deployment's"), parameters.get("shards", 1)
    ShardOrder(named, None, "", shards).check()
    return RunOrder(
        deployment, parameters, {"settings": (DetectSettings, said)}, also=("detect-shard/gpu",)
    )


def training(deployment: str, given: Mapping[str, Any], settings: Sequence[str]) -> RunOrder:
    """A training.

    Raises:
        PollenError: A setting or parameter can't be used.
    """
    options = parse_train_options(settings)
    said = options.model_dump(mode="json", exclude_unset=True)
    parameters = _said(given)
    if "dataset" in parameters:
        Staging.below(Location(block="checked"), parameters["dataset"])
    checked: dict[str, tuple[type[BaseModel], Mapping[str, Any]]] = {
        "settings": (TrainSettings, said.get("train", {})),
        **{name: (model, said.get(name, {})) for name, model in MODELS.items()},
    }
    return RunOrder(deployment, parameters, checked)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One set of settings over another, also inside of settings."""
    merged = dict(below)
    for name, value in above.items():
        lower = merged.get(name)
        if isinstance(value, Mapping) and isinstance(lower, Mapping):
            merged[name] = _over(lower, value)
        else:
            merged[name] = value
    return merged
