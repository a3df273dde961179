"""What tests of the doctor's command share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.console import ERR, OUT
from services.doctor.command import run_doctor

Doctor = Callable[..., tuple[int, list[dict[str, str]]]]


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Ask the doctor as the command does; exit code, and the findings of its JSON."""
    monkeypatch.setattr(OUT, "_width", 300)
    monkeypatch.setattr(ERR, "_width", 300)

    def run(
        name: str | None = None, config: Path | None = None
    ) -> tuple[int, list[dict[str, str]]]:
        code = run_doctor(name, config, as_json=True)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        reply: dict[str, Any] = json.loads(told.out)
        assert reply["exit_code"] == code
        return code, reply["findings"]

    return run
