"""The shipped model does what its card says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pollen.bundled
from pollen.dataset.labelled import read_pictures
from pollen.evaluation.evaluate import Evaluation, evaluate
from pollen.models.card import ModelCard, check_weights
from pollen.training.recipe.rendered import render_split
from tests.pollen.evaluation.judging import known

FOLDER = Path(pollen.bundled.__file__).parent
NEVER_TRAINED_ON = 555_000
"""Seed of rendered frames, far from those of the training and of the choice of thresholds."""
PLANT_COLUMNS = "| plant | pictures | grains | count error | viability labelled | found |"


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
    facts = json.loads((FOLDER / "model.json").read_text(encoding="utf-8"))
    assert "Pollination-Ecology-Group/Pollen_viability" in text
    assert facts["licence"] == "AGPL-3.0"
    assert text.endswith("\n\nLicence: AGPL-3.0, as Ultralytics YOLO.\n")
    for name in facts["training"]["data"], facts["training"]["stages"]:
        assert "/" not in json.dumps(name).replace("Pollination-Ecology-Group/", "")
    words = " ".join(text.split())
    assert [one for one in [*made_with(facts), *reached_on_val(facts)] if one not in words] == []
    _, _, plants = text.partition(f"{PLANT_COLUMNS}\n|---|---|---|---|---|---|\n")
    table, _, _ = plants.partition("\n\n")
    assert table.splitlines() == list(plant_rows(facts))
    assert "`pollen train DATA --output PLACE --set recipe=bundled`" in words


def made_with(facts: dict[str, Any]) -> Iterator[str]:
    """What the card for people has to say of the weights, their data and their scale."""
    data = facts["training"]["data"]
    yield f"# Model card: {facts['version']}"
    yield f"SHA-256 of `best.pt`: `{facts['sha256']}`"
    yield f"{data['pictures']} labelled pictures (640 x 640 px) of {data['plants']} plants"
    yield f"{data['viable']} viable and {data['non_viable']} non-viable grains"
    yield f"{data['without_grains']} pictures without any"
    yield f"{data['rendered_frames']} rendered micrographs"
    yield f"the confidence ({facts['confidence']})"
    yield f"non-viable a viable grain must be ({facts['viable_odds']})"
    yield f"works at {facts['working_scale']} of the pictures' resolution, in tiles of {facts['tile_px']} px"
    yield f"measured {facts['grain_diameter_px']} px in the median"
    low, high = facts["grain_diameter_range_px"]
    yield f"from {low:.0f} to {high:.0f} px), at most {facts['max_grain_px']:.0f} px"


def reached_on_val(facts: dict[str, Any]) -> Iterator[str]:
    """What the card for people has to say of the val split: the rows of its first table."""
    val = facts["metrics"]["val"]
    whole = val["overall"]
    yield (
        f"| {whole['count_error_percent']:.2f} % ({whole['count_error']} of {whole['grains']} grains; "
        f"false {whole['false']}, missed {whole['missed']}) |"
    )
    yield f"| {whole['viability_true']:.2f} % and {whole['viability_found']:.2f} % |"
    yield f"| grains of the wrong class | {whole['confused']} |"
    for name in "map50", "map50_95":
        yield f"| {val[name]['viable']:.4f} and {val[name]['non_viable']:.4f} |"
    for name in "viable", "non_viable":
        rate = val["called_wrong"][name]
        percent, low, high = (100 * rate[key] for key in ("fraction", "low", "high"))
        yield (
            f"| {percent:.1f} % ({rate['events']} of {rate['grains']} grains of {rate['units']} plants; "
            f"{low:.1f} to {high:.1f} %) |"
        )


def plant_rows(facts: dict[str, Any]) -> Iterator[str]:
    """The rows of the table of plants, of the val split, in its order."""
    for name, plant in facts["metrics"]["val"]["groups"].items():
        rates = (
            plant.get(key) for key in ("count_error_percent", "viability_true", "viability_found")
        )
        has_grains = plant["grains"] > 0
        cells = [f"{rate:.1f} %" if rate is not None and has_grains else "-" for rate in rates]
        yield f"| {name} | {plant['pictures']} | {plant['grains']} | {' | '.join(cells)} |"


@pytest.mark.slow
def test_rendered_frames_are_counted(card: ModelCard, tmp_path: Path) -> None:
    render_split(tmp_path / "frames", 16, NEVER_TRAINED_ON, workers=1)
    reached = run(tmp_path / "frames", card, tmp_path / "cache")
    assert known(reached.figures.overall.grains) > 100
    assert known(reached.figures.overall.count_error_percent) < 6
    assert abs(known(reached.figures.overall.viability_error)) < 3
    assert abs(known(reached.figures.diameter_error_percent.median)) < 3


@pytest.mark.slow
def test_val_reaches_what_the_card_states(
    card: ModelCard, real_pictures: Path, tmp_path: Path
) -> None:
    reached = run(real_pictures / "val", card, tmp_path / "cache")
    stated = card.metrics["val"]
    assert reached.figures.overall.pictures == stated["overall"]["pictures"]
    assert reached.figures.overall.count_error == pytest.approx(
        stated["overall"]["count_error"], abs=2
    )
    assert reached.figures.overall.viability_found == pytest.approx(
        stated["overall"]["viability_found"], abs=0.3
    )
    for name, value in stated["map50"].items():
        assert reached.figures.map50[name] == pytest.approx(value, abs=0.005)
