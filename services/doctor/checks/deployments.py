"""Deployments: whether those of ``prefect.yaml`` are on the server, and as they are written there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound

from services.doctor.checking import CONNECT_SECONDS, READ_SECONDS, About
from services.doctor.finding import Category, Finding
from services.prefect_server.connection import connected
from services.setup.deployments import declared_deployments, plan_deployments
from services.setup.plan import to_do
from services.setup.pools import pools_without_gpus
from services.site import APP_DIR, Site, deployments_folder
from tasks.cluster.deploy_hint import DEPLOY

#: Where pods find the flows: looked up where they run, or the image's own folder.
_IN_PODS: Final = {f"{{{{ ${APP_DIR} }}}}", "/opt/app"}

_ABOUT = About(Category.DEPLOYMENTS)


def check_deployments(site: Site) -> Iterator[Finding]:
    """Compare ``prefect.yaml`` with the server, as far as it says things without variables.

    Raises:
        PollenError: ``prefect.yaml`` or the server can't be used.
    """
    path = deployments_folder().parent / "prefect.yaml"
    declared = declared_deployments(path)
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
    used = {each.pool for each in declared}
    without_gpus = [pool for pool in pools_without_gpus(site) if pool in used]
    with connected(connect_s=CONNECT_SECONDS, read_s=READ_SECONDS) as client:
        for each, entry in zip(declared, entries, strict=True):
            yield from _deployment(client, each.name, entry, site, without_gpus)
        for step in to_do(plan_deployments(client, declared)[0]):
            yield _ABOUT.warning(
                f"deployment '{step.change.name}' is not in prefect.yaml any more",
                step.change.detail,
                "run `pollen setup`, which takes it away",
            )


def _deployment(
    client: SyncPrefectClient,
    name: str,
    entry: Mapping[str, Any],
    site: Site,
    without_gpus: Sequence[str],
) -> Iterator[Finding]:
    try:
        saved = client.read_deployment_by_name(name)
    except ObjectNotFound:
        yield _ABOUT.error(f"deployment '{name}' is missing", resolution=DEPLOY)
        return
    differences = list(_differences(saved, entry))
    if differences:
        yield _ABOUT.warning(
            f"deployment '{name}' is not as in prefect.yaml", "; ".join(differences), DEPLOY
        )
    else:
        yield _ABOUT.ok(f"deployment '{name}' is as in prefect.yaml")
    if saved.paused:
        yield _ABOUT.warning(
            f"deployment '{name}' is paused: its schedule starts nothing",
            resolution="resume it with the switch on its page in the Prefect UI",
        )
    pool = site.pools.get(saved.work_pool_name or "")
    if pool is not None and pool.type == "kubernetes":
        yield from _image(name, (saved.job_variables or {}).get("image"))
        yield from _code(name, saved.pull_steps or ())
        if without_gpus and _declared_device(entry):
            yield from _device(name, saved.parameters or {}, without_gpus)


def _differences(saved: DeploymentResponse, entry: Mapping[str, Any]) -> Iterator[str]:
    """What differs, in words; what has variables in it (``{{ ... }}``) is not compared."""
    plain = {
        "entrypoint": (entry.get("entrypoint"), saved.entrypoint),
        "work pool": ((entry.get("work_pool") or {}).get("name"), saved.work_pool_name),
        "tags": (sorted(entry.get("tags") or ()), sorted(saved.tags or ())),
        "description": (
            (entry.get("description") or "").strip(),
            (saved.description or "").strip(),
        ),
        "schedules": (_declared_schedules(entry), _saved_schedules(saved)),
        "concurrency limit": (_limit(entry), _saved_limit(saved)),
        "parameters": (_literal(entry.get("parameters") or {}), saved.parameters or {}),
    }
    for what, (wanted, there) in plain.items():
        if what == "parameters":
            yield from _parameters(wanted, there)
        elif wanted != there:
            if what == "description":
                yield "another description"
            else:
                yield f"{what}: {_shown(there)}, should be {_shown(wanted)}"


def _parameters(wanted: Any, there: Any, where: str = "") -> Iterator[str]:  # noqa: ANN401
    """Declared parameters that the server has otherwise; others may have been filled in."""
    for name, value in wanted.items():
        saved = there.get(name) if isinstance(there, Mapping) else None
        if isinstance(value, Mapping):
            yield from _parameters(value, saved or {}, f"{where}{name}.")
        elif saved != value:
            yield f"parameter {where}{name}: {_shown(saved)}, should be {_shown(value)}"


def _literal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without those that a variable decides when it is deployed."""
    kept = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            kept[name] = _literal(value)
        elif not (isinstance(value, str) and "{{" in value):
            kept[name] = value
    return kept


