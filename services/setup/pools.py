"""Plan the work pools: job templates of the application, with the defaults of the site."""

import difflib
import json
import re
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.utilities.schema_tools.validation import validate
from prefect.workers.process import ProcessWorker

from pollen.errors import PollenError
from services.namespace import current_namespace
from services.setup.gpus import VARIABLE as GPU_RESOURCE
from services.setup.gpus import has_no_gpus, with_gpu_resource
from services.setup.plan import Change, Step, keep
from services.site import Site, SitePool, deployments_folder

KIND = "work pool"

#: Names of environment variables with secret values; a path to a file with a secret is not secret.
_SECRET = re.compile(
    r"(SECRET|PASSWORD|PASSWD|TOKEN|ACCESS_KEY|API_KEY|AUTH_STRING)(?!.*_(FILE|PATH|NAME)$)", re.I
)


def plan_pools(client: SyncPrefectClient, site: Site, folder: Path | None = None) -> list[Step]:
    """Plan the site's work pools.

    Args:
        client: Client of the server.
        site: The site.
        folder: Folder with the job templates; None for that of the application.

    Raises:
        PollenError: If a job template is missing or broken, or the site's variables do not fit it.
    """
    namespace = site.kubernetes.namespace or current_namespace()
    return [_step(client, name, pool, folder, namespace) for name, pool in site.pools.items()]


def pool_template(
    name: str, pool: SitePool, folder: Path | None = None, namespace: str | None = None
) -> dict[str, Any]:
    """Make the base job template of a pool.

    Args:
        name: Name of the pool.
        pool: Its section of the site file.
        folder: Folder with the job templates; None for that of the application.
        namespace: Namespace for Jobs, unless the site file's variables name one.

    Raises:
        PollenError: See `plan_pools`.
    """
    if pool.type == "process":
        template = deepcopy(ProcessWorker.get_default_base_job_template())
    else:
        template = _read_template(name, pool, folder)
    properties = template["variables"].get("properties", {})
    if namespace and "namespace" in properties:
        properties["namespace"]["default"] = namespace
    if GPU_RESOURCE in properties and GPU_RESOURCE in pool.variables:
        with_gpu_resource(template, _gpu_resource(name, pool.variables[GPU_RESOURCE]))
    for variable, value in pool.variables.items():
        where = f"pools.{name}.variables.{variable}"
        if variable not in properties:
            raise PollenError(f"site file: {where}: {_unknown(variable, list(properties))}")
        _check(where, value, template["variables"], variable)
        properties[variable]["default"] = value
    return template


def pools_without_gpus(site: Site) -> list[str]:
    """Return the names of pools on a cluster that support GPUs but request none (`gpu_count: 0`).

    Raises:
        PollenError: See `plan_pools`.
    """
    templates = {
        name: pool_template(name, pool)
        for name, pool in site.pools.items()
        if pool.type == "kubernetes"
    }
    return [name for name, template in templates.items() if has_no_gpus(template)]


