"""Rules for deployments beyond their form: each rule yields the faults, one sentence each."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate
from pydantic import ValidationError as Invalid

from tools.deployment_lint.schema import Deployment, PrefectFile

#: Names that people and automations rely on, and the pool of each.
CONTRACT: Final = {
    "detect/on-demand": "cpu",
    "detect/nightly": "cpu",
    "detect/on-upload": "cpu",
    "detect/sweep": "cpu",
    "detect-shard/gpu": "gpu",
    "train/on-demand": "gpu",
    "promote/on-demand": "cpu",
    "dataset-check/on-upload": "cpu",
}

#: Tag of the deployments that `pollen setup` may delete.
TAG: Final = "pollen"

#: Pull step that works for pods and process workers, because the variable is read on the machine of the run.
PULL: Final = {
    "prefect.deployments.steps.set_working_directory": {"directory": "{{ $POLLEN_APP_DIR }}"}
}

#: Placeholders that may be filled in at deploy time. Their values can be read on the server afterwards.
PLACEHOLDERS: Final = frozenset({"{{ POLLEN_IMAGE }}", "{{ POLLEN_DEVICE }}"})

_ANY_PLACEHOLDER = re.compile(r"\{\{.*?\}\}")
_SECRET_NAME = re.compile(
    r"(secret|passw(or)?d|token|access_?key|api_?key|auth_string|credential|private_?key|_pat$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Case:
    """A deployment with what it refers to.

    Attributes:
        deployment: The deployment, as in the file.
        flow: Flow that its entrypoint loads.
        template: Base job template of its pool.
    """

    deployment: Deployment
    flow: Flow[..., Any]
    template: Mapping[str, Any]


def check_file(file: PrefectFile, names: list[str]) -> Iterator[str]:
    """Check the file as a whole.

    Args:
        file: The file.
        names: Full names (flow/deployment) of those that could be loaded.
    """
    if file.pull != [PULL]:
        yield f"pull: expected only the step {PULL}; otherwise runs look for flows/ in the folder of whoever deployed"
    for name in sorted(set(names)):
        if names.count(name) > 1:
            yield f"{name} is declared twice: the second would replace the first"
    for name in sorted(CONTRACT.keys() - set(names)):
        yield f"{name} is missing; people and automations start it by this name"


def check_name(case: Case) -> Iterator[str]:
    """Check that name and pool are those that others rely on."""
    name = f"{case.flow.name}/{case.deployment.name}"
    if name not in CONTRACT:
        yield f"'{name}' is not among the agreed names: {', '.join(sorted(CONTRACT))}"
    elif case.deployment.work_pool.name != CONTRACT[name]:
        yield f"work_pool.name: expected '{CONTRACT[name]}', found '{case.deployment.work_pool.name}'"
    if TAG not in case.deployment.tags:
        yield f"tags: '{TAG}' is missing; without it `pollen setup` never removes the deployment"


def check_schedules(case: Case) -> Iterator[str]:
    """Check that cron expressions and time zones are valid and slugs are unique."""
    slugs = [schedule.slug for schedule in case.deployment.schedules]
    if len(set(slugs)) < len(slugs):
        yield "schedules: two have the same slug"
    for number, schedule in enumerate(case.deployment.schedules):
        try:
            CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
        except Invalid as error:
            yield f"schedules[{number}]: {error.errors()[0]['msg'].removeprefix('Value error, ')}"


def check_parameters(case: Case) -> Iterator[str]:
    """Check that parameters, also of schedules, exist in the flow and have values that it accepts."""
    yield from _misfits(case, case.deployment.parameters, "parameters")
    for number, schedule in enumerate(case.deployment.schedules):
        yield from _misfits(case, schedule.parameters, f"schedules[{number}].parameters")


def _misfits(case: Case, parameters: Mapping[str, Any], where: str) -> Iterator[str]:
    schema = parameter_schema(case.flow).model_dump_for_openapi()
    known = list(schema["properties"])
    for name in parameters:
        if name not in known:
            yield f"{where}.{name}: the flow has no such parameter; {_hint(str(name), known)}"
    given = {name: value for name, value in _filled_in(parameters).items() if name in known}
    for error in validate(given, schema, ignore_required=True):
        yield f"{'.'.join([where, *map(str, error.path)])}: {error.message}"


def check_job_variables(case: Case) -> Iterator[str]:
    """Check that job variables exist in the pool's template and have values that it accepts."""
    schema = dict(case.template["variables"])
    known = list(schema["properties"])
    given = {}
    for name, value in _filled_in(case.deployment.work_pool.job_variables).items():
        if name.partition(".")[0] in known:
            given[name] = value
        else:
            yield f"job_variables.{name}: the pool's template has no such variable; {_hint(name, known)}"
    for error in validate(given, schema, preprocess=False, ignore_required=True):
        yield f"{'.'.join(['job_variables', *map(str, error.path)])}: {error.message}"


def check_secrecy(case: Case) -> Iterator[str]:
    """Check that nothing secret is filled in at deploy time, and nothing looks like a key."""
    deployment = case.deployment
    for where, value in (
        ("parameters", deployment.parameters),
        ("job_variables", deployment.work_pool.job_variables),
        *((f"schedules[{n}]", each.parameters) for n, each in enumerate(deployment.schedules)),
    ):
        for path, leaf in _leaves(value, where):
            yield from _tell_tales(path, leaf)


def _tell_tales(path: str, leaf: object) -> Iterator[str]:
    if isinstance(leaf, str) and leaf and _SECRET_NAME.search(path.rpartition(".")[2]):
        yield (
            f"{path}: looks like a secret, and would be stored on the server for everyone to read; "
            "runs get secrets from the Secret named in env_from"
        )
    for placeholder in _ANY_PLACEHOLDER.findall(leaf) if isinstance(leaf, str) else []:
        if placeholder not in PLACEHOLDERS:
            yield (
                f"{path}: {placeholder} is filled in at deploy time and stored for everyone to read; allowed "
                f"are {', '.join(sorted(PLACEHOLDERS))}"
            )


def _leaves(value: object, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(each, f"{path}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _leaves(each, f"{path}[{number}]")
    else:
        yield path, value


def _filled_in(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as deployed with an empty environment: entries with a placeholder are dropped."""
    return {
        name: _filled_in(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if not (isinstance(value, str) and value in PLACEHOLDERS)
    }


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"


RULES: Final[tuple[Callable[[Case], Iterator[str]], ...]] = (
    check_name,
    check_schedules,
    check_parameters,
    check_job_variables,
    check_secrecy,
)
