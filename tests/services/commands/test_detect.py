"""`pollen detect` on bad days: one clear error with the remedy, exit code 2, nothing written."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tasks.stage
from services.commands.detect import run_detection
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from tasks.detection import batch as detection
from tasks.models.resolve import resolve_model
from tasks.storage import store as storage
from tasks.storage.store import Location
from tests.support.pictures import picture, put
from tests.support.runs import BUCKET, MODEL, files, objects, rows, upload

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run detection as the command does; the exit code and what stands on standard error."""

    def detect(
        source: str | Path,
        output: str | Path,
        *settings: str,
        model: str = MODEL,
        block: str | None = None,
    ) -> tuple[int, str]:
        code = run_detection(
            str(source),
            str(output),
            model=model,
            shards=1,
            settings=settings,
            block=block,
            verbose=False,
        )
        told = capsys.readouterr().err
        assert "Traceback" not in told
        return code, told

    return detect


@pytest.fixture
def source(tmp_path: Path) -> Path:
    put(tmp_path / "pictures", "a.png")
    return tmp_path / "pictures"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "results"


def errors(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith("Error: ")]


def the_error(outcome: tuple[int, str]) -> str:
    """The one error of a run that could not do its work."""
    code, told = outcome
    assert code == COULD_NOT_RUN
    assert len(errors(told)) == 1, told
    return errors(told)[0]


def test_pictures_counted_is_0_and_a_failed_picture_is_1(
    run: Run, source: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, output) == (
        DONE,
        "1 pictures found, 1 to count\npreparing the model ...\nwriting tables ...\n",
    )
    (source / "bad.png").write_bytes(b"")
    code, _ = run(source, output)
    assert code == SOME_FAILED
    assert run(source, output)[0] == SOME_FAILED  # still failed, though nothing new


def test_a_missing_source(run: Run, tmp_path: Path, output: Path) -> None:
    error = the_error(run(tmp_path / "typo", output))
    assert f"there is no folder {tmp_path / 'typo'}: check the path" in error
    assert not output.exists()


def test_no_pictures(run: Run, tmp_path: Path, output: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = the_error(run(tmp_path / "empty", output))
    assert "no pictures to count" in error
    assert "upload some, or check the path" in error
    assert not output.exists()


def test_an_output_that_is_a_file(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "is a file: name a folder" in the_error(run(source, tmp_path / "file"))
    assert str(tmp_path / "file") in the_error(run(source, tmp_path / "file" / "below"))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_an_output_that_can_not_be_written(run: Run, source: Path, output: Path) -> None:
    output.mkdir(mode=0o555)
    assert "check the output folder and its rights" in the_error(run(source, output))
    assert not files(output)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("confidence=2", "confidence: Input should be less than 1"),
        ("confidenc=0.5", "confidenc: Extra inputs are not permitted"),
        ("confidence", "'confidence' is not a setting: expected NAME=VALUE"),
        ("io_threads=many", "io_threads: Input should be a valid integer"),
        ("sample_pattern=(", "is not a regular expression"),
        ("sample_pattern=abc", "names no part of a sample"),
        ("precision=fp16", "precision fp16 needs a GPU: set precision: fp32 or auto"),
    ],
)
def test_settings_that_can_not_be_used(
    run: Run, source: Path, output: Path, setting: str, words: str
) -> None:
    assert words in the_error(run(source, output, setting, "device=cpu"))
    assert not output.exists()


def test_a_missing_model_file(run: Run, source: Path, output: Path, tmp_path: Path) -> None:
    error = the_error(run(source, output, model=str(tmp_path / "none.pt")))
    assert f"the model file {tmp_path / 'none.pt'} can't be read (No such file" in error
    assert "check the path given as model" in error
    assert not output.exists()


def test_a_file_that_is_no_model(run: Run, source: Path, output: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("no weights at all")
    error = the_error(run(source, output, model=str(tmp_path / "notes.pt")))
    assert "can't be loaded as a YOLO model" in error
    assert not output.exists()


def test_an_unknown_version(run: Run, source: Path, output: Path) -> None:
    error = the_error(run(source, output, model="v99"))
    assert f"there is no model 'v99' in {output}" in error
    assert "'production', 'bundled', one of the versions below trained_models/" in error
    assert not output.exists()


def published(output: Path, version: str = "v1") -> Path:
    """A copy of the model below an output folder, as training publishes it; its weights."""
    model = resolve_model(MODEL, Location(folder=output))
    weights = output / "trained_models" / version / "weights" / "best.pt"
    weights.parent.mkdir(parents=True)
    shutil.copyfile(model.weights, weights)
    card = model.card.model_copy(update={"version": version})
    (weights.parents[1] / "model.json").write_text(card.model_dump_json())
    return weights


def test_weights_altered_by_one_byte(
    run: Run, source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path / "cache"))
    weights = published(output)
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    before = files(output)
    error = the_error(run(source, output, model="v1"))
    assert "the weights of model 'v1' were altered or damaged: expected SHA-256" in error
    assert "They were not loaded. Publish the model again, or choose another one" in error
    assert files(output) == before
    assert not list((tmp_path / "cache").rglob("best.pt"))


def test_weights_that_are_not_the_promoted_ones(run: Run, source: Path, output: Path) -> None:
    published(output)
    promotion = output / "trained_models" / "promotions" / "000001.json"
    promotion.parent.mkdir()
    promotion.write_text('{"version": "v1", "sha256": "' + "0" * 64 + '"}')
    error = the_error(run(source, output, model="production"))
    assert "model 'v1'" in error
    assert "is not the one that was promoted" in error
    promotion.write_text("half a fi")
    assert "can't be read" in the_error(run(source, output, model="production"))
    assert not (output / "pollen_counting_results").exists()


