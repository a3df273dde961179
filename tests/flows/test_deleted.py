"""What was counted before a picture was deleted stays in the tables."""

import csv
import io
from pathlib import Path

from tests.support.pictures import put
from tests.support.runs import GRAINS, count, rows, tables, tiles_counted


def grains_of(output: Path, name: str) -> list[dict[str, str]]:
    text = (output / GRAINS).read_text(encoding="utf-8")
    return [row for row in csv.DictReader(io.StringIO(text)) if row["filename"] == name]


def test_a_deleted_picture_keeps_its_row_when_settings_change(tmp_path: Path) -> None:
    source, output = tmp_path / "pictures", tmp_path / "results"
    put(source, "a.png", "b.jpg")
    count(source, output)
    before, grains_before = rows(output)["a.png"], grains_of(output, "a.png")
    count(source, output, overlap_fraction=0.2)
    (source / "a.png").unlink()
    count(source, output, edge_rule="exclude")
    kept = rows(output)["a.png"]
    # Of the earlier settings the latest speak.
    fingerprint = kept.pop("settings_fingerprint")
    assert fingerprint != before.pop("settings_fingerprint")
    assert kept == before | {"input_present": "false"}
    grains = grains_of(output, "a.png")
    assert [grain | {"input_present": "true"} for grain in grains] == grains_before
    assert {grain["input_present"] for grain in grains} == {"false"}
    assert {row["edge_rule"] for row in rows(output).values()} == {"all", "exclude"}
    made = tables(output)
    with tiles_counted() as tiles:
        count(source, output, edge_rule="exclude")
    assert (tiles(), tables(output)) == (0, made)
