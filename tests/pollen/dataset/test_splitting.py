"""Splitting: together stays together, old stays where it is."""

from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.dataset.manifest import Split
from pollen.dataset.settings import Shares
from pollen.dataset.splitting import Placing, Tied, place

SHARES = Shares()
TIES = [f"tie:{number}" for number in range(12)]


@st.composite
def pictures(draw: st.DrawFn, prefix: str = "") -> list[Tied]:
    """Pictures with a few ties each, some of them placed already."""
    number = draw(st.integers(0, 25))
    return [
        Tied(
            f"{prefix}{draw(st.integers(0, 999)):03d}:{place}",
            tuple(draw(st.lists(st.sampled_from(TIES), min_size=1, max_size=3, unique=True))),
            draw(st.sampled_from([None, None, None, *Split])),
        )
        for place in range(number)
    ]


def as_old(placed: Placing, given_pictures: list[Tied]) -> list[Tied]:
    """The placed pictures, as the next merge finds them."""
    return [
        Tied(one.id, one.ties, placed.splits[one.id], settled=True)
        for one in given_pictures
        if one.id in placed.splits
    ]


@given(pictures())
def test_no_tie_is_ever_in_two_splits_and_no_picture_is_lost(given_pictures: list[Tied]) -> None:
    placed = place(given_pictures, SHARES)
    splits = defaultdict(set)
    for one in given_pictures:
        assert (one.id in placed.splits) != (one.id in placed.leaks)
        if one.id in placed.splits:
            for tie in one.ties:
                splits[tie].add(placed.splits[one.id])
        else:
            assert len(placed.leaks[one.id]) > 1
    assert all(len(found) == 1 for found in splits.values())


@given(pictures())
def test_pictures_that_have_a_split_keep_it_or_are_left_out(given_pictures: list[Tied]) -> None:
    placed = place(given_pictures, SHARES)
    for one in given_pictures:
        if one.split is not None and one.id in placed.splits:
            assert placed.splits[one.id] is one.split
        if one.split is Split.TRAIN:
            assert one.id in placed.splits


@given(st.data(), pictures())
def test_the_order_of_pictures_does_not_matter(
    data: st.DataObject, given_pictures: list[Tied]
) -> None:
    shuffled = data.draw(st.permutations(given_pictures))
    assert place(shuffled, SHARES) == place(given_pictures, SHARES)


@given(pictures("a"), pictures("b"))
def test_old_pictures_never_move_when_new_ones_come(first: list[Tied], more: list[Tied]) -> None:
    before = place(first, SHARES)
    after = place([*as_old(before, first), *more], SHARES)  # some of them put there by hand
    for one, split in before.splits.items():
        assert after.splits[one] is split


@given(pictures())
def test_placing_again_changes_nothing(given_pictures: list[Tied]) -> None:
    placed = place(given_pictures, SHARES)
    again = [one for one in given_pictures if one.id in placed.leaks]
    once_more = place([*as_old(placed, given_pictures), *again], SHARES)
    assert once_more.splits == placed.splits
    assert once_more.leaks.keys() == placed.leaks.keys()


@given(st.lists(st.integers(1, 6), min_size=60, max_size=120))
def test_shares_come_close_to_what_is_wanted(sizes: list[int]) -> None:
    given_pictures = [
        Tied(f"{hash((group, size, one)) % 10**8:08d}:{group}.{one}", (f"group:{group}",))
        for group, size in enumerate(sizes)
        for one in range(size)
    ]
    placed = place(given_pictures, SHARES)
    counts = [list(placed.splits.values()).count(split) for split in Split]
    wanted = [SHARES.train, SHARES.val, SHARES.test]
    for count, share in zip(counts, wanted, strict=True):
        assert count / len(given_pictures) == pytest.approx(share, abs=0.04)


def test_a_share_of_zero_gets_nothing_and_the_first_group_goes_to_train() -> None:
    shares = Shares(train=0.8, val=0.2, test=0)
    placed = place([Tied(f"{one:02d}", (f"t{one}",)) for one in range(20)], shares)
    assert Split.TEST not in placed.splits.values()
    assert place([Tied("x", ("t",))], SHARES).splits == {"x": Split.TRAIN}


def test_a_copy_in_train_pushes_out_what_judges() -> None:
    old = [
        Tied("1", ("a", "copy"), Split.VAL),
        Tied("2", ("b", "copy"), Split.TRAIN),
        Tied("3", ("c", "other"), Split.VAL),
        Tied("4", ("d", "other"), Split.TEST),
    ]
    placed = place(old, SHARES)
    assert placed.splits == {"2": Split.TRAIN, "4": Split.TEST}
    assert placed.leaks == {"1": (Split.TRAIN, Split.VAL), "3": (Split.VAL, Split.TEST)}


def test_copies_are_asked_for_where_pictures_are_placed_already() -> None:
    alike = ["a", "b", "c", "d", "e"]
    asked: dict[str, dict[str, str | None]] = {}

    def copies_of(one: str, component: Callable[[str], str | None]) -> list[str]:
        """One copy in each component, as the comparison of pictures gives them."""
        asked[one] = {other: component(other) for other in alike}
        found: dict[str, str] = {}
        for other, place_of_it in asked[one].items():
            if place_of_it is not None and other != one and one in alike:
                found.setdefault(place_of_it, other)
        return list(found.values())

    pictures = [
        Tied("a", ("plant a",), Split.TRAIN, settled=True),
        Tied("z", ("plant b",), Split.VAL, settled=True),
        Tied("b", ("plant x",)),
        Tied("c", ("plant b",)),  # a copy of what is in train, of a plant in val
        Tied("d", ("plant y",)),
        Tied("e", ("plant y",)),
    ]
    placing = place(pictures, SHARES, copies_of)

    assert placing.leaks == {"c": (Split.TRAIN, Split.VAL)}
    assert {one for one, split in placing.splits.items() if split is Split.TRAIN} == set("abde")
    assert asked["e"]["c"] is None  # what is left out ties nothing
    assert len({asked["e"][one] for one in "abd"}) == 1
