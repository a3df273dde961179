from pathlib import Path

import pytest

import pollen.bundled
from pollen.models.card import ModelError, sha256_of
from pollen.training.base import from_weights, untrained

BUNDLED = Path(str(pollen.bundled.__file__)).with_name("best.pt")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("yolov8n-seg.yaml", "segment"),
        ("yolo11s.yaml", "detect"),
        ("yolo26m-seg.yaml", "segment"),
    ],
)
def test_architectures_are_known_by_name(name: str, task: str) -> None:
    base = untrained(name)

    assert base is not None
    assert (base.source, base.identity, base.task) == (name, name, task)


@pytest.mark.parametrize("name", ["bundled", "yolov8n-cls.yaml", "yolov8n-seg.pt", "../x.yaml"])
def test_other_names_are_none(name: str) -> None:
    assert untrained(name) is None


def test_weights_say_what_they_were_made_for(tmp_path: Path) -> None:
    base = from_weights(BUNDLED, sha256_of(BUNDLED))

    assert base.task == "segment"
    assert base.source == str(BUNDLED)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.pt"
    path.write_text("no model")

    with pytest.raises(
        ModelError, match=r"notes\.pt can't be loaded as a YOLO model.*no checkpoint"
    ):
        from_weights(path, sha256_of(path))
