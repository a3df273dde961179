import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen import layout


def test_keys_are_the_contract() -> None:
    assert layout.INPUTS == "detect_images/"
    assert layout.COUNTS_TABLE == "pollen_counting_results/pollen_counts.csv"
    assert layout.GRAINS_TABLE == "pollen_counting_results/particle_measurements.csv"
    assert layout.RECORDS == "pollen_counting_results/records/"
    assert layout.weights_key("v3") == "trained_models/v3/weights/best.pt"
    assert layout.card_key("v3") == "trained_models/v3/model.json"


def test_annotated_pictures_keep_folder_and_suffix() -> None:
    assert layout.annotated_key("deep/a b.png") == "detected_images/deep/a b.png.jpg"
    names = ["a.png", "a.tif", "a.PNG", "b/a.png", "s.czi#scene=1", "s.czi#scene=2"]
    assert len({layout.annotated_key(name) for name in names}) == len(names)


def test_records_of_other_models_and_settings_lie_elsewhere() -> None:
    folders = {layout.records_folder(version, mark) for version in "ab" for mark in ("12", "34")}
    assert len(folders) == 4
    assert all(
        folder.startswith(layout.RECORDS) and folder.endswith("/") for folder in folders
    )  # the slash keeps `a-1/` from listing `a-12/`


def test_nothing_written_is_read_as_input() -> None:
    written = (layout.annotated_key("a.png"), layout.COUNTS_TABLE, layout.card_key("v"))
    assert all(key.startswith(layout.WRITTEN) for key in written)
    assert not layout.INPUTS.startswith(layout.WRITTEN)


@given(st.integers(0, 10_000_000))
def test_promotion_numbers_round_trip(number: int) -> None:
    assert layout.promotion_number(layout.promotion_key(number)) == number


@pytest.mark.parametrize(
    "name",
    [
        "",
        "readme.md",
        "000001.json.tmp",
        "000001",
        "-1.json",
        "1.5.json",
        "\u00b2.json",
        "old/7.json",
    ],
)
def test_other_objects_beside_the_promotions_have_no_number(name: str) -> None:
    assert layout.promotion_number(layout.PROMOTIONS + name) is None


@given(st.text("0123456789abcdef-", min_size=1), st.integers(1, 10_000_000))
def test_plan_numbers_round_trip(run: str, number: int) -> None:
    key = layout.plan_key(run, number)
    assert key.startswith(layout.plans_folder(run))
    assert layout.plan_number(key) == number


@pytest.mark.parametrize(
    "name", ["", "readme.md", "0001", "0001.json.tmp", "-1.json", "\u00b2.json"]
)
def test_other_objects_beside_the_plans_have_no_number(name: str) -> None:
    assert layout.plan_number(layout.plans_folder("run") + name) is None
