import pytest

from pollen.classes import GrainClass, class_order, parse_class


def test_numbers_are_those_of_the_labels() -> None:
    assert [(int(kind), kind.label) for kind in GrainClass] == [(0, "viable"), (1, "non_viable")]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("viable", GrainClass.VIABLE),
        (" Viable ", GrainClass.VIABLE),
        ("non_viable", GrainClass.NON_VIABLE),
        ("Non-viable", GrainClass.NON_VIABLE),
        ("non viable", GrainClass.NON_VIABLE),
        ("nonviable", GrainClass.NON_VIABLE),
    ],
)
def test_names_as_people_write_them(written: str, meant: GrainClass) -> None:
    assert parse_class(written) is meant


@pytest.mark.parametrize("name", ["", "pollen", "viables", "not viable", "unsure"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown class '{name}': expected 'viable' or 'non_v"):
        parse_class(name)


def test_order_follows_names_not_numbers() -> None:
    order = (GrainClass.NON_VIABLE, GrainClass.VIABLE)
    assert class_order({0: "non_viable", 1: "viable"}) == order
    assert class_order({1: "viable", 0: "Non-viable"}) == order


@pytest.mark.parametrize(
    "names",
    [{}, {0: "viable"}, {0: "viable", 1: "Viable"}, {0: "viable", 1: "non_viable", 2: "viable"}],
)
def test_each_class_stands_once(names: dict[int, str]) -> None:
    with pytest.raises(ValueError, match="viable and non_viable once each"):
        class_order(names)
