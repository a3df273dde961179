"""`pollen demo`: the whole product with real servers, into a folder."""

import csv
import os
from pathlib import Path

import psutil
import pytest

from pollen.synth import sample_frames
from services.commands.demo import MARKER, run_demo
from services.embedded import EmbeddedServerError
from services.exit_codes import COULD_NOT_RUN, DONE
from tests.support.runs import GRAINS, REPORT, rows


@pytest.mark.slow(seconds=45)
def test_the_demo_leaves_tables_report_and_pictures_and_no_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo-output"
    (output / "detected_images").mkdir(parents=True)
    (output / "detected_images" / "of an older demo.jpg").touch()
    (output / MARKER).touch()
    (output / "mine.txt").touch()
    children = set(psutil.Process().children(recursive=True))
    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    assert run_demo(output) == DONE

    truth = {name: frame.truth_counts() for name, frame in sample_frames()}
    found = rows(output)
    assert sorted(found) == sorted(truth)
    assert {row["status"] for row in found.values()} <= {"ok", "empty"}
    true_grains = sum(sum(counts.values()) for counts in truth.values())
    detected = sum(int(row["total_detected"]) for row in found.values())
    assert abs(detected - true_grains) <= 0.1 * true_grains
    with (output / GRAINS).open(newline="", encoding="utf-8") as table:
        assert len(list(csv.reader(table))) == 1 + detected
    assert "<html" in (output / REPORT).read_text(encoding="utf-8")
    for name in truth:
        assert (output / "detect_images" / name).is_file()
        assert (output / "detected_images" / f"{name}.jpg").is_file()
    assert not (output / "detected_images" / "of an older demo.jpg").exists()
    assert (output / "mine.txt").exists()

    told = capsys.readouterr()
    assert f"Tables, report and pictures: {output}" in told.out
    assert "Error" not in told.err
    assert set(psutil.Process().children(recursive=True)) <= children
    assert {
        name: value for name, value in os.environ.items() if name.startswith("AWS_")
    } == settings


def test_a_server_that_does_not_start_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise EmbeddedServerError("no free port: stop something")

    monkeypatch.setattr("services.commands.demo.EmbeddedS3.__enter__", refused)
    monkeypatch.setattr("services.commands.demo.EmbeddedPrefect.__enter__", refused)
    assert run_demo(tmp_path / "out") == COULD_NOT_RUN
    assert "Error: no free port: stop something" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_an_output_that_is_taken_is_one_error_before_anything_starts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    taken: str,
) -> None:
    output = tmp_path / "mine"
    if taken == "folder":
        output.mkdir()
    mine = output / "notes.txt" if taken == "folder" else output
    mine.write_text("mine")
    monkeypatch.setattr(
        "services.commands.demo._count_samples", lambda _: pytest.fail("it started")
    )
    assert run_demo(output) == COULD_NOT_RUN
    assert "name a new folder with --output" in capsys.readouterr().err
    assert mine.read_text() == "mine"
