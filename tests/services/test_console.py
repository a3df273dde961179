"""The table at the end of a run."""

import pytest
from rich.console import Console

from services import console
from tests.tasks.detection.test_summary import row, summary


def test_the_table_rounds_nothing_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(width=120, record=True)
    monkeypatch.setattr(console, "OUT", out)
    known = {"viability": 0.9998, "viability_low": 0.9989, "viability_high": 0.99999}
    console.show_summary(summary(row("a.png", 4999, 1, **known)))
    text = out.export_text()
    assert "99.98%" in text
    assert "99.9% to 99.999%" in text
    assert "100" not in text
