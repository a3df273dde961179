import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pollen.arrays import FloatArray
from pollen.detection.backends import Backend, OpenVinoBackend, TorchBackend, prepared_openvino
from pollen.detection.detector import Detector
from pollen.detection.grains import overlaps
from pollen.models.card import ModelCard, ModelError, sha256_of
from tests.pollen.conftest import Prepared
from tests.pollen.grain_making import equal
from tests.pollen.model_making import TILE_PX, Bomb, write_model

Tiles = list[NDArray[np.uint8]]
Output = tuple[FloatArray, FloatArray | None]


def outputs(backend: Backend, tiles: Tiles) -> list[Output]:
    """Copies of the raw output and the prototypes of each tile."""
    found: dict[int, Output] = {}

    def keep(number: int, raw: FloatArray, prototypes: FloatArray | None) -> None:
        found[number] = raw.copy(), None if prototypes is None else prototypes.copy()

    backend.run(tiles, keep)
    return [found[number] for number in range(len(tiles))]


def torch_backend(weights: Path, card: ModelCard, cache: Path) -> Backend:
    return TorchBackend(weights, card, cache, device="cpu", half=False)


BACKENDS = pytest.mark.parametrize("make", [OpenVinoBackend, torch_backend])
Make = Callable[[Path, ModelCard, Path], Backend]


