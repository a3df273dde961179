"""What a model has learnt from is known through all trainings, and said where it flatters figures."""

import pytest

from pollen.training.lineage import LEARNT_FROM, Lineage, notices, unknown_plants

SCRATCH = Lineage()
TRAINED = SCRATCH.and_of(["1-3-F_4x", "2-1-A_2x"])
FILE = Lineage.unknown()
TEST = ["9-9-Z_2x", "1-3-f_4x", "1-3-F_4x"]


def test_a_lineage_grows_with_every_training_whatever_the_spelling() -> None:
    grown = TRAINED.and_of(["1-3-f_4X", "5-5-C_2x"])

    assert grown.plants == ("1-3-f_4x", "2-1-a_2x", "5-5-c_2x")
    assert grown.complete
    assert not FILE.and_of(["a"]).complete


@pytest.mark.parametrize("facts", [{}, {LEARNT_FROM: None}, {LEARNT_FROM: {"plants": 7}}])
def test_a_training_that_recorded_nothing_is_unknown(facts: dict[str, object]) -> None:
    assert Lineage.recorded(facts) == FILE


def test_what_was_recorded_comes_back() -> None:
    assert Lineage.recorded({LEARNT_FROM: TRAINED.model_dump(mode="json")}) == TRAINED


def test_figures_on_plants_that_were_learnt_from_are_called_flattering() -> None:
    said = notices(TRAINED.overlap("bundled", TEST), TRAINED.overlap("new-1", TEST), "test")

    assert said == (
        "the base (bundled) has learnt from the plants of 2 of the 3 pictures of test (1-3-F_4x, 1-3-f_4x): "
        "the figures flatter the new model",
        "the model in production (new-1) has learnt from the plants of 2 of the 3 pictures of test (1-3-F_4x, "
        "1-3-f_4x): its own figures flatter it beside the new model",
    )


def test_where_nothing_is_known_that_is_said() -> None:
    said = notices(FILE.overlap("mine.pt", TEST), SCRATCH.overlap("new-1", TEST), "val")

    assert said == (
        "it is not recorded what the base (mine.pt) has learnt from: if plants of val were part of it, "
        "the figures flatter the new model",
    )


def test_other_plants_need_no_word() -> None:
    strangers = TRAINED.overlap("bundled", ["9-9-Z_2x"])

    assert (strangers.pictures, strangers.of) == (0, 1)
    assert notices(strangers, strangers, "test") == ()
    assert unknown_plants([True, True], "test") == ()


def test_names_that_tell_no_plant_are_told() -> None:
    (notice,) = unknown_plants([True, False, False], "test")

    assert notice.startswith("the names of 2 of the 3 pictures of test tell no plant")
    assert "set merging.sample_pattern" in notice


def test_of_many_plants_some_are_named() -> None:
    plants = [f"{number}-1-A_2x" for number in range(9)]
    all_of_them = SCRATCH.and_of(plants).overlap("m", plants)
    (said, _) = notices(all_of_them, all_of_them, "test")

    assert "(0-1-A_2x, 1-1-A_2x, 2-1-A_2x, 3-1-A_2x, 4-1-A_2x and 4 more)" in said
