"""Every stage of a training heals after a 503 and asks once on a 403, on real S3.

``lay_out``, ``choose_card``, ``evaluate_model`` and ``describe`` work on files of this machine and ask no store;
``publish`` is in ``test_registry_faults.py``, single checkpoints in ``test_checkpoints.py``.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import pollen.training.recipe.stages
import tasks.stage
from pollen.dataset.labelled import LabelledPicture
from pollen.dataset.settings import DatasetSettings
from pollen.layout import SMUDGES, metrics_key
from pollen.training.folder import GrainSizes
from pollen.training.identity import TrainingIdentity
from pollen.training.recipe.fitting import RecipeStage
from pollen.training.recipe.scenes import SceneMix
from pollen.training.settings import TrainSettings
from services.embedded import EmbeddedS3
from tasks.faults import StorageError
from tasks.models.lineage import lineage_of
from tasks.models.resolve import Model
from tasks.models.verdicts import read_verdict
from tasks.progress import Silent
from tasks.storage.store import open_store
from tasks.training.dataset import DatasetVersion, Staging, update_dataset
from tasks.training.dataset_report import report_dataset
from tasks.training.negatives import fetch_debris
from tasks.training.pictures import fetch_pictures
from tasks.training.train import LaidOut, TrainingPlan, find_training, resolve_base, train_model
from tests.support.labelled import NAMES, SIDE_PX, export, labelled
from tests.support.models import stand_in
from tests.support.pictures import picture
from tests.support.runs import bucket_folder
from tests.support.training import train_settings
from tests.support.wire import tapped

METRICS = b"""{"split": "test", "gate": {"promote": false, "reasons": ["no"]},
"production": {"model": {"sha256": "0"}},
"new": {"overall": {"grains": 1, "count_error_percent": 0, "viability_error": null}}}"""


ROOT = bucket_folder("training-faults")

#: A training of one step: what it does with the store is that of any other.
ONE_STEP = RecipeStage("1-only", SceneMix(), side_px=64, scale=0.5, steps=1, batch=1, warmup=1)
RECIPE = TrainSettings(recipe="bundled", rendered_frames=0, workers=0, device="cpu")


class Bench:
    """A root in a bucket with a dataset, a picture of debris and a published model's figures.

    The root and its dataset are shared by all tests; the training is the test's own.
    """

    def __init__(self, staging: Staging, version: DatasetVersion, folder: Path) -> None:
        self.staging, self.version, self.folder = staging, version, folder
        self.root = ROOT
        self.settings = train_settings()
        identity = TrainingIdentity.of(folder.parent.name, "base", "debris", self.settings)
        base = resolve_base("yolov8n.yaml", ROOT, self.settings)
        self.plan = TrainingPlan(identity, "pollen-001", base, self.settings, ROOT)
        open_store(ROOT).write(metrics_key(self.plan.version), METRICS)

    def find_training(self) -> object:
        plan = self.plan
        return find_training(
            plan.identity, plan.dataset, plan.base, self.settings, self.root, fresh=False
        )

    def train_model(self) -> object:
        picture_file, label = labelled(1)
        path = self.folder.with_suffix(".png")
        path.write_bytes(picture_file)
        sizes = GrainSizes(40, 30, 50, 60)
        file = LabelledPicture("1.png", path, label, (SIDE_PX, SIDE_PX))
        laid_out = LaidOut(None, sizes, sizes.grid(96, 0.5), files=(file,))
        base = resolve_base("yolov8n-seg.yaml", self.root, RECIPE)
        plan = replace(self.plan, base=base, settings=RECIPE)
        return train_model(plan, laid_out, self.folder, Silent())

    def lineage_of(self) -> object:
        card, weights = stand_in(self.folder, "published")
        return lineage_of(Model(weights, card), self.root)


CALLS: dict[str, tuple[Callable[[Bench], object], str]] = {
    "update_dataset": (lambda b: update_dataset(b.staging, DatasetSettings()), "ListObjectsV2"),
    "report_dataset": (lambda b: report_dataset(b.staging, b.version), "PutObject"),
    "fetch_debris": (lambda b: fetch_debris(b.root.below(SMUDGES), b.folder), "GetObject"),
    "fetch_pictures": (
        lambda b: fetch_pictures(b.version.manifest.images, b.staging.pictures),
        "ListObjectsV2",
    ),
    "resolve_base": (lambda b: resolve_base("production", b.root, b.settings), "ListObjectsV2"),
    "find_training": (lambda b: b.find_training(), "ListObjectsV2"),
    "lineage_of": (lambda b: b.lineage_of(), "GetObject"),
    "train_model, looking for checkpoints": (lambda b: b.train_model(), "ListObjectsV2"),
    "train_model, keeping one": (lambda b: b.train_model(), "PutObject"),
    "read_verdict": (lambda b: read_verdict(b.root, b.plan.version), "GetObject"),
}


@pytest.fixture(scope="module")
def dataset(s3_server: EmbeddedS3) -> tuple[Staging, DatasetVersion]:
    with s3_server.active():
        store = open_store(ROOT)
        store.write("staging_area/a.zip", export(NAMES[:4]))
        store.write(f"{SMUDGES}flake.png", picture(3))
        staging = Staging.below(ROOT, "pollen")
        return staging, update_dataset(staging, DatasetSettings())


@pytest.fixture
def bench(
    s3_server: EmbeddedS3,
    dataset: tuple[Staging, DatasetVersion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Bench:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(tasks.stage, "JITTER", 0.01)
    monkeypatch.setattr(pollen.training.recipe.stages, "STAGES", (ONE_STEP,))
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path / "cache"))
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return Bench(*dataset, tmp_path / "smudges")


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_heals_after_a_503(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    call, operation = CALLS[stage]
    wire = tapped(monkeypatch)
    wire.fail(operation, 503, times=1)

    call(bench)

    assert wire.refused[operation] == 1


@pytest.mark.parametrize("stage", CALLS)
def test_a_stage_asks_once_on_a_403(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    call, operation = CALLS[stage]
    wire = tapped(monkeypatch)
    wire.fail(operation, 403)

    with pytest.raises(StorageError, match="refused access"):
        call(bench)

    assert wire.refused[operation] == 1
