"""What is shipped can be used by anyone who has only Ultralytics."""

import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from pollen.evaluation.pictures import origin_by_name
from pollen.models.card import check_weights
from pollen.training.collage import Outline
from pollen.training.recipe.network import new_network
from pollen.training.recipe.pictures import LabelledPicture
from pollen.training.recipe.publish import training_facts, write_card
from pollen.training.recipe.states import average_weights, write_weights

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
    path = tmp_path_factory.mktemp("weights") / "best.pt"
    write_weights(new_network(seed=3).state_dict(), path)
    return path


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


def test_averaging_takes_the_mean_of_averages_and_plain_states(tmp_path: Path) -> None:
    one, three = ({"w": torch.tensor([v]), "n": torch.tensor(int(v))} for v in (1.0, 3.0))
    torch.save({"average": one, "step": 5}, tmp_path / "a.pt")
    torch.save(three, tmp_path / "b.pt")
    mean = average_weights([tmp_path / "a.pt", tmp_path / "b.pt"])
    assert mean["w"].item() == 2
    assert mean["n"].item() == 3


def labelled(name: str, *diameters: float) -> LabelledPicture:
    """A picture of which only the grains matter."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.sqrt(np.pi) / 4  # area of a disc
    outlines = tuple(Outline(0, (corners * d).astype(np.float32)) for d in diameters)
    return LabelledPicture(
        name, origin_by_name(name).group, np.zeros((1, 1, 3), np.uint8), outlines
    )


def test_plants_are_those_whose_grains_were_seen(tmp_path: Path) -> None:
    """Debris on a plain canvas is named after plants, too."""
    pictures = [
        labelled("1-3-F_S4x_B_1.png", 40),
        labelled("1-3-F_S4x_B_2.png"),
        labelled("neg_syn_8-6-I_4x_A_1.jpg"),
    ]
    torch.save({"seconds": 1}, tmp_path / "a.pt")
    data = training_facts([], pictures, [tmp_path / "a.pt"])["data"]
    assert (data["pictures"], data["without_grains"], data["plants"]) == (3, 2, 1)


def test_the_card_speaks_of_its_weights(weights: Path) -> None:
    facts = {
        "version": "bundled-1",
        "tile_px": 320,
        "working_scale": 0.5,
        "grain_diameter_px": 61.5,
        "confidence": 0.4,
        "merge_iou": 0.5,
    }
    card = write_card(weights, facts)
    check_weights(weights, card)
    assert (card.tile_px, card.working_scale, card.confidence) == (320, 0.5, 0.4)
