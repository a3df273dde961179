"""Pictures to look at: which they are, and what becomes of those that can't be shown."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pollen.layout import annotated_key
from pollen.reports.annotate import decode_jpeg, encode_jpeg
from tasks.detection.thumbnails import SHOWN, SHOWN_BYTES, SHOWN_PX, Thumbnails
from tasks.faults import StorageError, UnreachableError
from tasks.storage.folders import FolderStore


class Failing(FolderStore):
    """A folder that fails for some keys; tells what was read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.bad: set[str] = set()
        self.asked: list[str] = []

    def read(self, key: str) -> bytes:
        self.asked.append(key)
        if key in self.bad:
            raise UnreachableError(f"{key}: the storage does not answer")
        return super().read(key)


@pytest.fixture
def store(tmp_path: Path) -> Failing:
    return Failing(tmp_path)


def chosen(names: str) -> pl.DataFrame:
    """Pictures that the model is the surer of the later they stand."""
    confidence = [0.5 + number / 100 for number in range(len(names))]
    schema = {"filename": pl.String, "mean_confidence": pl.Float64}
    found = pl.DataFrame([list(names), confidence], schema=schema)
    return found.with_columns(input_present=pl.lit(value=True))


def fill(store: FolderStore, names: str, *, noise: bool = False) -> None:
    pixels = np.full((300, 400, 3), 200, np.uint8)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 256, pixels.shape, np.uint8)
    for name in names:
        store.write(annotated_key(name), encode_jpeg(pixels, 90))


@pytest.mark.parametrize(
    ("names", "least", "most"),
    [
        ("", "", ""),
        ("a", "a", ""),
        ("abc", "ab", "c"),
        ("abcde", "abc", "ed"),
        ("abcdefgh", "abc", "hgf"),
    ],
)
def test_no_picture_is_shown_twice_and_the_extreme_one_first(
    store: Failing, names: str, least: str, most: str
) -> None:
    fill(store, names, noise=True)
    highlights = Thumbnails(store, chosen(names)).highlights()
    assert "".join(each.filename for each in highlights.least_certain) == least
    assert "".join(each.filename for each in highlights.most_certain) == most
    for each in (*highlights.least_certain, *highlights.most_certain):
        assert len(each.jpeg) <= SHOWN_BYTES
        assert max(decode_jpeg(each.jpeg).shape) <= SHOWN_PX


def test_a_picture_whose_drawing_can_have_no_name_is_not_shown(store: Failing) -> None:
    fill(store, "a")
    named = pl.col("filename").replace("b", r"b\xff")  # as a name that is not UTF-8 is listed
    thumbnails = Thumbnails(store, chosen("ab").with_columns(filename=named))
    assert [each.filename for each in thumbnails.for_report()] == ["a"]


def test_deleted_pictures_and_those_without_grains_are_not_shown(store: Failing) -> None:
    fill(store, "abc")
    there = pl.col("filename") != "a"
    grains = pl.when(pl.col("filename") != "b").then("mean_confidence")
    thumbnails = Thumbnails(
        store, chosen("abc").with_columns(input_present=there, mean_confidence=grains)
    )
    highlights = thumbnails.highlights()
    assert [each.filename for each in highlights.least_certain] == ["c"]
    assert highlights.least_certain[0].note == "mean confidence 0.52"
    assert not highlights.most_certain


def test_what_is_missing_or_damaged_is_left_out_and_read_once(store: Failing) -> None:
    fill(store, "cd")
    store.write(annotated_key("a"), b"no picture")
    store.write(annotated_key("c"), b"")
    thumbnails = Thumbnails(store, chosen("abcd"))
    assert [each.filename for each in thumbnails.for_report()] == ["d"]
    highlights = thumbnails.highlights()
    assert not highlights.least_certain
    assert [each.filename for each in highlights.most_certain] == ["d"]
    assert len(store.asked) == len(set(store.asked)) == len("abcd")


def test_a_store_that_fails_costs_the_picture_in_the_ui_and_fails_the_report(
    store: Failing, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, "abcd")
    store.bad = {annotated_key("a"), annotated_key("d")}
    thumbnails = Thumbnails(store, chosen("abcd"))
    highlights = thumbnails.highlights()
    assert [each.filename for each in highlights.least_certain] == ["b"]
    assert [each.filename for each in highlights.most_certain] == ["c"]
    assert caplog.text.count("can't be shown in the Prefect UI") == len(store.bad)
    with pytest.raises(StorageError, match="does not answer"):
        thumbnails.for_report()
    assert len(highlights.least_certain) < SHOWN
