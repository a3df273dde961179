"""What is shipped can be used by anyone who has only Ultralytics."""

import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from pollen.training.recipe.network import new_network
from pollen.training.recipe.states import write_result

LOAD = """
import sys
sys.modules["pollen"] = None  # as if it were not installed
from ultralytics import YOLO
model = YOLO(sys.argv[1])
print(model.task, model.names)
print(model.ckpt["train_args"])
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a stage without a mean."""
    folder = tmp_path_factory.mktemp("weights")
    average = new_network(seed=3).state_dict()
    torch.save({"mean": {}, "average": average, "date": "2026-11-29"}, folder / "stage.pt")
    write_result(folder / "stage.pt", folder / "best.pt")
    return folder / "best.pt"


def test_the_weights_load_with_plain_ultralytics_alone(weights: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(weights)],
        cwd=tmp_path,
        env={"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "segment {0: 'viable', 1: 'non_viable'}" in done.stdout


def test_the_weights_name_no_class_of_ours_and_no_path(weights: Path) -> None:
    with zipfile.ZipFile(weights) as archive:
        pickled = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        operations = list(pickletools.genops(archive.read(pickled)))
    strings = [str(argument) for _, argument, _ in operations if isinstance(argument, str)]
    assert not [text for text in strings if text.startswith("pollen")]
    assert not [text for text in strings if text.startswith(("/", "~"))]


def test_the_weights_are_those_given(weights: Path) -> None:
    expected = new_network(seed=3).state_dict()
    found = torch.load(weights, weights_only=False)["model"].float().state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=2e-3, atol=1e-4)
