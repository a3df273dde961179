"""Batches: a partition of what waits, in order, of bounded size."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.detection.batches import (
    BATCH_PIXELS,
    PIXELS_PER_BYTE,
    Batch,
    Item,
    cut_batches,
    cut_for,
    deal,
    is_hidden,
)
from pollen.results.records import INPUTS

inputs = st.lists(
    st.tuples(st.text("abc/.", min_size=1, max_size=6), st.sampled_from(["jpg", "czi", "TIF"])),
    unique=True,
    max_size=40,
)
sizes = st.integers(0, 3 * 10**9)


def table(rows: list[tuple[str, str, int]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=INPUTS, orient="row")


def work(item: Item) -> float:
    return item.size * PIXELS_PER_BYTE[item.key.rpartition(".")[2].lower()]


@given(inputs, st.data(), st.integers(1, 7))
def test_batches_are_a_partition_in_order(
    names: list[tuple[str, str]], data: st.DataObject, most: int
) -> None:
    rows = [(f"{stem}.{suffix}", "1", data.draw(sizes)) for stem, suffix in names]
    batches = cut_batches(table(rows), most)
    items = [item for batch in batches for item in batch.items]
    assert [item.key for item in items] == sorted(key for key, _, _ in rows)
    for batch in batches:
        assert 1 <= len(batch.items) <= most
        assert len(batch.items) == 1 or sum(map(work, batch.items)) <= BATCH_PIXELS


def test_a_batch_is_as_full_as_it_may_be() -> None:
    batches = cut_batches(table([(f"{n:02}.jpg", "1", 10) for n in range(10)]), 4)
    assert [len(batch.items) for batch in batches] == [4, 4, 2]


@given(st.integers(0, 40), st.integers(1, 7), st.integers(1, 9))
def test_shards_share_all_that_waits_about_equally(pictures: int, most: int, shards: int) -> None:
    waiting = table([(f"{n:02}.jpg", "1", 10) for n in range(pictures)])
    hands = deal(cut_for(waiting, most, shards), shards)
    keys = [item.key for hand in hands for batch in hand for item in batch.items]
    assert sorted(keys) == waiting["key"].to_list()
    assert all(len(batch.items) <= most for hand in hands for batch in hand)
    sizes = [len(hand) for hand in hands]
    assert len(sizes) <= shards
    assert not sizes or 1 <= min(sizes) <= max(sizes) <= min(sizes) + 1


@pytest.mark.parametrize(("pictures", "working"), [(2, 2), (3, 3), (6, 3), (200, 3)])
def test_three_shards_all_have_work_where_there_is_enough(pictures: int, working: int) -> None:
    waiting = table([(f"{n:03}.jpg", "1", 10) for n in range(pictures)])
    assert len(deal(cut_for(waiting, 64, 3), 3)) == working


def test_the_id_depends_on_keys_and_versions_only() -> None:
    one = Batch((Item("a.jpg", "1", 5), Item("b.jpg", "1", 6)))
    assert one.id == Batch((Item("a.jpg", "1", 7), Item("b.jpg", "1", 8))).id
    assert one.id != Batch((Item("a.jpg", "2", 5), Item("b.jpg", "1", 6))).id
    assert one.id != Batch(one.items[:1]).id


def test_labels() -> None:
    assert Batch((Item("a.jpg", "1", 5),)).label == "a.jpg"
    assert Batch((Item("a.jpg", "1", 5), Item("b.jpg", "1", 6))).label == "a.jpg and 1 more"


@pytest.mark.parametrize("key", [".x.jpg", "a/._b.jpg", ".git/a.jpg"])
def test_hidden(key: str) -> None:
    assert is_hidden(key)


@pytest.mark.parametrize("key", ["a.jpg", "a.b/c.d.jpg"])
def test_not_hidden(key: str) -> None:
    assert not is_hidden(key)
