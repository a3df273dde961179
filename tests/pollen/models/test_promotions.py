"""The list of promotions: what is in production, and what a rollback goes back to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.models.promotions import History, Promotion


def promotion(version: str, of: int | None = None, order: str = "") -> Promotion:
    kind = "promotion" if of is None else "rollback"
    return Promotion.model_validate(
        {"version": version, "sha256": "0" * 64, "kind": kind, "of": of, "order": order}
    )


def test_nothing_was_promoted() -> None:
    empty = History({})
    assert (empty.highest, empty.current, empty.before_current()) == (0, None, None)


def test_the_highest_number_counts_whatever_the_order() -> None:
    history = History({10: promotion("c"), 9: promotion("b"), 2: promotion("a")})
    assert history.highest == 10
    assert history.current == promotion("c")
    assert history.before_current() == 9


def test_two_rollbacks_go_further_back_and_a_third_finds_nothing() -> None:
    made: dict[int, Promotion | None] = {number: promotion(v) for number, v in enumerate("abc", 1)}
    assert History(made).before_current() == 2
    made[4] = promotion("b", of=2)
    assert History(made).before_current() == 1
    made[5] = promotion("a", of=1)
    assert History(made).before_current() is None


@given(st.lists(st.none() | st.sampled_from("abcd"), max_size=30))
def test_rollbacks_undo_promotions_as_a_stack_does(orders: list[str | None]) -> None:
    """None is a rollback; what is in production is always the top of a stack of promotions."""
    made: dict[int, Promotion | None] = {}
    stack: list[int] = []
    for version in orders:
        history = History(made)
        assert history.before_current() == (stack[-2] if len(stack) > 1 else None)
        number = history.highest + 1
        if version is not None:
            made[number] = promotion(version)
            stack.append(number)
        elif len(stack) > 1:
            stack.pop()
            target = made[stack[-1]]
            assert target is not None
            made[number] = promotion(target.version, of=stack[-1])
        current, top = History(made).current, made[stack[-1]] if stack else None
        assert (current and current.version) == (top and top.version)


def test_what_can_not_be_read_is_never_guessed() -> None:
    history = History({1: promotion("a"), 2: promotion("b"), 3: None})
    assert history.current is None
    assert history.before_current() is None
    assert History({1: None, 2: promotion("b")}).before_current() is None
    assert history.latest_of("b") == 2


def test_an_order_finds_what_it_did() -> None:
    history = History({1: promotion("a", order="x"), 2: promotion("b", order="y"), 3: None})
    assert history.ordered_as("x") == 1
    assert history.ordered_as("z") is None


def test_whoever_promoted_it_it_was_promoted() -> None:
    history = History({1: promotion("a"), 2: promotion("b", of=1), 3: None})
    assert [history.was_promoted(version) for version in "abc"] == [True, True, False]


def test_the_last_promotion_proper_of_a_version() -> None:
    history = History(
        {1: promotion("a"), 2: promotion("b"), 3: promotion("a"), 4: promotion("b", of=2)}
    )
    assert (history.latest_of("a"), history.latest_of("b"), history.latest_of("c")) == (3, 2, None)


@pytest.mark.parametrize(
    "text", ["", "{}", '{"version": "v1"}', '{"version": "v1", "sha256": "1"}']
)
def test_what_names_no_model_is_no_promotion(text: str) -> None:
    with pytest.raises(ValueError, match="Promotion"):
        Promotion.model_validate_json(text)


def test_least_and_unknown_content_is_read() -> None:
    text = '{"version": "v1", "sha256": "' + "a" * 64 + '", "of_another_release": 1}'
    read = Promotion.model_validate_json(text)
    assert read.names_same("v1", "a" * 64)
    assert not read.names_same("v1", "b" * 64)
