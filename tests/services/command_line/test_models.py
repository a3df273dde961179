"""`pollen models`: what it prints, exit codes, and one clear error where it can't."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from services.commands.models import order_promotion, order_rollback, print_list, print_one
from services.embedded import EmbeddedPrefect, EmbeddedS3
from services.exit_codes import COULD_NOT_RUN, DONE
from tasks.models.registry import read_history
from tasks.models.resolve import PRODUCTION, resolve_model
from tasks.storage.store import Location, open_store
from tests.flows.test_flow_run import save_block
from tests.services.command_line.test_command_line import imports_of
from tests.support.models import put_model
from tests.support.runs import BUCKET, bucket_folder, command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A registry of two models in a folder."""
    folder = tmp_path / "lab"
    for version in ("v1", "v2"):
        put_model(Location(folder=folder), tmp_path, version)
    return folder


Said = Callable[[], str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What was printed since the last time."""

    def read() -> str:
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return " ".join((printed.out + printed.err).split())

    return read


def test_a_model_is_promoted_listed_shown_and_taken_back(root: Path, said: Said) -> None:
    assert print_list(str(root), None) == DONE
    assert "None of them is in production" in said()
    assert order_promotion("v1", str(root), None, note="first") == DONE
    assert said() == "model v1 is now in production (promotion 1)"
    assert order_promotion("v2", str(root), None, note="better [really]") == DONE
    assert print_list(str(root), None) == DONE
    listed = said()
    assert "v1 published" in listed
    assert "v2 production" in listed
    assert print_one("production", str(root), None) == DONE
    shown = said()
    assert "Model v2" in shown
    assert "better [really]" in shown
    assert "promotion 1" not in shown
    assert order_rollback(None, str(root), None, note="worse after all") == DONE
    assert said() == "model v1 is now in production (promotion 3, back from promotion 2)"
    assert order_promotion("v1", str(root), None, note="") == DONE
    assert "is in production already" in said()
    assert order_rollback(None, str(root), None, note="") == COULD_NOT_RUN
    assert "Error: no model was in production" in said()


def test_the_bundled_model_shows_its_figures(tmp_path: Path, said: Said) -> None:
    assert order_promotion("bundled", str(tmp_path), None, note="") == DONE
    assert print_list(str(tmp_path), None) == DONE
    assert "bundled-1 production 0.9" in said()
    assert print_one("bundled", str(tmp_path), None) == DONE
    shown = said()
    assert "measured on │ val" in shown
    assert "working scale │ 0.75" in shown


def test_what_the_gate_said_is_shown(root: Path, said: Said) -> None:
    told = {
        "split": "test",
        "new": {"map50": {"viable": 0.5}},
        "gate": {"promote": False, "reasons": ["mAP50 is [low]"]},
    }
    (root / "trained_models" / "v1" / "metrics.json").write_text(json.dumps(told))
    assert print_one("v1", str(root), None) == DONE
    assert "gate │ mAP50 is [low]" in said()


def test_a_promotion_that_came_too_late_is_shown(root: Path, said: Said) -> None:
    lost = "promotion 2 put model 'v2' [there] since"
    (root / "trained_models" / "v1" / "conclusion.json").write_text(json.dumps({"lost": lost}))
    assert print_one("v1", str(root), None) == DONE
    assert f"not promoted │ {lost}" in said()


def test_unusable_versions_are_listed_with_the_reason(root: Path, said: Said) -> None:
    (root / "trained_models" / "v2" / "model.json").unlink()
    assert print_list(str(root), None) == DONE
    listed = said()
    assert "v2 unusable" in listed
    assert "v2: unfinished: it is being published, or publishing it was interrupted" in listed


def test_an_empty_registry(tmp_path: Path, said: Said) -> None:
    assert print_list(str(tmp_path), None) == DONE
    assert "No model is published here; runs on this machine use the bundled model." in said()


@pytest.mark.parametrize(
    ("root", "block", "words"),
    [
        (
            None,
            None,
            "name the folder or s3://bucket/prefix that holds trained_models/ with --root",
        ),
        (None, "lab", "set PREFECT_API_URL, or leave out --block"),
        ("s3://", None, "names no bucket"),
        ("nowhere", None, "there is no folder"),
    ],
)
def test_places_that_can_not_be_used(
    root: str | None,
    block: str | None,
    words: str,
    said: Said,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert print_list(root, block) == COULD_NOT_RUN
    assert words in said()


def test_a_block_alone_names_the_place(
    prefect_server: EmbeddedPrefect, s3_server: EmbeddedS3, tmp_path: Path, said: Said
) -> None:
    save_block("models", s3_server, "models/block")
    with s3_server.active():
        put_model(bucket_folder("models/block"), tmp_path, "v1")
    assert order_promotion("v1", None, "models", note="") == DONE
    with s3_server.active():
        assert resolve_model(PRODUCTION, bucket_folder("models/block")).card.version == "v1"
        assert print_list(f"s3://{BUCKET}/models/block", None) == DONE
    assert "v1 production" in said()


def test_as_commands(root: Path) -> None:
    done = command("models", "promote", "v2", "--root", root, "--note", "by command")
    assert (done.returncode, done.stdout) == (0, "model v2 is now in production (promotion 1)\n")
    made = read_history(open_store(Location(folder=root))).current
    assert made is not None
    assert made.note == "by command"
    done = command("models", "promote", "v9", "--root", root)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: there is no model 'v9'")


@pytest.mark.parametrize("arguments", [("models", "--help"), ("models", "promote", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    loaded = imports_of(*arguments, report=tmp_path / "modules.json", environment={})
    assert not {"prefect", "torch", "numpy", "polars", "boto3"} & loaded
