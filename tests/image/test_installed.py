"""The image's contents run as its user, from a tree that can't be written to.

No container engine runs here. What stands for the image is described in `tests/support/installed.py`.
"""

import csv
import re
from importlib.metadata import distributions

import pytest
import yaml

from pollen.synth import sample_frames
from pollen.synth.samples import write_frame
from tests.support.installed import Installed
from tests.support.runs import COUNTS, GRAINS, REPORT, REPOSITORY, rows

# The first of them installs several GB; links into uv's cache make it quick on one disk.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_lock_and_this_project_are_all_that_is_installed(image: Installed) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    # Of some packages it holds several versions, for several versions of Python.
    locked = set(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    found = {
        re.sub(r"[-_.]+", "-", one.name).lower(): one.version
        for one in distributions(path=[str(image.packages)])
    }

    assert found.pop("pollen-viability-flows")
    assert {"prefect", "prefect-kubernetes", "torch", "ultralytics"} <= found.keys()
    assert found.items() <= locked
    scripts = {path.name for path in (image.venv / "bin").iterdir()}
    assert {"pollen", "prefect"} <= scripts
    assert not scripts & {"pip", "pip3", "uv", "weed"}


def test_the_user_can_t_write_to_what_is_installed(image: Installed) -> None:
    for folder in (image.app, image.app / "flows", image.packages, image.packages / "pollen"):
        told = image.run("touch", folder / "written")
        assert told.returncode != 0, folder
        assert "denied" in told.stderr or "Read-only" in told.stderr


def test_the_health_command_is_content_and_names_the_revision(image: Installed) -> None:
    told = image.run("python", "-m", "services.health")

    assert told.returncode == 0, told.stderr
    assert "Healthy" in told.stdout
    assert "of-this-test" in told.stdout


def test_the_programs_of_pods_and_workers_answer(image: Installed) -> None:
    help_of_ours = image.run("pollen", "--help")
    prefect = image.run("prefect", "version")
    kubernetes = image.run("prefect", "worker", "start", "--help")

    assert "detect" in help_of_ours.stdout
    assert prefect.returncode == 0, prefect.stderr
    locked = re.search(r"^prefect==(\S+)", (REPOSITORY / "requirements.lock").read_text(), re.M)
    assert locked
    assert locked[1] in prefect.stdout
    assert kubernetes.returncode == 0, kubernetes.stderr


def test_sample_micrographs_are_counted_and_nothing_is_written_beside_scratch(
    image: Installed,
) -> None:
    pictures = image.root / "pictures"
    pictures.mkdir()
    for name, frame in sample_frames():
        write_frame(pictures / name, frame)
    before = image.listing()

    told = image.run("pollen", "detect", pictures, "--output", image.scratch / "results")

    assert told.returncode == 0, told.stderr
    output = image.scratch / "results"
    truth = {name: sum(frame.truth_counts().values()) for name, frame in sample_frames()}
    found = rows(output)
    assert found.keys() == truth.keys()
    detected = sum(int(row["total_detected"]) for row in found.values())
    assert abs(detected - sum(truth.values())) <= 0.1 * sum(truth.values())
    with (output / GRAINS).open(newline="", encoding="utf-8") as table:
        assert len(list(csv.reader(table))) == 1 + detected
    assert (output / COUNTS).stat().st_uid == image.scratch.stat().st_uid
    assert (output / REPORT).is_file()
    assert image.listing() == before


def test_prefect_finds_the_flow_of_every_deployment_where_pods_start(image: Installed) -> None:
    deployments = yaml.safe_load((image.app / "prefect.yaml").read_text())["deployments"]
    entrypoints = sorted({deployment["entrypoint"] for deployment in deployments})
    code = """
import sys
import pollen, tasks
from prefect.flows import load_flow_from_entrypoint
for entrypoint in sys.argv[1:]:
    print(load_flow_from_entrypoint(entrypoint).name)
print(pollen.__file__, tasks.__file__)
"""

    told = image.run("python", "-c", code, *entrypoints)

    assert told.returncode == 0, told.stderr
    *names, places = told.stdout.splitlines()
    assert {"detect", "train", "promote"} <= set(names)
    assert all(place.startswith(str(image.packages)) for place in places.split())
