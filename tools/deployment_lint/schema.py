"""Strict models of `prefect.yaml`: Prefect's own models accept unknown keys, these refuse them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic import ValidationError as Invalid

#: A slot of a concurrency limit is a lease: it must outlast the wait for a node and an image.
LEAST_GRACE_S = 3600

Step = Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Schedule(_Section):
    """A schedule of a deployment. Cron expression and time zone are checked with Prefect's model."""

    cron: str
    timezone: str
    """Required: the default is UTC."""
    slug: str
    """Required: with it, a changed schedule replaces the old one instead of being added."""
    active: bool = True
    day_or: bool = True
    parameters: dict[str, Any] = {}


class ConcurrencyLimit(_Section):
    """Limit of runs of a deployment at once. The short form (a number) has a lease of only five minutes."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]
    grace_period_seconds: int = Field(ge=LEAST_GRACE_S, le=86400)


class PoolChoice(_Section):
    """The work pool of a deployment."""

    name: str
    work_queue_name: str = "default"
    job_variables: dict[str, Any] = {}


class Deployment(_Section):
    """One deployment, without `triggers`, `build`, `push` or its own `pull`: see `explain`."""

    name: str
    entrypoint: str = Field(pattern=r"^flows/\w+\.py:\w+$")
    tags: list[str]
    description: str = Field(min_length=80)
    parameters: dict[str, Any] = {}
    schedules: list[Schedule] = []
    paused: bool = False
    concurrency_limit: ConcurrencyLimit | None = None
    enforce_parameter_schema: Literal[True] = True
    work_pool: PoolChoice


class PrefectFile(_Section):
    """The whole file."""

    name: str
    pull: list[Step] = Field(min_length=1)
    """Required: otherwise Prefect records the folder of whoever deploys."""
    deployments: list[Deployment] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, data: object) -> object:
        if not isinstance(data, dict):
            raise ValueError("expected a mapping with 'pull' and 'deployments'")  # noqa: TRY004
        return data


_WHY_NOT = {
    "triggers": "every deploy makes triggers again and loses their counts: declare an automation in "
    "deployments/automations",
    "schedule": "outdated: use 'schedules', a list",
    "pull": "use the pull step at the top of the file, which applies to all deployments",
    "build": "make builds the image, and POLLEN_IMAGE names it",
    "push": "make pushes the image, and POLLEN_IMAGE names it",
    "sla": "only for Prefect Cloud",
}


def explain(error: Invalid) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the places of the file that differ from these models, with the fault; without the values."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        *_, last = each["loc"] or ("",)
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            message = _WHY_NOT.get(str(last), "no such key; Prefect would ignore it silently")
        found.append((tuple(each["loc"]), message))
    return found
