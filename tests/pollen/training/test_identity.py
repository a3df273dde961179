import pytest

from pollen.training.identity import TrainingIdentity
from pollen.training.settings import TrainSettings

IDENTITY = TrainingIdentity.of("manifest", "base", "debris", TrainSettings())


@pytest.mark.parametrize(
    "other",
    [
        TrainingIdentity.of("another", "base", "debris", TrainSettings()),
        TrainingIdentity.of("manifest", "another", "debris", TrainSettings()),
        TrainingIdentity.of("manifest", "base", "other", TrainSettings()),
        TrainingIdentity.of("manifest", "base", "debris", TrainSettings(epochs=1)),
        TrainingIdentity.of("manifest", "base", "debris", TrainSettings(seed=1)),
        IDENTITY.again(),
        IDENTITY.model_copy(update={"training_version": 0}),
    ],
)
def test_whatever_changes_what_is_learnt_makes_another_training(other: TrainingIdentity) -> None:
    assert other.id != IDENTITY.id


def test_how_it_runs_does_not() -> None:
    settings = TrainSettings(device="cpu", workers=0, cache="disk", checkpoint_minutes=5)

    assert TrainingIdentity.of("manifest", "base", "debris", settings).id == IDENTITY.id


def test_pictures_of_debris_do_not_matter_where_none_is_used() -> None:
    settings = TrainSettings(negatives=0)
    one, other = (TrainingIdentity.of("manifest", "base", name, settings) for name in "ab")

    assert one.id == other.id