def _declared_schedules(entry: Mapping[str, Any]) -> list[str]:
    return sorted(
        f"{each.get('cron')} {each.get('timezone') or 'UTC'}"
        for each in entry.get("schedules") or ()
    )


def _saved_schedules(saved: DeploymentResponse) -> list[str]:
    return sorted(
        f"{each.schedule.cron} {each.schedule.timezone or 'UTC'}"
        + ("" if each.active else " (off)")
        if isinstance(each.schedule, CronSchedule)
        else str(each.schedule)
        for each in saved.schedules
    )


def _limit(entry: Mapping[str, Any]) -> int | None:
    limit = entry.get("concurrency_limit")
    return limit.get("limit") if isinstance(limit, Mapping) else limit


def _saved_limit(saved: DeploymentResponse) -> int | None:
    limit = saved.global_concurrency_limit
    return limit.limit if limit is not None else None


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _image(name: str, image: object) -> Iterator[Finding]:
    """Images that a node can't get, or that may be another one tomorrow."""
    if not image:
        yield _ABOUT.error(f"deployment '{name}' names no image", resolution=DEPLOY)
        return
    text = str(image)
    last = text.rpartition("/")[2]
    if text.startswith("ttl.sh/"):
        yield _ABOUT.warning(
            f"the image of '{name}' is on ttl.sh, which forgets it after a day at most",
            text,
            "push it to a registry that keeps it, and deploy again",
        )
    elif ":" not in last or last.endswith(":latest"):
        yield _ABOUT.warning(
            f"the image of '{name}' has no fixed tag: another one may run tomorrow",
            text,
            "name it with the commit it was made from, and deploy again",
        )


def _device(
    name: str, parameters: Mapping[str, Any], without_gpus: Sequence[str]
) -> Iterator[Finding]:
    """Runs that want a GPU where the site file says that there is none: deployed without the device."""
    if (parameters.get("settings") or {}).get("device") != "cpu":
        pools = ", ".join(f"'{pool}'" for pool in without_gpus)
        yield _ABOUT.error(
            f"runs of '{name}' will fail at their start: pool {pools} has no GPUs, and its settings lack device: cpu",
            "POLLEN_DEVICE=cpu has to be given with every deploy; without it the setting is taken away",
            f"{DEPLOY}. Here that is POLLEN_DEVICE=cpu. Or give the pool GPUs (gpu_count in deployments/site.yaml)",
        )


def _declared_device(entry: Mapping[str, Any]) -> object:
    """What ``prefect.yaml`` says of the device: of such runs only that either count or train."""
    return ((entry.get("parameters") or {}).get("settings") or {}).get("device")


def _code(name: str, steps: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Where pods look for the flows: what was the folder of whoever deployed is none of a pod's."""
    for step in steps:
        for given in step.values():
            folder = given.get("directory") if isinstance(given, Mapping) else None
            if folder and folder not in _IN_PODS:
                yield _ABOUT.error(
                    f"runs of '{name}' look for their code in {folder}, which is not in the image",
                    f"{APP_DIR} was set where it was deployed, and was filled in",
                    f"take it away (unset {APP_DIR}), then {DEPLOY}",
                )
