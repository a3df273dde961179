"""Fixtures of the tests of commands, of the receiver and of setup."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from services.commands.dataset import run_check
from tests.support.amazon import Amazon


@pytest.fixture(scope="session")
def amazon() -> Iterator[Amazon]:
    """Amazon's services as moto has them, shared by all tests: use names of your own."""
    with Amazon() as services:
        yield services


@pytest.fixture
def name() -> str:
    """A name that nothing on the server has yet."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Check a dataset as the command does; exit code, standard output and standard error."""

    def run(path: Path, *settings: str) -> tuple[int, str, str]:
        code = run_check(path, settings)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return run
