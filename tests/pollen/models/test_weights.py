import pickle
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import pollen.bundled
from pollen.detection.backends import OpenVinoBackend, TorchBackend
from pollen.models.card import ModelCard, ModelError, sha256_of
from pollen.models.checkpoint_file import read_file
from pollen.models.weights import (
    load_state,
    load_yolo,
    openable,
    quiet_ultralytics,
    read_weights,
    write_weights,
)
from pollen.training.base import from_weights
from pollen.training.recipe.states import start_weights
from pollen.training.ultralytics_run import strip
from tests.pollen.model_making import TILE_PX, Bomb, write_model
from tests.pollen.models.hostile_weights import with_bomb, with_evaluation

BUNDLED = Path(str(pollen.bundled.__file__)).with_name("best.pt")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "ultralytics"
    quiet_ultralytics(folder)
    return folder


def through_every_door(weights: Path, scratch: Path) -> None:
    """Read a file in each way that the product does; a refusal is as good as a model without the code."""
    card = ModelCard(version="v1", sha256=sha256_of(weights), tile_px=TILE_PX)
    doors: dict[str, Any] = {
        "openvino": lambda: OpenVinoBackend(weights, card, scratch / "cache"),
        "torch": lambda: TorchBackend(weights, card, scratch, device="cpu", half=False),
        "base": lambda: from_weights(weights, card.sha256),
        "strip": lambda: strip(weights, scratch / "stripped.pt"),
        "start": lambda: start_weights(weights),
        "state": lambda: load_state(weights),
        "yolo": lambda: load_yolo(weights, scratch),
    }
    for door in doors.values():
        with suppress(ModelError):
            door()


@pytest.mark.parametrize("place", ["layer", "ema", "optimizer", "train_args", "note"])
def test_code_in_a_pickle_is_never_run(tmp_path: Path, scratch: Path, place: str) -> None:
    import torch

    weights, harm = tmp_path / "best.pt", tmp_path / "harm"
    with_bomb(weights, harm, place)
    through_every_door(weights, scratch)
    assert not harm.exists()
    torch.load(weights, weights_only=False)
    assert harm.exists()  # it would have gone off


def test_code_that_the_restricted_loader_of_pytorch_runs_is_not_run_here(
    tmp_path: Path, scratch: Path
) -> None:
    weights, harm = tmp_path / "best.pt", tmp_path / "harm"
    with_evaluation(weights, harm)
    through_every_door(weights, scratch)
    assert not harm.exists()
    assert load_yolo(weights, scratch).names == {0: "viable", 1: "non_viable"}  # and is a model
    # In a process of its own: the loader's list of allowed classes is the whole process's.
    loading = f"from ultralytics import YOLO; YOLO({str(weights)!r})"
    environment = {"ULTRALYTICS_SAFE_LOAD": "1", "YOLO_CONFIG_DIR": str(scratch), "PATH": ""}
    subprocess.run([sys.executable, "-c", loading], env=environment, check=False, timeout=120)
    assert harm.exists()  # it would have gone off, restricted loader or not


def test_no_module_is_imported_for_a_name(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"cantigravity\ngeohash\n)R.")
    assert read_file(path).name == "antigravity.geohash"
    assert "antigravity" not in sys.modules


def test_architectures_of_elsewhere_are_refused(tmp_path: Path, scratch: Path) -> None:
    import torch

    write_model(tmp_path / "best.pt")
    state = torch.load(tmp_path / "best.pt", weights_only=False)
    for place in ("../../evil.yaml", "http://elsewhere/yolov8n.yaml?", "", "yolov8n.yaml/.."):
        state["model"].yaml = {**state["model"].yaml, "yaml_file": place}
        torch.save(state, tmp_path / "other.pt")
        with pytest.raises(ModelError, match="architecture that is not known here"):
            read_weights(tmp_path / "other.pt")
    state["model"].yaml = {**state["model"].yaml, "yaml_file": "yolov8s.yaml"}
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"other\.pt does not fit yolov8s\.yaml with 2 classes"):
        load_yolo(tmp_path / "other.pt", scratch)


