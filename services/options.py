"""Settings given on the command line as `name=value`."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from pollen.evaluation.gate import GateSettings
from pollen.training.settings import TrainSettings

M = TypeVar("M", bound=BaseModel)


class TrainOptions(BaseModel):
    """Everything that `--set` reaches in a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: TrainSettings = TrainSettings()
    merging: DatasetSettings = DatasetSettings()
    gate: GateSettings = GateSettings()


def parse_options(pairs: Sequence[str], model: type[M]) -> M:
    """Read `name=value` pairs; a dot leads into nested settings (`shares.test=0.2`).

    Raises:
        PollenError: If a pair, a name or a value is not usable.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        *parts, name = path.strip().split(".")
        if not equals or not name:
            raise PollenError(f"'{pair}' is not a setting: expected NAME=VALUE")
        place = values
        for part in parts:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise PollenError(f"'{pair}' is not a setting: {part} already has a value")
        place[name] = value.strip()
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        names = ", ".join(_names(model))
        raise PollenError(
            f"these settings can't be used: {wrong}. The settings are: {names}"
        ) from error


def parse_train_options(pairs: Sequence[str]) -> TrainOptions:
    """Read the settings of a training; those of `train` may be named alone (`epochs=20`).

    Raises:
        PollenError: If a pair, a name or a value is not usable.
    """
    prefixes = tuple(f"{name}." for name in TrainOptions.model_fields)
    full = [pair if pair.startswith(prefixes) else f"train.{pair}" for pair in pairs]
    return parse_options(full, TrainOptions)


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the names of all settings, those of nested settings with a dot."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
