"""The page for biologists explains every column of every table."""

from pathlib import Path

import pytest

from pollen.columns import COUNT_COLUMNS, MEASUREMENT_COLUMNS
from pollen.statistics.samples import SAMPLE_COLUMNS

PAGE = Path(__file__).parents[2] / "docs" / "biologist.md"
TABLES = {
    "pollen_counts.csv": COUNT_COLUMNS,
    "particle_measurements.csv": MEASUREMENT_COLUMNS,
    "sample_viability.csv": tuple(SAMPLE_COLUMNS),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_explained_where_its_table_is(table: str) -> None:
    section = PAGE.read_text(encoding="utf-8").split(f"### `{table}`")[1].split("\n##")[0]
    explained = "".join(line.split("|")[1] for line in section.splitlines() if line[:1] == "|")
    assert [name for name in TABLES[table] if f"`{name}`" not in explained] == []


def test_pictures_of_the_page_are_there_and_small() -> None:
    names = [part.split(")")[0] for part in PAGE.read_text(encoding="utf-8").split("](images/")[1:]]
    assert names
    assert all((PAGE.parent / "images" / name).stat().st_size < 200_000 for name in names)
