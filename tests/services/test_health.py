"""The health command of the image."""

import shutil
from pathlib import Path

import pytest

import pollen.bundled
from services import health

SMALL = ("json",)


@pytest.fixture(autouse=True)
def _few_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large libraries are imported by the test of the image's contents."""
    monkeypatch.setattr(health, "MODULES", SMALL)
    for name in health.FOLDERS:
        monkeypatch.delenv(name, raising=False)


def test_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "scratch" / "home"))
    monkeypatch.setenv("POLLEN_REVISION", "abc")

    assert health.main() == health.HEALTHY
    assert "revision abc" in capsys.readouterr().out
    assert list((tmp_path / "scratch" / "home").iterdir()) == []


def test_a_folder_that_can_t_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a file"
    file.touch()
    monkeypatch.setenv("PREFECT_HOME", str(file / "prefect"))

    assert health.main() == health.UNHEALTHY
    told = capsys.readouterr().err
    assert f"{file / 'prefect'} (PREFECT_HOME) can't be written to" in told
    assert "Mount a volume" in told


def test_a_library_that_does_not_load_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "without_its_library.py").write_text("raise OSError('libcuda.so.1: not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(health, "MODULES", ("not_installed", "without_its_library"))

    assert health.main() == health.UNHEALTHY
    told = capsys.readouterr().err
    assert "The module not_installed can't be imported" in told
    assert "libcuda.so.1" in told


def test_an_altered_model_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = Path(str(pollen.bundled.__file__)).parent
    for name in ("best.pt", "model.json"):
        shutil.copy(shipped / name, tmp_path)
    with (tmp_path / "best.pt").open("ab") as weights:
        weights.write(b"altered")
    monkeypatch.setattr(pollen.bundled, "__file__", str(tmp_path / "__init__.py"))

    assert health.main() == health.UNHEALTHY
    assert "altered or damaged" in capsys.readouterr().err
