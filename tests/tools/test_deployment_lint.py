"""The linter finds what Prefect would take without a word."""

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import flow
from prefect.flows import Flow, load_flow_from_entrypoint
from pydantic import ValidationError as Invalid

from tools.deployment_lint.__main__ import lint
from tools.deployment_lint.rules import CONTRACT, RULES, Case, check_file
from tools.deployment_lint.schema import PrefectFile, explain
from tools.deployment_lint.templates import check_template

ROOT = Path(__file__).parents[2]
FILE: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
TEMPLATE: dict[str, Any] = json.loads((ROOT / "deployments/work-pools/gpu.json").read_text())
TRAIN = next(
    number for number, each in enumerate(FILE["deployments"]) if "train.py" in each["entrypoint"]
)


@pytest.fixture(scope="module")
def train() -> Flow[..., Any]:
    return load_flow_from_entrypoint(str(ROOT / "flows/train.py:train"))


def faults(train: Flow[..., Any], change: Callable[[dict[str, Any]], object]) -> list[str]:
    """What is found in train/on-demand after a change."""
    data = deepcopy(FILE)
    change(data["deployments"][TRAIN])
    try:
        file = PrefectFile.model_validate(data)
    except Invalid as error:
        return [f"{where[-1]}: {fault}" for where, fault in explain(error)]
    case = Case(file.deployments[TRAIN], train, TEMPLATE)
    return [fault for rule in RULES for fault in rule(case)]


def test_nothing_is_wrong_with_ours(train: Flow[..., Any]) -> None:
    assert faults(train, lambda _: None) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        # keys that Prefect would ignore
        (lambda d: d.update(paramters={}), "paramters: no such key"),
        (lambda d: d["work_pool"].update(work_queue="x"), "work_queue: no such key"),
        (lambda d: d["concurrency_limit"].update(grace=1), "grace: no such key"),
        (lambda d: d.update(schedule={"cron": "0 1 * * *"}), "outdated"),
        (lambda d: d.update(triggers=[]), "declare an automation"),
        (lambda d: d.update(pull=[]), "at the top of the file"),
        # what it would take and we do not
        (lambda d: d.update(concurrency_limit=1), "concurrency_limit"),
        (lambda d: d["concurrency_limit"].update(grace_period_seconds=300), "3600"),
        (lambda d: d["concurrency_limit"].update(collision_strategy="WAIT"), "ENQUEUE"),
        (lambda d: d.update(description="Trains."), "description"),
        (lambda d: d.update(entrypoint="train.py"), "entrypoint"),
        (lambda d: d.update(schedules=[{"cron": "0 1 * * *", "slug": "s"}]), "timezone"),
        # schedules
        (
            lambda d: d.update(
                schedules=[{"cron": "61 1 * * *", "timezone": "Europe/Prague", "slug": "s"}]
            ),
            "schedules[0]",
        ),
        (
            lambda d: d.update(
                schedules=[{"cron": "0 1 * * *", "timezone": "Europe/Prag", "slug": "s"}]
            ),
            "schedules[0]",
        ),
        (
            lambda d: d.update(
                schedules=2 * [{"cron": "0 1 * * *", "timezone": "Europe/Prague", "slug": "s"}]
            ),
            "same slug",
        ),
        # names, tags, pools
        (lambda d: d.update(name="ondemand"), "'train/ondemand' is not among the agreed names"),
        (lambda d: d["work_pool"].update(name="cpu"), "expected 'gpu', found 'cpu'"),
        (lambda d: d.update(tags=["train"]), "'pollen' is missing"),
        # parameters
        (lambda d: d["parameters"].update(datset="x"), "did you mean dataset?"),
        (lambda d: d["parameters"].update(fresh="perhaps"), "parameters.fresh"),
        (lambda d: d["parameters"].update(settings={"epoch": 3}), "epoch"),
        (lambda d: d["parameters"].update(settings={"epochs": "many"}), "settings.epochs"),
        (
            lambda d: d.update(
                schedules=[
                    {
                        "cron": "0 1 * * *",
                        "timezone": "Europe/Prague",
                        "slug": "s",
                        "parameters": {"fesh": True},
                    }
                ]
            ),
            "schedules[0].parameters.fesh",
        ),
        # job variables
        (lambda d: jobs(d).update(gpu_cuont=1), "did you mean gpu_count?"),
        (lambda d: jobs(d).update(gpu_count="two"), "job_variables.gpu_count"),
        (lambda d: jobs(d).update(memory_limit="12 GB"), "job_variables.memory_limit"),
        # secrets
        (lambda d: jobs(d).update(env={"AWS_SECRET_ACCESS_KEY": "x"}), "looks like a secret"),
        (lambda d: jobs(d).update({"env.API_KEY": "x"}), "looks like a secret"),
        (
            lambda d: jobs(d).update(env={"KEY": "{{ prefect.blocks.secret.s3 }}"}),
            "stored for everyone to read",
        ),
        (lambda d: jobs(d).update(image="{{ $POLLEN_IMAGE }}"), "stored for everyone to read"),
        (
            lambda d: d["parameters"].update(dataset="{{ prefect.variables.set }}"),
            "stored for everyone to read",
        ),
    ],
)
def test_finds(
    train: Flow[..., Any], change: Callable[[dict[str, Any]], object], said: str
) -> None:
    found = faults(train, change)
    assert any(said in fault for fault in found), found


