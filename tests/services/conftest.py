"""What tests of commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.commands.dataset import run_check


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Check a dataset as the command does; exit code, standard output and standard error."""

    def run(path: Path, *settings: str) -> tuple[int, str, str]:
        code = run_check(path, settings)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return run
