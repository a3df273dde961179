"""The shipped model does what its card says."""

import json
from pathlib import Path

import pytest

import pollen.bundled
from pollen.evaluation.evaluate import Evaluation, evaluate
from pollen.evaluation.pictures import read_pictures
from pollen.models.card import ModelCard, check_weights
from pollen.training.recipe.card_text import card_text
from pollen.training.recipe.rendered import render_split

FOLDER = Path(pollen.bundled.__file__).parent
NEVER_TRAINED_ON = 555_000
"""Seed of rendered frames, far from those of the training and of the choice of thresholds."""


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return ModelCard.read(FOLDER / "model.json")


def run(root: Path, card: ModelCard, cache: Path) -> Evaluation:
    return evaluate(read_pictures(root), FOLDER / "best.pt", card, cache)


def test_the_card_belongs_to_the_weights(card: ModelCard) -> None:
    check_weights(FOLDER / "best.pt", card)
    assert card.classes == ("viable", "non_viable")
    assert (FOLDER / "best.pt").stat().st_size < 8_000_000


def test_both_cards_tell_the_same_and_name_the_source(card: ModelCard) -> None:
    text = (FOLDER / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text == card_text(json.loads((FOLDER / "model.json").read_text(encoding="utf-8")))
    assert "Pollination-Ecology-Group/Pollen_viability" in text
    assert card.sha256[:12] in text
    facts = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
    assert facts["licence"] == "AGPL-3.0"
    assert f"{facts['metrics']['val']['overall']['count_error_percent']:.2f} %" in text
    for name in facts["training"]["data"], facts["training"]["stages"]:
        assert "/" not in json.dumps(name).replace("Pollination-Ecology-Group/", "")


@pytest.mark.slow
def test_rendered_frames_are_counted(card: ModelCard, tmp_path: Path) -> None:
    render_split(tmp_path / "frames", 16, NEVER_TRAINED_ON, workers=1)
    reached = run(tmp_path / "frames", card, tmp_path / "cache")
    assert reached.overall.grains > 100
    reached_percent, error = reached.overall.count_error_percent, reached.overall.viability_error
    assert reached_percent is not None
    assert reached_percent < 6
    assert error is not None
    assert abs(error) < 3
    assert reached.diameter_error is not None
    assert abs(reached.diameter_error[0]) < 3


@pytest.mark.slow
def test_val_reaches_what_the_card_states(
    card: ModelCard, real_pictures: Path, tmp_path: Path
) -> None:
    reached = run(real_pictures / "val", card, tmp_path / "cache")
    stated = card.metrics["val"]
    assert reached.overall.pictures == stated["overall"]["pictures"]
    assert reached.overall.count_error == pytest.approx(stated["overall"]["count_error"], abs=2)
    assert reached.overall.viability_found == pytest.approx(
        stated["overall"]["viability_found"], abs=0.3
    )
    for name, value in stated["map50"].items():
        assert reached.map50[name] == pytest.approx(value, abs=0.005)
