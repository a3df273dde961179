"""Check job templates: a placeholder without a variable silently drops its line from every Job."""

from collections.abc import Iterator, Mapping
from typing import Any

from prefect.utilities.schema_tools import is_valid_schema, validate
from prefect.utilities.templating import find_placeholders

#: Variables of the pool, not of a run: `pollen setup` writes them into the manifest.
_FILLED_BY_SETUP = frozenset({"gpu_resource"})


def check_template(template: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a base job template."""
    schema, manifest = template["variables"], template["job_configuration"]
    try:
        is_valid_schema(schema, preprocess=False)
    except ValueError as error:
        yield f"variables: {error}"
        return
    if schema.get("additionalProperties") is not False:
        yield "variables.additionalProperties: expected false, else the server accepts misspelt job variables"
    properties = schema["properties"]
    used = {placeholder.name for placeholder in find_placeholders(manifest)}
    for name in sorted(used - properties.keys()):
        yield f"job_configuration: no variable '{name}' fills its placeholder"
    for name in sorted(properties.keys() - used - _FILLED_BY_SETUP - {"env"}):
        yield f"variables.{name}: the manifest does not use it"
    for name, variable in properties.items():
        yield from (
            f"variables.{name}: '{key}' is missing; the UI shows it to people"
            for key in ("title", "description")
            if not variable.get(key)
        )
        if "default" in variable:
            given = {name: variable["default"]}
            for wrong in validate(given, schema, preprocess=False, ignore_required=True):
                yield f"variables.{name}.default: {wrong.message}"
