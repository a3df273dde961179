"""`pollen train`: what it prints, its exit codes, and one clear error on bad days."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

import tasks.cluster.devices
import tasks.stage
from services.commands.train import TrainingPlaces, run_training
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from tests.support.labelled import export, labelled
from tests.support.runs import BUCKET, files, objects
from tests.support.training import train_settings

Run = Callable[..., tuple[int, str, str]]

#: Settings of a training that takes seconds, as they are typed.
SMALL = tuple(
    f"{name}={value}"
    for name, value in train_settings().model_dump(mode="json", exclude_defaults=True).items()
)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Train as the command does; exit code, standard output and standard error."""

    def train(
        dataset: str | Path,
        output: str | Path,
        *settings: str,
        staging: str | Path | None = None,
        base: str = "bundled",
        fresh: bool = False,
        block: str | None = None,
    ) -> tuple[int, str, str]:
        zips = None if staging is None else str(staging)
        code = run_training(
            TrainingPlaces(str(dataset), str(output), zips, None, block),
            base=base,
            fresh=fresh,
            settings=(*SMALL, *settings),
            verbose=False,
        )
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return code, told.out, told.err

    return train


def the_error(outcome: tuple[int, str, str]) -> str:
    """The one error of a training that could not be done."""
    code, told, error = outcome
    assert (code, told) == (COULD_NOT_RUN, "")
    found = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert len(found) == 1, error
    return found[0]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "registry"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Labelled pictures of two plants, one to train on and one for val."""
    folder = tmp_path / "pollen"
    for number, split in enumerate(("train", "val")):
        picture, label = labelled(number)
        for part, suffix, data in (("images", "png", picture), ("labels", "txt", label.encode())):
            path = folder / split / part / f"{number}-1-A_2x_A_001.{suffix}"
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
    return folder


def test_refused_then_known_then_once_more_into_production(
    run: Run, prefect_process: EmbeddedPrefect, tmp_path: Path, output: Path
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    (staging / "labelled.zip").write_bytes(export())
    dataset = output / "datasets" / "pollen"

    code, told, _ = run(dataset, output, staging=staging)
    assert code == DONE
    sentence, place = told.splitlines()
    assert "was published but not promoted; on " in sentence
    assert "expected at least 300" in sentence
    version = sentence.split()[1]
    assert place == f"Model and evaluation: {output}/trained_models/{version}/"
    assert not (output / "trained_models" / "promotions").exists()
    before = files(output / "trained_models")

    # The gate is no part of what is learnt: a milder one does not judge a published model anew.
    # A zip that could not be used is told at the end, too: something of the input was refused.
    (staging / "broken.zip").write_bytes(b"no zip at all")
    code, told, error = run(dataset, output, "gate.min_grains=1", staging=staging)
    assert code == SOME_FAILED
    assert f"model {version} was trained from this dataset with these settings before" in told
    assert "1 staged zip was refused and not merged (broken.zip)" in told
    (staging / "broken.zip").unlink()
    assert "training ..." not in error
    assert files(output / "trained_models") == before

    with prefect_process.active():
        code, told, _ = run(dataset, output, "gate.min_grains=1", staging=staging, fresh=True)
        with get_client(sync_client=True) as client:
            trained = FlowFilter(name=FlowFilterName(any_=["train-here"]))
            runs = client.read_flow_runs(flow_filter=trained)
        (newest,) = (one for one in runs if one.name.endswith(f" in {output}"))
    assert code == DONE
    sentence = told.splitlines()[0]
    assert "is now in production; on " in sentence
    promoted = sentence.split()[1]
    assert promoted != version
    promotion = json.loads((output / "trained_models" / "promotions" / "000001.json").read_text())
    assert promotion["version"] == promoted
    assert newest.state is not None
    assert (newest.state.name, newest.state.message) == ("Completed", sentence)
    assert newest.name.startswith("train pollen ")


def test_a_dataset_without_pictures(run: Run, tmp_path: Path, output: Path) -> None:
    error = the_error(run(tmp_path / "typo", output))
    assert "the dataset 'typo' has no labelled picture" in error
    assert f"{tmp_path / 'typo'}/train/images" in error
    assert not output.exists()


def test_a_staged_zip_with_errors_is_told_and_stays(run: Run, tmp_path: Path, output: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    bad = {"train/images/x.png": labelled(3)[0], "train/labels/x.txt": b"9 0.5 0.5 0.1 0.1\n"}
    (staging / "bad.zip").write_bytes(export(["other.png"], extra=bad))
    (staging / "broken.zip").write_bytes(b"no zip at all")
    before = files(staging)
    outcome = run(tmp_path / "pollen", output, staging=staging)
    assert "First finding: error: bad.zip" in the_error(outcome)
    told = " ".join(outcome[2].split())
    assert "bad.zip/train/labels/x.txt, line 1: class 9 has no name" in told
    assert "broken.zip: " in told
    assert files(staging) == before
    assert not output.exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("epochs=many", "train.epochs: Input should be a valid integer"),
        ("epoch=3", "train.epoch: Extra inputs are not permitted"),
        ("gate.min_grain=1", "gate.min_grain: Extra inputs are not permitted"),
        ("merging.shares.test=0.9", "val 0.15 and test 0.9 must sum up to 1"),
        ("merging.sample_pattern=(", "is not a regular expression"),
        ("epochs", "'train.epochs' is not a setting: expected NAME=VALUE"),
    ],
)
def test_settings_that_can_not_be_used(
    run: Run, dataset: Path, output: Path, setting: str, words: str
) -> None:
    assert words in the_error(run(dataset, output, setting))
    assert not output.exists()


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ("yolov8n-seg.pt", "Nothing is downloaded by name: give the path of a .pt file"),
        ("v99", "there is no model 'v99' in"),
        ("yolov8q.yaml", "there is no model 'yolov8q.yaml' in"),
    ],
)
def test_a_base_that_is_not_there(
    run: Run, dataset: Path, output: Path, base: str, words: str
) -> None:
    assert words in the_error(run(dataset, output, base=base))
    assert not (output / "trained_models").exists()


def test_a_base_that_is_no_model(run: Run, dataset: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("no weights at all")
    error = the_error(run(dataset, output, base=str(tmp_path / "notes.pt")))
    assert str(tmp_path / "notes.pt") in error
    assert not (output / "trained_models").exists()


def test_no_gpu_is_said_before_anything_is_merged(
    run: Run, dataset: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.cluster.devices, "cuda_present", lambda: False)
    error = the_error(run(dataset, output, "device=cuda"))
    assert "no usable NVIDIA GPU on this machine" in error
    assert not output.exists()


def test_missing_buckets(run: Run, s3_server: EmbeddedS3, dataset: Path, output: Path) -> None:
    with s3_server.active():
        for error in (
            the_error(run("s3://typo/datasets/pollen", output)),
            the_error(run(dataset, "s3://typo/out")),
            the_error(run(dataset, output, staging="s3://typo/staging")),
        ):
            assert "there is no" in error
            assert "typo" in error
            assert "or create the bucket" in error
    assert not output.exists()
    assert [bucket["Name"] for bucket in s3_server.client().list_buckets()["Buckets"]] == [BUCKET]


def test_wrong_keys_are_tried_once(
    run: Run, s3_server: EmbeddedS3, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 1000)
    with s3_server.active():
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        error = the_error(run(dataset, "s3://pollen/training-command"))
    assert "check the access key, the secret key" in error
    assert not objects(s3_server, "training-command")


def test_no_bucket_named(run: Run, dataset: Path) -> None:
    assert "'s3://' names no bucket: expected s3://bucket/prefix" in the_error(
        run(dataset, "s3://")
    )


def test_a_block_without_a_server(run: Run, dataset: Path) -> None:
    error = the_error(run(dataset, "s3://pollen/x", block="laboratory"))
    assert "--block needs a Prefect server, which holds the block: set PREFECT_API_URL" in error


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Pollen 2026", "Pollen-2026"), ("_new_", "new"), ("été", "t"), ("..", "dataset")],
)
def test_a_folder_of_any_name_is_a_dataset(
    run: Run, tmp_path: Path, output: Path, folder: str, name: str
) -> None:
    (tmp_path / "empty").mkdir()  # so that `..` is a folder of this test alone
    error = the_error(run(f"{tmp_path}/empty/{folder}/", output))
    assert f"the dataset '{name}' has no labelled picture" in error


def test_a_dataset_of_its_own_keeps_its_manifest_in_the_registry(
    run: Run, dataset: Path, output: Path
) -> None:
    before = files(dataset)
    assert "raise image_px" in the_error(run(dataset, output, "image_px=64", "working_scale=4"))
    manifest = json.loads((output / "datasets/pollen/versions/000001.json").read_text())
    assert [image["split"] for image in manifest["images"]] == ["train", "val"]
    assert files(dataset) == before
