"""Libraries use no more threads than a container may."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch

from pollen.detection import threads
from pollen.detection.backends import OpenVinoBackend, TorchBackend
from pollen.detection.threads import cpu_quota, keep_to_quota, threads_allowed
from pollen.training import ultralytics_run as run
from pollen.training.recipe import train as recipe
from pollen.training.settings import TrainSettings
from tests.pollen.conftest import Prepared
from tests.pollen.model_making import write_model


def version_2(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(text)
    return folder


def version_1(folder: Path, quota: int, period: int) -> Path:
    (folder / "cpu").mkdir(parents=True)
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text(f"{period}\n")
    return folder


@pytest.mark.parametrize(
    ("text", "expected"),
    [("400000 100000\n", 4.0), ("25000 100000\n", 0.25), ("max 100000\n", None), ("", None)],
)
def test_the_quota_of_version_2(tmp_path: Path, text: str, expected: float | None) -> None:
    assert cpu_quota(version_2(tmp_path, text)) == expected


@pytest.mark.parametrize(("quota", "expected"), [(150_000, 1.5), (-1, None)])
def test_the_quota_of_version_1(tmp_path: Path, quota: int, expected: float | None) -> None:
    assert cpu_quota(version_1(tmp_path, quota, 100_000)) == expected


def test_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert cpu_quota(tmp_path / "no such folder") is None


@pytest.mark.parametrize(
    ("text", "cores", "expected"),
    [
        ("400000 100000", 64, 4),
        ("250000 100000", 64, 2),
        ("50000 100000", 64, 1),
        # Bound to fewer cores than the quota: libraries see that by themselves.
        ("400000 100000", 4, None),
        ("max 100000", 64, None),
    ],
)
def test_threads_on_a_large_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cores: int, expected: int | None
) -> None:
    monkeypatch.setattr(threads, "CGROUPS", version_2(tmp_path, text))
    monkeypatch.setattr(threads, "_cores", lambda: cores)
    assert threads_allowed() == expected


class Mute:
    """Hears of a training and says nothing."""

    def epoch_done(self, epoch: run.Epoch) -> None:
        """See `Watcher`."""

    def checkpoint(self, checkpoint: run.Checkpoint) -> None:
        """See `Watcher`."""


@pytest.fixture
def one_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A container that may use one of many processors."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    monkeypatch.setattr(threads, "CGROUPS", version_2(tmp_path / "cgroup", "100000 100000"))
    monkeypatch.setattr(threads, "_cores", lambda: 64)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("threads")
    card = write_model(folder / "boxes.pt")
    return Prepared(folder / "boxes.pt", card, folder / "cache")


@pytest.mark.usefixtures("one_processor")
def test_pytorch_and_opencv_keep_to_the_quota(model: Prepared) -> None:
    TorchBackend(model.weights, model.card, model.cache, device="cpu", half=False)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


@pytest.mark.usefixtures("one_processor")
def test_openvino_keeps_to_the_quota(model: Prepared) -> None:
    backend = OpenVinoBackend(model.weights, model.card, model.cache)
    compiled = backend._queue[0].get_compiled_model()
    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert cv2.getNumThreads() == 1


@pytest.mark.usefixtures("one_processor")
def test_training_keeps_to_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReachedError(Exception):
        """The training would begin now."""

    def reached(*_: object) -> None:
        raise ReachedError

    monkeypatch.setattr(run, "_options", reached)
    with pytest.raises(ReachedError):
        run.train("x.yaml", "detect", tmp_path, tmp_path, TrainSettings(), Mute())
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


@pytest.mark.usefixtures("one_processor")
def test_the_recipe_keeps_to_the_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReachedError(Exception):
        """The training would begin now."""

    def reached(*_: object) -> None:
        raise ReachedError

    monkeypatch.setattr(recipe, "_options", reached)
    with pytest.raises(ReachedError):
        recipe.train_recipe([], tmp_path, TrainSettings(recipe="bundled"), Mute())
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)


def test_without_a_quota_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    assert keep_to_quota(torch) is None
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
