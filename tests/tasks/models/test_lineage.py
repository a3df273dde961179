"""Models are known by the hash of their weights; what is not recorded is unknown, never nothing."""

import json
from pathlib import Path

import pytest

from pollen.layout import training_key
from pollen.training.lineage import LEARNT_FROM, Lineage
from tasks.models.lineage import lineage_of
from tasks.models.resolve import BUNDLED, Model, resolve_model
from tasks.storage.store import Location, open_store
from tests.support.models import put_model, stand_in

LEARNT = Lineage().and_of(["1-1-A_2x"])


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return Location(folder=tmp_path / "root")


def published(root: Location, folder: Path, training: bytes | None) -> Model:
    card = put_model(root, folder, "one")
    if training is not None:
        open_store(root).write(training_key("one"), training)
    return Model(folder / "one.weights", card)


def test_the_bundled_model_names_its_plants(root: Location) -> None:
    lineage = lineage_of(resolve_model(BUNDLED, root), root)

    assert lineage.complete
    assert "1-3-f_s4x" in lineage.plants
    assert len(lineage.plants) == 32  # 29 with grains; the debris of three more is shown


def test_a_published_model_says_what_it_learnt_from(root: Location, tmp_path: Path) -> None:
    told = json.dumps({LEARNT_FROM: LEARNT.model_dump(mode="json")}).encode()

    assert lineage_of(published(root, tmp_path, told), root) == LEARNT


@pytest.mark.parametrize("training", [None, b"{", b"[]", b"{}"])
def test_a_published_model_without_a_record_is_unknown(
    root: Location, tmp_path: Path, training: bytes | None
) -> None:
    assert lineage_of(published(root, tmp_path, training), root) == Lineage.unknown()


def test_other_weights_of_the_same_name_and_files_are_unknown(
    root: Location, tmp_path: Path
) -> None:
    told = json.dumps({LEARNT_FROM: LEARNT.model_dump(mode="json")}).encode()
    published(root, tmp_path, told)
    for name in ("one", "two"):
        card, weights = stand_in(tmp_path / "files", name, b"other weights")
        assert lineage_of(Model(weights, card), root) == Lineage.unknown()