@pytest.fixture(scope="module")
def box_model(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A model that makes boxes and no masks."""
    folder = tmp_path_factory.mktemp("boxes")
    card = write_model(folder / "boxes.pt")
    return Prepared(folder / "boxes.pt", card, folder / "cache")


def test_openvino_and_torch_find_the_same_grains(
    on_openvino: Detector, on_torch: Detector, tiles: Tiles
) -> None:
    grains = 0
    for ours, theirs in zip(on_openvino.detect(tiles), on_torch.detect(tiles), strict=True):
        assert len(ours) == len(theirs)
        for row, box in enumerate(ours.boxes):
            by_union, _ = overlaps(box, theirs.boxes)
            other = int(by_union.argmax())
            assert np.abs(box - theirs.boxes[other]).max() < 0.5
            assert ours.confidence[row] == pytest.approx(theirs.confidence[other], abs=0.01)
            assert ours.classes[row] == theirs.classes[other]
            assert ours.areas_px[row] == pytest.approx(theirs.areas_px[other], rel=0.02)
        grains += len(ours)
    assert grains > 20


@pytest.mark.parametrize("which", ["on_openvino", "on_torch"])
def test_a_tile_does_not_know_its_neighbours(
    which: str, request: pytest.FixtureRequest, tiles: Tiles
) -> None:
    """Bit for bit the same alone, in any place of a call, and beside any other tiles."""
    detector: Detector = request.getfixturevalue(which)
    alone = [detector.detect([tile])[0] for tile in tiles[:3]]
    blank = np.zeros_like(tiles[0])
    for call, places in (
        ([*tiles[:3]], [0, 1, 2]),
        ([blank, tiles[2], tiles[5], tiles[0], tiles[1]], [3, 4, 1]),
    ):
        together = detector.detect(call)
        assert all(equal(alone[row], together[place]) for row, place in enumerate(places))


def test_colours_reach_the_model_as_rgb(on_openvino: Detector, tiles: Tiles) -> None:
    """Magenta is the signal: with red and blue swapped the model is less sure of what it sees."""
    right = sum(grains.confidence.sum() for grains in on_openvino.detect(tiles))
    swapped = [np.ascontiguousarray(tile[..., ::-1]) for tile in tiles]
    wrong = sum(grains.confidence.sum() for grains in on_openvino.detect(swapped))
    assert wrong < 0.8 * right


@BACKENDS
def test_a_model_without_masks(make: Make, box_model: Prepared) -> None:
    backend = make(box_model.weights, box_model.card, box_model.cache)
    assert backend.facts.task == "detect"
    assert backend.facts.names == {0: "viable", 1: "non_viable"}
    noise = np.random.default_rng(0).integers(0, 256, (TILE_PX, TILE_PX, 3), np.uint8)
    ((raw, prototypes),) = outputs(backend, [noise])
    assert raw.shape == (4 + 2, TILE_PX**2 // 64 + TILE_PX**2 // 256 + TILE_PX**2 // 1024)
    assert raw.dtype == np.float32
    assert prototypes is None
    assert (raw[4:] >= 0).all()
    assert (raw[4:] <= 1).all()


@BACKENDS
def test_an_error_in_the_consumer_reaches_the_caller(make: Make, box_model: Prepared) -> None:
    backend = make(box_model.weights, box_model.card, box_model.cache)
    blank = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)

    def refuse(number: int, raw: FloatArray, prototypes: FloatArray | None) -> None:
        if number == 1:
            raise RuntimeError("no room left")

    with pytest.raises(RuntimeError, match="no room left"):
        backend.run([blank] * 4, refuse)
    assert len(outputs(backend, [blank] * 3)) == 3  # and the next call is not disturbed


@BACKENDS
def test_altered_weights_are_not_even_unpickled(make: Make, tmp_path: Path) -> None:
    harm = tmp_path / "harm"
    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(harm)))
    card = ModelCard(version="v1", sha256="0" * 64, tile_px=TILE_PX)
    with pytest.raises(ModelError, match=r"altered or damaged.*not loaded.*Publish"):
        make(tmp_path / "bomb.pt", card, tmp_path / "cache")
    assert not harm.exists()
    pickle.loads((tmp_path / "bomb.pt").read_bytes())
    assert harm.exists()  # it would have gone off


@BACKENDS
def test_files_that_are_no_model(make: Make, tmp_path: Path) -> None:
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"not a model")
    card = ModelCard(version="v1", sha256=sha256_of(weights), tile_px=TILE_PX)
    with pytest.raises(ModelError, match=r"best\.pt can't be loaded as a YOLO model"):
        make(weights, card, tmp_path / "cache")
    prepared = tmp_path / "cache" / "openvino"
    assert not prepared.exists() or not list(prepared.iterdir())  # nothing half-made is left
    with pytest.raises(ModelError, match=r"gone\.pt can't be read"):
        make(tmp_path / "gone.pt", card, tmp_path / "cache")


@BACKENDS
def test_models_that_classify_pictures_are_refused(make: Make, tmp_path: Path) -> None:
    card = write_model(tmp_path / "classify.pt", "yolov8n-cls.yaml")
    with pytest.raises(ModelError, match="made to 'classify'; expected a detection or a segm"):
        make(tmp_path / "classify.pt", card, tmp_path / "cache")


def test_a_gpu_that_is_not_there(box_model: Prepared, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ModelError, match=r"can't use the GPU.*set device: cpu"):
        TorchBackend(box_model.weights, box_model.card, tmp_path, device="cuda", half=True)


def test_a_model_is_prepared_once(box_model: Prepared) -> None:
    folder = prepared_openvino(box_model.weights, box_model.card, box_model.cache)
    made = (folder / "model.bin").stat()
    assert prepared_openvino(box_model.weights, box_model.card, box_model.cache) == folder
    assert (folder / "model.bin").stat() == made
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_nothing_unchecked_is_kept(box_model: Prepared) -> None:
    """OpenVINO's own cache of compiled models would be used even with bits flipped."""
    OpenVinoBackend(box_model.weights, box_model.card, box_model.cache)
    folder = prepared_openvino(box_model.weights, box_model.card, box_model.cache)
    files = sorted(path.name for path in folder.rglob("*"))
    assert files == ["facts.json", "model.bin", "model.xml"]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_bit(folder / "model.bin"),
        lambda folder: (folder / "model.xml").unlink(),
        lambda folder: (folder / "facts.json").write_text('{"names": {'),
        lambda folder: (folder / "facts.json").write_text("[]"),
    ],
    ids=["bit flipped", "file gone", "facts cut off", "facts of another kind"],
)
def test_a_damaged_prepared_model_is_made_again(
    damage: Callable[[Path], Any],
    box_model: Prepared,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    good = prepared_openvino(box_model.weights, box_model.card, box_model.cache)
    bad = tmp_path / "openvino" / good.name
    shutil.copytree(good, bad)
    damage(bad)
    exports = []

    def copy_instead(weights: Path, tile_px: int, scratch: Path) -> Path:
        exports.append(weights)
        return Path(shutil.copytree(good, scratch / "made"))

    monkeypatch.setattr("pollen.detection.backends._export", copy_instead)  # seconds each time
    assert prepared_openvino(box_model.weights, box_model.card, tmp_path) == bad
    assert exports == [box_model.weights]
    facts = json.loads((bad / "facts.json").read_text())
    assert {name: sha256_of(bad / name) for name in facts["sha256"]} == facts["sha256"]
    prepared_openvino(box_model.weights, box_model.card, tmp_path)
    assert len(exports) == 1


def test_two_threads_prepare_at_once(box_model: Prepared, tmp_path: Path) -> None:
    made: list[Path] = []
    start = threading.Barrier(2)

    def prepare() -> None:
        start.wait()
        made.append(prepared_openvino(box_model.weights, box_model.card, tmp_path))

    threads = [threading.Thread(target=prepare) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made[0] == made[1]
    assert [path.name for path in (tmp_path / "openvino").iterdir()] == [made[0].name]
    assert len(outputs(OpenVinoBackend(box_model.weights, box_model.card, tmp_path), [])) == 0


def test_another_process_was_faster(
    box_model: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its folder appears while this one exports: it is taken, and nothing is left over."""
    good = prepared_openvino(box_model.weights, box_model.card, box_model.cache)
    theirs = tmp_path / "openvino" / good.name

    def overtaken(weights: Path, tile_px: int, scratch: Path) -> Path:
        shutil.copytree(good, theirs)
        return Path(shutil.copytree(good, scratch / "made"))

    monkeypatch.setattr("pollen.detection.backends._export", overtaken)
    assert prepared_openvino(box_model.weights, box_model.card, tmp_path) == theirs
    assert list(theirs.parent.iterdir()) == [theirs]


def test_ultralytics_is_kept_quiet_and_offline_with_its_settings_in_the_cache(
    box_model: Prepared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("YOLO_CONFIG_DIR", "YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pollen.detection.backends._prepare", lambda *_: None)
    prepared_openvino(box_model.weights, box_model.card, tmp_path)
    assert os.environ["YOLO_CONFIG_DIR"] == str(tmp_path / "ultralytics")
    assert Path(os.environ["YOLO_CONFIG_DIR"]).is_dir()
    assert os.environ["YOLO_OFFLINE"] == "true"
    assert os.environ["YOLO_AUTOINSTALL"] == "false"
    assert os.environ["YOLO_VERBOSE"] == "false"
