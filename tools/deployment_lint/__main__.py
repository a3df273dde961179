"""Print the faults, one line each; exit with 1 if there are any."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings
from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import ValidationError as Invalid

from tools.deployment_lint.rules import RULES, Case, check_file
from tools.deployment_lint.schema import Deployment, PrefectFile, explain
from tools.deployment_lint.templates import check_template

_FILE = Path("prefect.yaml")
_TEMPLATES = Path("deployments", "work-pools")


def lint(root: Path) -> list[str]:
    """Check the deployments and job templates of a checkout.

    Args:
        root: The checkout; becomes the working directory, as entrypoints are paths below it.

    Returns:
        The faults: file, place and sentence; empty if there are none.
    """
    os.chdir(root)
    templates = {path.stem: path for path in sorted(_TEMPLATES.glob("*.json"))}
    found = [
        f"{path}: {fault}" for path in (_FILE, *templates.values()) for fault in _secrets(path)
    ]
    for path in templates.values():
        found += [f"{path}: {fault}" for fault in check_template(json.loads(path.read_text()))]
    return found + [f"{_FILE}: {fault}" for fault in _deployments(templates)]


def _deployments(templates: dict[str, Path]) -> Iterator[str]:
    try:
        file = PrefectFile.model_validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        yield f"not YAML: {error}"
        return
    except Invalid as error:
        yield from (f"{'.'.join(map(str, where))}: {fault}" for where, fault in explain(error))
        return
    names = []
    for number, deployment in enumerate(file.deployments):
        where = f"deployments.{number} ({deployment.name})"
        case = _loaded(deployment, templates)
        if isinstance(case, str):
            yield f"{where}.{case}"
            continue
        names.append(f"{case.flow.name}/{deployment.name}")
        yield from (f"{where}.{fault}" for rule in RULES for fault in rule(case))
    yield from check_file(file, names)


def _loaded(deployment: Deployment, templates: dict[str, Path]) -> Case | str:
    """Load the flow and the pool's template of a deployment; return a fault if one is missing."""
    pool = deployment.work_pool.name
    if pool not in templates:
        return f"work_pool.name: no template {_TEMPLATES / pool}.json"
    try:
        flow: Flow[..., Any] = load_flow_from_entrypoint(deployment.entrypoint)
    except Exception as error:  # noqa: BLE001  (importing a module may raise anything)
        return f"entrypoint: {deployment.entrypoint} can't be loaded: {error!r}"
    return Case(deployment, flow, json.loads(templates[pool].read_text(encoding="utf-8")))


def _secrets(path: Path) -> Iterator[str]:
    with default_settings():
        for secret in scan_file(str(path)):
            yield f"line {secret.line_number}: looks like a secret ({secret.type})"


if __name__ == "__main__":
    faults = lint(Path(__file__).parents[2])
    sys.stderr.writelines(f"{fault}\n" for fault in faults)
    sys.exit(bool(faults))
