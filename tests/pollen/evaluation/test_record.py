"""The record is `metrics.json`: the same bytes as ever, and files of other versions are read as far as they go."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import pollen.bundled
from pollen.evaluation.record import Decision, Metrics, ModelFigures, PartFigures, Rate
from pollen.evaluation.wording import headline, rows

#: Written by the first version, from a training of one epoch.
REFERENCE = Path(__file__).with_name("metrics.json").read_bytes()


def test_a_file_of_the_first_version_comes_back_byte_for_byte() -> None:
    assert Metrics.from_json(REFERENCE).to_json() == REFERENCE


def test_the_figures_of_the_bundled_model_come_back_as_they_are() -> None:
    card = json.loads(Path(str(pollen.bundled.__file__)).with_name("model.json").read_text())
    content = {"split": "val", "new": card["metrics"]["val"]}
    written = Metrics.model_validate(content).to_json()
    assert written == (json.dumps(content, indent=2) + "\n").encode()


def test_every_entry_of_the_file_is_known_to_the_record() -> None:
    def keys(part: object) -> Any:  # noqa: ANN401  (JSON)
        return {k: keys(v) for k, v in part.items()} if isinstance(part, dict) else None

    read = Metrics.from_json(REFERENCE).model_dump(mode="json")
    assert keys(read) == keys(json.loads(REFERENCE))


def test_figures_are_rounded_as_they_are_written_and_not_before() -> None:
    figures = ModelFigures(
        map50={"viable": 0.123456, "non_viable": None},
        overall=PartFigures(grains=3, viability_error=-0.001, count_error_percent=100 / 3),
        called_wrong={"viable": Rate(fraction=1 / 3)},
    )
    assert figures.overall.count_error_percent == 100 / 3
    written = json.loads(Metrics(split="test", new=figures).to_json())
    assert written == {
        "split": "test",
        "new": {
            "map50": {"viable": 0.1235, "non_viable": None},
            "overall": {"grains": 3, "viability_error": 0.0, "count_error_percent": 33.33},
            "called_wrong": {"viable": {"fraction": 0.3333}},
        },
    }
    assert "-0.0" not in json.dumps(written)


def test_what_is_missing_or_of_another_kind_is_unknown_and_the_rest_is_read() -> None:
    content = {
        "split": "test",
        "new": {"overall": {"grains": 7, "found": "many", "later": 1}, "groups": [], "map50": {}},
        "production": None,
        "gate": {"reasons": ["no decision"]},
    }
    read = Metrics.from_json(json.dumps(content).encode())
    assert (read.new.overall.grains, read.new.overall.found) == (7, None)
    assert (read.new.groups, read.production.model.sha256, read.gate) == ({}, None, None)
    assert headline(read) == "on 7 grains of test: count error unknown, viability error unknown"
    assert {row.new for row in rows(read.new, None) if row.name != "labelled grains"} == {"-"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "should be an object"),
        (b'"x"', "should be an object"),
        (b"{}", "split Field required"),
        (b'{"split": 7}', "split Field required"),
    ],
)
def test_what_is_no_record_at_all_is_an_error_of_one_line(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        Metrics.from_json(data)
    assert len(str(caught.value).splitlines()) == 1


def test_a_gate_without_reasons_is_read() -> None:
    read = Metrics.from_json(b'{"split": "val", "gate": {"promote": true}}')
    assert read.gate == Decision(promote=True)


@pytest.mark.parametrize(
    "overall", [{"grains": "many", "found": 3}, {"grains": -1}, {"found": 1.5}, {"false": -2}]
)
def test_a_wrong_figure_of_our_own_is_refused_and_one_in_a_file_is_unknown(
    overall: dict[str, Any],
) -> None:
    with pytest.raises(ValidationError, match="overall"):
        ModelFigures(overall=overall)  # type: ignore[arg-type]
    content = {"split": "test", "new": {"overall": overall | {"pictures": 2}}}
    read = Metrics.from_json(json.dumps(content).encode()).new.overall
    assert (read.pictures, read.grains, read.false) == (2, None, None)
    assert read.found == (3 if "grains" in overall and "found" in overall else None)


def test_a_reason_that_can_not_be_read_costs_no_other() -> None:
    content = {"split": "val", "gate": {"promote": False, "reasons": ["a", 7, None, "b"]}}
    read = Metrics.from_json(json.dumps(content).encode())
    assert read.gate == Decision(promote=False, reasons=("a", "b"))
    with pytest.raises(ValidationError, match="reasons"):
        Decision(promote=False, reasons=("a", 7))  # type: ignore[arg-type]


def test_the_mean_is_over_the_classes_that_are_known() -> None:
    assert ModelFigures(map50_95={"viable": 0.8, "non_viable": None}).mean_map50_95 == 0.8
    assert ModelFigures(map50_95={"viable": 0.8, "non_viable": 0.5}).mean_map50_95 == 0.65
    assert ModelFigures().mean_map50_95 is None
