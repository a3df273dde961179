"""A model that finds grains in tiles."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pollen.detection.detector import Detector
from pollen.detection.grains import Grains, overlaps
from pollen.models.card import ModelError
from tests.pollen.conftest import Prepared
from tests.pollen.grain_making import equal
from tests.pollen.model_making import TILE_PX, rendered, write_model


def test_no_tiles_need_no_model(on_openvino: Detector) -> None:
    assert on_openvino.detect([]) == []


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_classes_go_by_name_whatever_their_number(backend: str, tmp_path: Path) -> None:
    """The same weights with the names the other way round, and without masks."""
    tile = rendered(1, TILE_PX, seed=1)[0]
    found = []
    for names in (("viable", "non_viable"), ("Non-viable", "viable")):
        folder = tmp_path / names[0]
        folder.mkdir()
        card = write_model(folder / "best.pt", names=names)
        model = Prepared(folder / "best.pt", card, tmp_path / "cache")
        (grains,) = model.detector(backend=backend, confidence=0.25).detect([tile])
        found.append(grains)
    assert len(found[0]) > 5
    assert np.array_equal(found[0].boxes, found[1].boxes)
    assert set(found[0].classes) == {0, 1}
    assert (found[0].classes + found[1].classes == 1).all()


def test_confidence_and_merging_are_those_of_the_settings(tmp_path: Path) -> None:
    card = write_model(tmp_path / "best.pt")
    model = Prepared(tmp_path / "best.pt", card, tmp_path / "cache")
    tile = rendered(1, TILE_PX, seed=1)[0]

    def found(**settings: object) -> Grains:
        return model.detector(backend="torch", **settings).detect([tile])[0]

    few, many = found(confidence=0.4), found(confidence=0.2)
    assert 0 < len(few) < len(many)
    assert few.confidence.min() >= 0.4
    apart, close = found(confidence=0.2, merge_iou=0.1), found(confidence=0.2, merge_iou=0.8)
    assert len(apart) < len(close)
    for row in range(len(apart)):
        by_union, _ = overlaps(apart.boxes[row], np.delete(apart.boxes, row, axis=0))
        assert (by_union <= 0.1).all()


def test_a_model_of_other_things_is_refused(tmp_path: Path) -> None:
    card = write_model(tmp_path / "best.pt", names=("cat", "dog"))
    model = Prepared(tmp_path / "best.pt", card, tmp_path / "cache")
    with pytest.raises(ModelError, match="model 'random' does not know our classes: unknown class"):
        model.detector(backend="torch")


def test_threads_take_turns(on_openvino: Detector, tiles: list[NDArray[np.uint8]]) -> None:
    """Two batches at once on one model: each gets its own grains."""
    alone = [on_openvino.detect([tile])[0] for tile in tiles]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda tile: on_openvino.detect([tile] * 3), tiles * 2))
    for place, answers in enumerate(together):
        assert all(equal(answer, alone[place % len(tiles)]) for answer in answers)
