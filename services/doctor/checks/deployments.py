"""Check the deployments: those of `prefect.yaml` are on the server, and as declared."""

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

#: Folders in which pods find the flows: a variable of the pod, or the image's own folder.
_IN_PODS: Final = {f"{{{{ ${APP_DIR} }}}}", "/opt/app"}

_ABOUT = About(Category.DEPLOYMENTS)


def check_deployments(site: Site) -> Iterator[Finding]:
    """Compare `prefect.yaml` with the server, except for values with variables.

    Raises:
        PollenError: If `prefect.yaml` or the server can't be used.
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
                f"deployment '{step.change.name}' is no longer in prefect.yaml",
                step.change.detail,
                "run `pollen setup`, which deletes it",
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
            f"deployment '{name}' differs from prefect.yaml", "; ".join(differences), DEPLOY
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
    """Describe the differences; values with variables (`{{ ... }}`) are not compared."""
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
                yield "the description"
            else:
                yield f"{what}: {_shown(there)}, should be {_shown(wanted)}"


def _parameters(wanted: Any, there: Any, where: str = "") -> Iterator[str]:  # noqa: ANN401
    """Describe declared parameters that differ on the server; it may have others, which were filled in."""
    for name, value in wanted.items():
        saved = there.get(name) if isinstance(there, Mapping) else None
        if isinstance(value, Mapping):
            yield from _parameters(value, saved or {}, f"{where}{name}.")
        elif saved != value:
            yield f"parameter {where}{name}: {_shown(saved)}, should be {_shown(value)}"


def _literal(values: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the values that a variable decides at deploy time."""
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
    """Report images that a node can't pull, or that may change."""
    if not image:
        yield _ABOUT.error(f"deployment '{name}' names no image", resolution=DEPLOY)
        return
    text = str(image)
    last = text.rpartition("/")[2]
    if text.startswith("ttl.sh/"):
        yield _ABOUT.warning(
            f"the image of '{name}' is on ttl.sh, which deletes it after a day at most",
            text,
            "push it to a registry that keeps it, and deploy again",
        )
    elif ":" not in last or last.endswith(":latest"):
        yield _ABOUT.warning(
            f"the image of '{name}' has no fixed tag: a different image may run tomorrow",
            text,
            "use the commit that it was built from as its tag, and deploy again",
        )


def _device(
    name: str, parameters: Mapping[str, Any], without_gpus: Sequence[str]
) -> Iterator[Finding]:
    """Report runs that need a GPU although the site file says that there is none."""
    if (parameters.get("settings") or {}).get("device") != "cpu":
        pools = ", ".join(f"'{pool}'" for pool in without_gpus)
        yield _ABOUT.error(
            f"runs of '{name}' will fail at the start: pool {pools} has no GPUs, and its settings lack device: cpu",
            "POLLEN_DEVICE=cpu must be set for every deploy; without it, the setting is removed",
            f"{DEPLOY}. Here, set POLLEN_DEVICE=cpu. Or give the pool GPUs (gpu_count in deployments/site.yaml)",
        )


def _declared_device(entry: Mapping[str, Any]) -> object:
    """Return the device that `prefect.yaml` declares; only runs that count or train have one."""
    return ((entry.get("parameters") or {}).get("settings") or {}).get("device")


def _code(name: str, steps: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Report runs that look for their code in a folder of the machine from which they were deployed."""
    for step in steps:
        for given in step.values():
            folder = given.get("directory") if isinstance(given, Mapping) else None
            if folder and folder not in _IN_PODS:
                yield _ABOUT.error(
                    f"runs of '{name}' look for their code in {folder}, which is not in the image",
                    f"{APP_DIR} was set on the machine from which it was deployed, and was filled in",
                    f"unset {APP_DIR}, then {DEPLOY}",
                )
