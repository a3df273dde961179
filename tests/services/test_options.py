"""Settings given as ``name=value``: what they reach, and one clear error for what they do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.dataset.settings import DatasetSettings, Unsure
from pollen.errors import PollenError
from pollen.training.settings import TrainSettings
from services.options import TrainOptions, parse_options


def test_nothing_given_leaves_the_defaults() -> None:
    assert parse_options([], TrainOptions) == TrainOptions()


@given(st.integers(1, 10_000), st.floats(0, 0.5), st.integers(1, 10**6))
def test_every_value_arrives_where_its_name_leads(epochs: int, light: float, grains: int) -> None:
    pairs = [f"train.epochs={epochs}", f"train.brightness={light!r}", f"gate.min_grains={grains}"]
    options = parse_options(pairs, TrainOptions)
    assert (options.train.epochs, options.train.brightness) == (epochs, light)
    assert options.gate.min_grains == grains
    assert options == parse_options(list(reversed(pairs)), TrainOptions)


def test_a_dot_leads_into_settings_of_settings() -> None:
    pairs = ["shares.train=0.5", "shares.val=0.25", "shares.test=0.25", " unsure = cover "]
    settings = parse_options(pairs, DatasetSettings)
    assert (settings.shares.train, settings.shares.test) == (0.5, 0.25)
    assert settings.unsure is Unsure.COVER


def test_the_last_of_two_values_counts_and_a_value_may_hold_an_equals_sign() -> None:
    pattern = "(?P<plant>a=b)"
    pairs = ["sample_pattern=x", f"sample_pattern={pattern}"]
    assert parse_options(pairs, DatasetSettings).sample_pattern == pattern


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        (["epochs"], "'epochs' is not a setting: expected NAME=VALUE"),
        (["=3"], "'=3' is not a setting: expected NAME=VALUE"),
        (["train.=3"], "'train.=3' is not a setting: expected NAME=VALUE"),
        (["epochs=3", "epochs.of=4"], "'epochs.of=4' is not a setting: epochs already has a value"),
        (["epochs=many"], "epochs: Input should be a valid integer"),
        (["epoch=3"], "epoch: Extra inputs are not permitted"),
        (["epochs=0", "flip=2"], "epochs: Input should be greater than or equal to 1; flip: Input"),
    ],
)
def test_what_can_not_be_used_is_named(pairs: list[str], words: str) -> None:
    with pytest.raises(PollenError) as caught:
        parse_options(pairs, TrainSettings)
    assert words in str(caught.value)


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(PollenError, match=r"The settings are: .*epochs.*seed"):
        parse_options(["epoch=3"], TrainSettings)