def jobs(deployment: dict[str, Any]) -> dict[str, Any]:
    variables: dict[str, Any] = deployment["work_pool"]["job_variables"]
    return variables


def test_dot_keys_of_environment_variables_are_known(train: Flow[..., Any]) -> None:
    assert faults(train, lambda d: jobs(d).update({"env.OMP_NUM_THREADS": "4"})) == []


def test_what_concerns_the_whole_file() -> None:
    data = deepcopy(FILE)
    data["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": "/home/me"}}]
    names = sorted(CONTRACT)[1:]
    found = list(check_file(PrefectFile.model_validate(data), [*names, names[0]]))
    assert len(found) == 3
    assert "only the step" in found[0]
    assert "twice" in found[1]
    assert f"{min(CONTRACT)} is missing" in found[2]


def test_a_file_that_is_no_mapping() -> None:
    with pytest.raises(Invalid) as caught:
        PrefectFile.model_validate([])
    assert "expected a mapping" in explain(caught.value)[0][1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["variables"].pop("additionalProperties"), "misspelt job variables"),
        (lambda t: t["variables"]["properties"].pop("shm_size"), "no variable 'shm_size'"),
        (
            lambda t: t["variables"]["properties"].update(
                more={"title": "More", "description": "More."}
            ),
            "more: the manifest does not use it",
        ),
        (lambda t: t["variables"]["properties"]["image"].pop("description"), "'description'"),
        (
            lambda t: t["variables"]["properties"]["gpu_count"].update(default="one"),
            "gpu_count.default",
        ),
        (lambda t: t["variables"].update(type="thing"), "variables:"),
    ],
)
def test_finds_in_a_template(change: Callable[[dict[str, Any]], object], said: str) -> None:
    template = deepcopy(TEMPLATE)
    change(template)
    found = list(check_template(template))
    assert any(said in fault for fault in found), found


def test_a_whole_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "deployments/work-pools", tmp_path / "deployments/work-pools")
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    good = (ROOT / "prefect.yaml").read_text(encoding="utf-8")
    (tmp_path / "prefect.yaml").write_text(good)
    assert lint(tmp_path) == []

    # What looks like a key is found wherever it stands; this one was made up.
    key = "AKIA" + "Z7Q4M2X9K1B8C3D5"
    (tmp_path / "prefect.yaml").write_text(
        good.replace("entrypoint: flows/train.py:train", "entrypoint: flows/train.py:tain").replace(
            "name: gpu\n      job", "name: gpus\n      job", 1
        )
        + f"        env: {{NOTE: {key}}}\n"
    )
    found = lint(tmp_path)
    assert any("AWS Access Key" in fault for fault in found)
    assert any("flows/train.py:tain can't be loaded" in fault for fault in found)
    assert any("no template deployments/work-pools/gpus.json" in fault for fault in found)
    assert any("train/on-demand is missing" in fault for fault in found)

    (tmp_path / "prefect.yaml").write_text("deployments: [")
    assert any("not YAML" in fault for fault in lint(tmp_path))


def test_a_flow_beside_ours_has_no_agreed_name(train: Flow[..., Any]) -> None:
    @flow(name="other")
    def other() -> None: ...

    deployment = PrefectFile.model_validate(FILE).deployments[TRAIN]
    found = [fault for rule in RULES for fault in rule(Case(deployment, other, TEMPLATE))]
    assert any("'other/on-demand' is not among the agreed names" in fault for fault in found)