@pytest.mark.parametrize(
    "architecture", ["yolov8n.yaml", "yolov8n-seg.yaml", "yolo11n-seg.yaml", "yolo26n.yaml"]
)
def test_every_kind_of_model_that_is_supported_gives_the_same_outputs(
    tmp_path: Path, scratch: Path, architecture: str
) -> None:
    import torch
    from ultralytics.models import YOLO

    weights = tmp_path / "best.pt"
    write_model(weights, architecture)
    ours: Any = load_yolo(weights, scratch)
    theirs: Any = YOLO(weights)
    assert (ours.names, ours.task) == (theirs.names, theirs.task)
    picture = torch.rand(1, 3, TILE_PX, TILE_PX, generator=torch.manual_seed(0))
    with torch.no_grad():
        mine, other = (yolo.model.float().eval()(picture)[0] for yolo in (ours, theirs))
    for one, another in zip(_flat(mine), _flat(other), strict=True):
        assert torch.equal(one, another)
    assert from_weights(weights, "0" * 64).task == ours.task


def _flat(output: Any) -> list[Any]:  # noqa: ANN401
    return (
        [part for each in output for part in _flat(each)]
        if isinstance(output, tuple | list)
        else [output]
    )


def test_weights_written_anew_keep_every_number(tmp_path: Path, scratch: Path) -> None:
    import torch

    first = read_weights(BUNDLED)
    again = read_weights(write_weights(first, tmp_path / "again.pt"))
    assert (again.architecture, again.task, again.names) == (
        first.architecture,
        first.task,
        first.names,
    )
    assert first.state.keys() == again.state.keys()
    assert all(torch.equal(value, again.state[name]) for name, value in first.state.items())
    write_weights(first, tmp_path / "equal.pt")
    assert (tmp_path / "again.pt").read_bytes() == (tmp_path / "equal.pt").read_bytes()


def test_files_that_are_no_model_are_named(tmp_path: Path, scratch: Path) -> None:
    import torch

    notes = tmp_path / "notes.pt"
    notes.write_bytes(b"not a model")
    for read in (read_weights, load_state, lambda path: load_yolo(path, scratch)):
        with pytest.raises(ModelError, match=r"notes\.pt can't be loaded as a YOLO model"):
            read(notes)
    for content in ([1, 2], {"epoch": 1}, {"model": None, "ema": None}):
        torch.save(content, notes)
        with pytest.raises(ModelError, match=r"notes\.pt holds no model"):
            read_weights(notes)
    notes.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(ModelError, match=r"notes\.pt can't be loaded"):
        read_weights(notes)


def test_models_of_another_kind_are_named(tmp_path: Path, scratch: Path) -> None:
    write_model(tmp_path / "classify.pt", "yolov8n-cls.yaml")
    with pytest.raises(ModelError, match="made to 'classify'; expected a detection or a segm"):
        read_weights(tmp_path / "classify.pt")


def test_a_truncated_file_and_a_compressed_one_are_refused(tmp_path: Path) -> None:
    whole = BUNDLED.read_bytes()
    (tmp_path / "short.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"short\.pt can't be loaded"):
        read_weights(tmp_path / "short.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ModelError, match="compressed"):
        read_weights(tmp_path / "bomb.pt")


def test_a_tensor_larger_than_its_numbers_is_refused(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "state.pt"
    torch.save({"a": torch.ones(4).expand(1_000, 4)}, path)  # 4 numbers that claim to be 4,000
    with pytest.raises(ModelError, match="larger than its numbers"):
        load_state(path)


def test_states_are_numbers_only(tmp_path: Path) -> None:
    import torch

    path, harm = tmp_path / "stage.pt", tmp_path / "harm"
    network = torch.nn.Linear(2, 3)
    saved = {"network": network.state_dict(), "step": 3, "mean": None, "betas": (0.9, 0.99)}
    torch.save(saved, path)
    state = load_state(path)
    assert (state["step"], state["mean"], state["betas"]) == (3, None, (0.9, 0.99))
    assert torch.equal(state["network"]["weight"], network.weight)
    torch.save({"network": Bomb(harm)}, path)
    with pytest.raises(ModelError, match=r"expected numbers and text, found 'posix\.mkdir'"):
        load_state(path)
    assert not harm.exists()


def test_an_apostrophe_in_a_path_is_told_and_no_other_file_is_opened(
    tmp_path: Path, scratch: Path
) -> None:
    folder = tmp_path / "o'brien"
    folder.mkdir()
    write_model(folder / "best.pt")
    assert read_weights(folder / "best.pt").task == "detect"
    with pytest.raises(ModelError, match="apostrophe in its path: set TMPDIR"):
        openable(folder / "weights.pt")
