"""The `pollen` command as a process of its own: help, exit codes, what it starts and imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.embedded import EmbeddedPrefect, EmbeddedS3
from tests.support.pictures import put
from tests.support.runs import MODEL, REPOSITORY, command, count, rows

_TELL_IMPORTS = """
import atexit, json, sys
from pathlib import Path
from services.command_line import main

def tell():
    Path(sys.argv[0]).write_text(json.dumps(sorted(sys.modules)))

atexit.register(tell)
sys.argv = [{report!r}, *{arguments!r}]
main()
"""


def imports_of(*arguments: str, report: Path, environment: dict[str, str]) -> set[str]:
    """Top-level packages that a command has imported when it ends."""
    code = _TELL_IMPORTS.format(report=str(report), arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in json.loads(report.read_text())}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    put(tmp_path / "pictures", "a.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("detect", "--help"),
        ("train", "--help"),
        ("dataset", "check", "--help"),
        ("demo", "--help"),
    ],
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    loaded = imports_of(*arguments, report=tmp_path / "modules.json", environment={})
    assert "typer" in loaded
    heavy = {"prefect", "torch", "numpy", "polars", "cv2", "boto3", "ultralytics"}
    assert not heavy & loaded


def test_a_laptop_run_needs_neither_torch_nor_a_server(source: Path, tmp_path: Path) -> None:
    count(source, tmp_path / "first")  # prepares the model
    home = tmp_path / "prefect"
    loaded = imports_of(
        *("detect", str(source), "--output", str(tmp_path / "results"), "--model", MODEL),
        report=tmp_path / "modules.json",
        # If anything asked for a server, Prefect would start one and keep its data there.
        environment={"PREFECT_HOME": str(home), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"},
    )
    assert "openvino" in loaded
    assert not {"torch", "ultralytics", "matplotlib"} & loaded
    assert not [path for path in home.rglob("*") if path.is_file()]
    assert list(rows(tmp_path / "results")) == ["a.png"]


def test_counts_are_printed_and_progress_is_not_among_them(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    (source / "bad.png").write_bytes(b"")
    done = command("detect", source, "--output", output, "--model", MODEL)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "2 pictures found, 2 to count" in done.stderr
    assert "failed bad.png: the file is empty (0 bytes): upload it again" in done.stdout
    assert f"Results: {output}" in done.stdout
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("detect",), "Missing argument 'source'"),
        (("detect", "pictures"), "Missing option '--output'"),
        (("detect", "pictures", "-o", "x", "--edge-rule", "some"), "'some' is not one of"),
        (("detect", "pictures", "-o", "x", "--shards", "0"), "Invalid value for '--shards'"),
        (("train", "datasets/pollen"), "Missing option '--output'"),
        (("dataset", "check"), "Missing argument 'path'"),
        (("count",), "No such command 'count'"),
    ],
)
def test_wrong_use_is_2_and_says_what_is_wrong(arguments: tuple[str, ...], words: str) -> None:
    done = command(*arguments, environment={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())


def test_wrong_keys_are_one_error_as_a_flow_run_too(
    s3_server: EmbeddedS3, prefect_process: EmbeddedPrefect, tmp_path: Path
) -> None:
    done = command(
        *("detect", "s3://pollen/command", "--output", tmp_path / "results"),
        environment={
            **prefect_process.environment(),
            **s3_server.environment(),
            "AWS_SECRET_ACCESS_KEY": "wrong",
        },
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "check the access key, the secret key" in errors[0]
    assert not (tmp_path / "results").exists()
