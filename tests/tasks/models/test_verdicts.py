"""A verdict is read from the figures of a model; without what a promotion needs there is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from pollen.layout import conclusion_key, metrics_key
from tasks.models.verdicts import DamagedVerdictError, read_verdict
from tasks.storage.store import Location, open_store

WHOLE: dict[str, Any] = {
    "split": "test",
    "new": {"overall": {"grains": 500, "count_error_percent": 1, "viability_error": None}},
    "production": {"model": {"sha256": "0"}},
    "gate": {"promote": True, "reasons": ["passed"]},
}


def stored(root: Path, content: object) -> Location:
    place = Location(folder=root)
    open_store(place).write(metrics_key("v1"), json.dumps(content).encode())
    return place


def test_what_was_measured_and_decided_is_read(tmp_path: Path) -> None:
    verdict = read_verdict(stored(tmp_path, WHOLE), "v1")
    assert verdict.is_open
    assert (verdict.gate.reasons, verdict.compared_with) == (("passed",), "0")
    assert verdict.figures == "on 500 grains of test: count error 1.00 %, viability error unknown"


def test_a_training_that_came_to_its_end_is_not_open(tmp_path: Path) -> None:
    place = stored(tmp_path, WHOLE)
    open_store(place).write(conclusion_key("v1"), b'{"lost": "another was first"}')
    verdict = read_verdict(place, "v1")
    assert (verdict.is_open, verdict.lost) == (False, "another was first")


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"split": None}, "split"),
        ({"gate": None}, "gate"),
        ({"gate": {"reasons": []}}, "gate"),
        ({"gate": {"promote": "perhaps", "reasons": []}}, "gate"),
        ({"production": {}}, r"production\.model\.sha256"),
        ({"production": {"model": {"sha256": None}}}, r"production\.model\.sha256"),
        ({"new": {"overall": {"grains": 1, "viability_error": 0}}}, "count_error_percent"),
        ({"new": {"overall": WHOLE["new"]["overall"] | {"grains": "many"}}}, "grains"),
        ({"new": []}, "viability_error"),
    ],
)
def test_figures_that_lack_what_a_promotion_needs_are_damaged(
    tmp_path: Path, change: dict[str, Any], missing: str
) -> None:
    with pytest.raises(
        DamagedVerdictError, match=rf"(?s)can't be read .*{missing}.*promote .* by hand"
    ):
        read_verdict(stored(tmp_path, WHOLE | change), "v1")
