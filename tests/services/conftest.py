"""Fixtures of the tests of commands and of the receiver."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.commands.dataset import run_check
from tests.support.amazon import Amazon


@pytest.fixture(scope="session")
def amazon() -> Iterator[Amazon]:
    """Amazon's services as moto has them, shared by all tests: use names of your own."""
    with Amazon() as services:
        yield services


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Check a dataset as the command does; exit code, standard output and standard error."""

    def run(path: Path, *settings: str) -> tuple[int, str, str]:
        code = run_check(path, settings)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return run
