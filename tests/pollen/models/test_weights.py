import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from pollen.models.card import ModelError
from pollen.models.weights import load_checkpoint, load_state, load_yolo, quiet_ultralytics
from pollen.training.base import from_weights
from pollen.training.ultralytics_run import strip
from tests.pollen.model_making import Bomb, write_model


class BombInModel(Bomb):
    """The same, hung into a network that is a model in every other way."""


def armed(path: Path, harm: Path, place: str) -> None:
    """Write a model that makes the folder ``harm`` when it is unpickled without care."""
    import torch

    write_model(path)
    state: dict[str, Any] = torch.load(path, weights_only=False)
    bomb = BombInModel(harm)
    if place == "layer":
        state["model"].model[0].note = bomb
    elif place == "ema":
        state["ema"] = bomb
    else:
        state[place] = bomb
    torch.save(state, path)


PLACES = pytest.mark.parametrize("place", ["layer", "ema", "optimizer", "train_args", "note"])


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "ultralytics"
    quiet_ultralytics(folder)
    return folder


@PLACES
def test_code_in_weights_is_never_run(tmp_path: Path, scratch: Path, place: str) -> None:
    import torch

    weights, harm = tmp_path / "best.pt", tmp_path / "harm"
    armed(weights, harm, place)
    for load in (
        load_yolo,
        load_checkpoint,
        lambda path: from_weights(path, "0" * 64, scratch),
        lambda path: strip(path, tmp_path / "stripped.pt"),
    ):
        with pytest.raises(ModelError, match=r"best\.pt can't be loaded.*none of it was run"):
            load(weights)
    assert not harm.exists()
    assert not (tmp_path / "stripped.pt").exists()
    torch.load(weights, weights_only=False)
    assert harm.exists()  # it would have gone off


def test_a_getattr_that_leads_out_of_the_layers_is_refused(tmp_path: Path, scratch: Path) -> None:
    """The one function that checkpoints of YOLO11 call must not become a way to others."""

    class Reach:
        def __reduce__(self) -> tuple[Any, tuple[Any, str]]:
            return getattr, (os.PathLike, "__subclasshook__")

    import torch

    weights = tmp_path / "best.pt"
    write_model(weights)
    state = torch.load(weights, weights_only=False)
    torch.save({**state, "note": Reach()}, weights)
    with pytest.raises(ModelError, match=r"can't be loaded"):
        load_checkpoint(weights)


def test_the_switch_holds_where_the_library_was_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks, "SAFE_LOAD", False)
    monkeypatch.setenv("ULTRALYTICS_SAFE_LOAD", "false")
    quiet_ultralytics(tmp_path / "ultralytics")
    weights, harm = tmp_path / "best.pt", tmp_path / "harm"
    armed(weights, harm, "note")
    with pytest.raises(ModelError):
        load_yolo(weights)
    assert not harm.exists()


def test_a_pytorch_without_the_restricted_loader_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.nn import tasks

    monkeypatch.setattr(tasks._SafeLoad, "SUPPORTED", False)
    with pytest.raises(ModelError, match=r"PyTorch 2\.6 or newer"):
        quiet_ultralytics(tmp_path)


def test_files_that_are_no_model_are_named(tmp_path: Path, scratch: Path) -> None:
    notes = tmp_path / "notes.pt"
    notes.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"notes\.pt can't be loaded as a YOLO model"):
        load_checkpoint(notes)
    for content in ([1, 2], {"epoch": 1}, {"model": None, "ema": None}):
        import torch

        torch.save(copy.deepcopy(content), notes)
        with pytest.raises(ModelError, match=r"notes\.pt (can't be loaded|holds no model)"):
            load_checkpoint(notes)
    notes.write_bytes(pickle.dumps({"model": 1}))
    with pytest.raises(ModelError, match=r"notes\.pt"):
        load_checkpoint(notes)


@pytest.mark.parametrize("architecture", ["yolov8n.yaml", "yolo11n-seg.yaml", "yolo26n.yaml"])
def test_every_kind_of_model_that_is_supported_loads(
    tmp_path: Path, scratch: Path, architecture: str
) -> None:
    weights = tmp_path / "best.pt"
    write_model(weights, architecture)
    assert load_yolo(weights).names == {0: "viable", 1: "non_viable"}
    assert from_weights(weights, "0" * 64, scratch).task == (
        "segment" if "seg" in architecture else "detect"
    )


def test_states_are_numbers_only(tmp_path: Path) -> None:
    import torch

    harm = tmp_path / "harm"
    torch.save({"network": {"a": torch.ones(2)}, "step": 3}, tmp_path / "stage.pt")
    assert load_state(tmp_path / "stage.pt")["step"] == 3
    torch.save({"network": Bomb(harm)}, tmp_path / "stage.pt")
    with pytest.raises(ModelError, match=r"stage\.pt can't be loaded.*none of it was run"):
        load_state(tmp_path / "stage.pt")
    assert not harm.exists()
