"""Settings given on the command line as ``name=value``."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pollen.errors import PollenError

M = TypeVar("M", bound=BaseModel)


def parse_options(pairs: Sequence[str], model: type[M]) -> M:
    """Read ``name=value`` pairs; a dot leads into settings of settings (``shares.test=0.2``).

    Raises:
        PollenError: A pair, a name or a value is not usable.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        path, equals, value = pair.partition("=")
        *parts, name = path.strip().split(".")
        if not equals or not name:
            raise PollenError(f"'{pair}' is no setting: expected NAME=VALUE")
        place = values
        for part in parts:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise PollenError(f"'{pair}' is no setting: {part} has a value already")
        place[name] = value.strip()
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        names = ", ".join(_names(model))
        raise PollenError(f"settings can't be used: {wrong}. Settings are: {names}") from error


def _names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Names of all settings, those of settings within settings with a dot."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"