def _read_template(name: str, pool: SitePool, folder: Path | None) -> dict[str, Any]:
    folder = folder or deployments_folder() / "work-pools"
    path = folder / f"{pool.template or name}.json"
    try:
        template = json.loads(path.read_text(encoding="utf-8"))
        template["variables"], template["job_configuration"]
    except FileNotFoundError as error:
        known = ", ".join(sorted(each.stem for each in folder.glob("*.json"))) or "none"
        raise PollenError(
            f"work pool '{name}' has no job template {path}: name one as pools.{name}.template (there are: {known})"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PollenError(
            f"the job template {path} can't be used: expected JSON with 'variables' and 'job_configuration'"
        ) from error
    return dict(template)


def _gpu_resource(name: str, value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", value):
        return value
    raise PollenError(
        f"site file: pools.{name}.variables.{GPU_RESOURCE} can't be used: expected a name as `kubectl describe node` "
        "shows it, such as nvidia.com/gpu"
    )


def _unknown(variable: str, known: list[str]) -> str:
    close = difflib.get_close_matches(variable, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(sorted(known))}"
    return f"the job template has no such variable; {hint}"


def _check(where: str, value: object, schema: dict[str, Any], variable: str) -> None:
    """Refuse a value that no run could use, and keys that would stand in the server in plain text."""
    if variable == "env" and isinstance(value, dict):
        for name in value:
            if _SECRET.search(str(name)):
                raise PollenError(
                    f"site file: {where}.{name} looks like a secret, and everybody sees a work pool: put "
                    "it into the Secret pollen-s3 or into the worker's environment"
                )
    # The definitions go along: a variable's schema may refer to them.
    alone = {**schema, "properties": {variable: schema["properties"][variable]}, "required": []}
    if validate({variable: value}, alone):
        expected = (
            schema["properties"][variable].get("type") or "a value that fits the job template"
        )
        raise PollenError(
            f"site file: {where} can't be used: expected {expected}, found {type(value).__name__}"
        )


def _step(
    client: SyncPrefectClient,
    name: str,
    pool: SitePool,
    folder: Path | None,
    namespace: str | None,
) -> Step:
    saved = _saved(client, name)
    if saved is not None and saved.type != pool.type:
        return keep(
            KIND,
            name,
            f"has the type {saved.type}, which setup can't change; the site file says {pool.type}. Set {saved.type} "
            f"there, or, if nothing uses the pool, delete it (prefect work-pool delete {name}) and run "
            "`pollen setup` again",
            attention=True,
        )
    if namespace is None and saved is not None:
        # This computer knows no cluster: keep the namespace that another computer set.
        namespace = _default(saved.base_job_template, "namespace")
    template = pool_template(name, pool, folder, namespace)
    if saved is None:
        detail = (
            f"{pool.type}; own defaults: {_names(pool.variables)}" if pool.variables else pool.type
        )
        return Step(
            Change(KIND, name, "create", detail), partial(_create, client, name, pool, template)
        )
    update, differences = _differences(saved, pool, template)
    if not differences:
        paused = "paused" if saved.is_paused else ""
        return keep(KIND, name, paused or pool.type, attention=saved.is_paused)
    return Step(
        Change(KIND, name, "update", "; ".join(differences)),
        partial(client.update_work_pool, name, update),
    )


def _saved(client: SyncPrefectClient, name: str) -> WorkPool | None:
    try:
        return client.read_work_pool(name)
    except ObjectNotFound:
        return None


def _create(client: SyncPrefectClient, name: str, pool: SitePool, template: dict[str, Any]) -> None:
    wanted = WorkPoolCreate(
        name=name,
        type=pool.type,
        description="Runs of the pollen flows; made by `pollen setup`.",
        base_job_template=template,
        concurrency_limit=pool.concurrency_limit,
    )
    client.create_work_pool(wanted)


def _differences(
    saved: WorkPool, pool: SitePool, template: dict[str, Any]
) -> tuple[WorkPoolUpdate, list[str]]:
    """Return the update and its description; without values, which may be secret."""
    update: dict[str, Any] = {}
    words = []
    if saved.base_job_template != template:
        update["base_job_template"] = template
        changed = _changed_variables(saved.base_job_template, template)
        if changed:
            words.append(f"variables of the job template: {_names(changed)}")
        if saved.base_job_template.get("job_configuration") != template["job_configuration"]:
            words.append("manifest of the job template")
        words = words or ["job template"]
    if pool.concurrency_limit not in (None, saved.concurrency_limit):
        update["concurrency_limit"] = pool.concurrency_limit
        words.append(
            f"runs at once: {saved.concurrency_limit or 'any'} to {pool.concurrency_limit}"
        )
    return WorkPoolUpdate(**update), words


def _default(template: dict[str, Any], variable: str) -> str | None:
    value = template.get("variables", {}).get("properties", {}).get(variable, {}).get("default")
    return value if isinstance(value, str) else None


def _changed_variables(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    old = before.get("variables", {}).get("properties", {})
    new = after["variables"].get("properties", {})
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _names(variables: dict[str, Any] | list[str]) -> str:
    return ", ".join(sorted(variables))
