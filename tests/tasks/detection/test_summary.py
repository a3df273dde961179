"""What a run says of itself in one line."""

import polars as pl
import pytest

from pollen.columns import COUNT_COLUMNS, IMAGE_RECORD
from tasks.detection.summary import Summary


def summary(*rows: dict[str, object]) -> Summary:
    schema = {name: IMAGE_RECORD.get(name, pl.Float64()) for name in COUNT_COLUMNS}
    schema |= {"input_present": pl.Boolean(), "total_counted": pl.Int64()}
    return Summary(pl.DataFrame(list(rows), schema=schema), len(rows), "here")


def row(name: str, viable: int, non_viable: int, **values: object) -> dict[str, object]:
    total = viable + non_viable
    return {
        "filename": name,
        "status": "ok",
        "viable": viable,
        "non_viable": non_viable,
        "total_counted": total,
        "total_detected": total,
        "input_present": True,
        "flags": "",
    } | values


@pytest.mark.parametrize(
    ("viable", "non_viable", "shown"),
    [(9999, 1, "99.99% viable"), (10, 0, "100% viable"), (4, 1, "80.0% viable")],
)
def test_all_viable_is_shown_only_if_all_are(viable: int, non_viable: int, shown: str) -> None:
    assert summary(row("a", viable, non_viable)).sentence.endswith(shown)


def test_few_grains_in_many_pictures_of_another_scale_are_mentioned() -> None:
    off = [row(str(number), 1, 0, size_to_model=4.0) for number in range(4)]
    assert "the grains of all pictures together are of another size" in summary(*off).message
    assert "another size" not in summary(*(each | {"size_to_model": 1.2} for each in off)).message
    assert "another size" not in summary(*(each | {"input_present": False} for each in off)).message


def test_mostly_empty_pictures_are_mentioned() -> None:
    empty = [row(name, 0, 0, status="empty") for name in "abc"]
    assert "most have no grain" in summary(row("d", 4, 1), *empty).message
    assert "most have no grain" not in summary(row("d", 4, 1), *empty[:1]).message


def test_pictures_under_two_names_are_mentioned() -> None:
    rows = [
        row("a", 1, 0, flags="blurred; same picture as b"),
        row("b", 1, 0, flags="same picture as a"),
    ]
    assert summary(*rows).message.endswith("; 2 are identical to another picture")
