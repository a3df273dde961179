"""Leftovers of killed processes go; what a living one uses stays."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tasks.storage.scratch import KEPT_SECONDS, remove_dead, scratch_folder, scratch_folders
from tests.support.pictures import put
from tests.support.runs import REPOSITORY, count

#: A process that makes a scratch folder and an unfinished file, and is killed while it has them.
_KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.storage.folders import FolderStore
from tasks.storage.scratch import scratch_folder

scratch = scratch_folder("batch")
Path(scratch.name, "copy").write_bytes(b"large")
FolderStore(Path(sys.argv[1]))._unfinished("detected_images/a/b.jpg").__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def dead(temporary: Path, tmp_path: Path) -> list[Path]:
    """What a killed process left in the folder for temporary files and in an output."""
    output = tmp_path / "out"
    subprocess.run(
        [sys.executable, "-c", _KILLED, str(output)], cwd=REPOSITORY, env=os.environ, check=False
    )
    found = [*temporary.glob("pollen-*"), *output.rglob(".unfinished-*")]
    assert len(found) == 2
    return found


def age(*paths: Path) -> None:
    """Make paths look older than anything that is kept."""
    then = time.time() - KEPT_SECONDS - 60
    for path in paths:
        os.utime(path, (then, then))


def test_a_run_takes_away_what_a_killed_one_left(dead: list[Path], tmp_path: Path) -> None:
    put(tmp_path / "pictures", "a.png")
    age(*dead)
    count(tmp_path / "pictures", tmp_path / "out")
    assert not any(path.exists() for path in dead)


def test_what_is_young_is_kept(dead: list[Path]) -> None:
    remove_dead(dead)
    assert all(path.exists() for path in dead)


def test_what_another_machine_made_is_kept(
    dead: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(*dead)
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    remove_dead(dead)
    assert all(path.exists() for path in dead)


def test_what_a_living_process_uses_is_kept(temporary: Path) -> None:
    with scratch_folder("batch") as mine:
        age(Path(mine))
        remove_dead(scratch_folders())
        assert Path(mine).is_dir()
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("name", ["pollen-tests-abc", "pollen-x", "pollen-a-00000000-1-b"])
def test_what_does_not_say_whose_it_is_is_kept(temporary: Path, name: str) -> None:
    (temporary / name).mkdir()
    age(temporary / name)
    remove_dead(scratch_folders())
    assert (temporary / name).is_dir()


def test_what_can_not_be_removed_stops_nothing(
    dead: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(*dead)

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refused)
    remove_dead(dead)
    assert [path.exists() for path in dead] == [True, False]
