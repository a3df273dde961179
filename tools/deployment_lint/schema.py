"""What may stand in ``prefect.yaml``: Prefect's own models accept anything, these nothing else."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic import ValidationError as Invalid

#: A slot of a concurrency limit is a lease: it must outlast the wait for a node and an image.
LEAST_GRACE_S = 3600

Step = Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Schedule(_Section):
    """When a deployment starts by itself. Validity of cron and time zone is checked by Prefect's model."""

    cron: str
    timezone: str
    """Required: without it a night is a night in UTC."""
    slug: str
    """Required: with it a changed schedule replaces the old one instead of standing beside it."""
    active: bool = True
    day_or: bool = True
    parameters: dict[str, Any] = {}


class ConcurrencyLimit(_Section):
    """How many runs of a deployment at once. The short form (a number) has a lease of five minutes only."""

    limit: int = Field(ge=1)
    collision_strategy: Literal["ENQUEUE", "CANCEL_NEW"]
    grace_period_seconds: int = Field(ge=LEAST_GRACE_S, le=86400)


class PoolChoice(_Section):
    """Where a deployment runs."""

    name: str
    work_queue_name: str = "default"
    job_variables: dict[str, Any] = {}


class Deployment(_Section):
    """One deployment. No ``triggers``, ``build``, ``push`` or own ``pull``: see :func:`explain`."""

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
    """Required: else Prefect writes down the folder of whoever deploys."""
    deployments: list[Deployment] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _is_mapping(cls, data: object) -> object:
        if not isinstance(data, dict):
            raise ValueError("expected a mapping with 'pull' and 'deployments'")  # noqa: TRY004
        return data


_WHY_NOT = {
    "triggers": "deploying makes triggers anew and forgets what they counted: declare an automation in "
    "deployments/automations",
    "schedule": "the old form: use 'schedules', a list",
    "pull": "the pull step of the whole file serves all: say it once, at the top",
    "build": "the image is built by make, and named by POLLEN_IMAGE",
    "push": "the image is pushed by make, and named by POLLEN_IMAGE",
    "sla": "Prefect Cloud only",
}


def explain(error: Invalid) -> list[tuple[tuple[str | int, ...], str]]:
    """Where the file differs from these models, and what is wrong there; without the values."""
    found = []
    for each in error.errors(include_url=False, include_input=False, include_context=False):
        *_, last = each["loc"] or ("",)
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            message = _WHY_NOT.get(str(last), "no such key; Prefect would ignore it silently")
        found.append((tuple(each["loc"]), message))
    return found