def test_a_damaged_card(run: Run, source: Path, output: Path) -> None:
    weights = published(output)
    (weights.parents[1] / "model.json").write_text('{"version": "v1"}')
    assert "the card of model 'v1'" in the_error(run(source, output, model="v1"))
    assert not (output / "pollen_counting_results").exists()


def test_a_model_of_other_classes(run: Run, source: Path, output: Path, tmp_path: Path) -> None:
    from ultralytics.models import YOLO

    YOLO("yolov8n.yaml", verbose=False).save(tmp_path / "street.pt")
    error = the_error(run(source, output, model=str(tmp_path / "street.pt")))
    assert "does not know our classes: unknown class '0': expected 'viable' or" in error
    assert not output.exists()


def test_a_cache_that_can_not_be_used(
    run: Run, source: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(detection, "_detectors", {})
    monkeypatch.setenv("POLLEN_CACHE_DIR", str(tmp_path / "file"))
    assert "set POLLEN_CACHE_DIR to a folder" in the_error(run(source, output))
    assert not output.exists()


PREFIX = "s3://pollen/detecting"


def test_wrong_keys(
    run: Run, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with s3_server.active():
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
            with monkeypatch.context() as patch:
                patch.setenv(name, "wrong")
                error = the_error(run(PREFIX, output))
            assert "the S3 server refused access to s3://pollen/detecting" in error
            assert "check the access key, the secret key" in error
    assert not output.exists()


def test_no_keys(
    run: Run, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with s3_server.active():
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        error = the_error(run(PREFIX, output))
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        error = the_error(run(PREFIX, output))
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in error
    assert not output.exists()


def test_missing_buckets(run: Run, s3_server: EmbeddedS3, source: Path, output: Path) -> None:
    with s3_server.active():
        error = the_error(run("s3://typo/in", output))
        assert f"there is no bucket 'typo' on {s3_server.endpoint_url}" in error
        assert "or create the bucket" in error
        assert "there is no bucket 'typo'" in the_error(run(source, "s3://typo/out"))
    assert not output.exists()
    assert [bucket["Name"] for bucket in s3_server.client().list_buckets()["Buckets"]] == [BUCKET]


def test_no_bucket_named(run: Run, source: Path, output: Path) -> None:
    assert "'s3://' names no bucket: expected s3://bucket/prefix" in the_error(run("s3://", output))


def test_an_unreachable_endpoint(
    run: Run, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    monkeypatch.setattr(tasks.stage, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setitem(storage.CLIENT_CONFIG, "retries", {"total_max_attempts": 1})
    with s3_server.active():
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        error = the_error(run(PREFIX, output))
    assert "the S3 server for s3://pollen/detecting can't be reached" in error
    assert "check AWS_ENDPOINT_URL" in error
    assert not output.exists()


def test_a_ca_file_that_is_missing(
    run: Run, s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    with s3_server.active():
        monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/ca.pem")
        error = the_error(run(PREFIX, output))
    assert "AWS_CA_BUNDLE names /no/such/ca.pem, which is not a file" in error


def test_no_pictures_in_a_bucket(run: Run, s3_server: EmbeddedS3) -> None:
    upload(s3_server, "detecting/empty", {"notes.txt": b"no picture"})
    with s3_server.active():
        error = the_error(run(f"{PREFIX}/empty", f"{PREFIX}/nothing"))
    assert "no pictures to count" in error
    assert not objects(s3_server, "detecting/nothing")


def test_a_block_without_a_server(run: Run, source: Path) -> None:
    error = the_error(run(source, "s3://pollen/x", block="laboratory"))
    assert "--block needs a Prefect server, which holds the block: set PREFECT_API_URL" in error


def test_counting_between_buckets(run: Run, s3_server: EmbeddedS3) -> None:
    upload(s3_server, "detecting/in", {"a.png": picture(0), "b/a.png": picture(1)})
    with s3_server.active():
        code, _ = run(f"{PREFIX}/in", f"{PREFIX}/out")
        before = objects(s3_server, "detecting/out")
        assert code == DONE
        assert run(f"{PREFIX}/in", f"{PREFIX}/out")[0] == DONE
    assert "pollen_counting_results/pollen_counts.csv" in before
    assert objects(s3_server, "detecting/out") == before


def test_a_block_that_does_not_exist(
    run: Run, prefect_server: EmbeddedPrefect, source: Path
) -> None:
    error = the_error(run(source, "s3://pollen/x", block="nobody"))
    assert "there is no S3Bucket block named 'nobody' on the Prefect server" in error


def test_a_refused_run_tells_one_error(
    run: Run,
    prefect_server: EmbeddedPrefect,
    s3_server: EmbeddedS3,
    monkeypatch: pytest.MonkeyPatch,
    output: Path,
) -> None:
    with s3_server.active():
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        error = the_error(run("s3://pollen/detecting", output))
    assert "the S3 server refused access" in error
    assert not output.exists()


def test_a_server_that_is_away(
    run: Run, monkeypatch: pytest.MonkeyPatch, source: Path, output: Path
) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        error = the_error(run(source, output))
    assert "the Prefect server at http://127.0.0.1:9/api can't be used" in error
    assert "unset PREFECT_API_URL to run without one" in error
    assert not output.exists()


def test_a_run_leaves_rows(
    run: Run, prefect_server: EmbeddedPrefect, source: Path, output: Path
) -> None:
    (source / "bad.png").write_bytes(b"")
    assert run(source, output)[0] == SOME_FAILED
    assert list(rows(output)) == ["a.png", "bad.png"]
