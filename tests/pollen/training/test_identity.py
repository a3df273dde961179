import pytest

from pollen.training.identity import TrainingIdentity
from pollen.training.settings import TrainSettings

IDENTITY = TrainingIdentity.of("manifest", "base", TrainSettings())


@pytest.mark.parametrize(
    "other",
    [
        TrainingIdentity.of("another", "base", TrainSettings()),
        TrainingIdentity.of("manifest", "another", TrainSettings()),
        TrainingIdentity.of("manifest", "base", TrainSettings(epochs=1)),
        TrainingIdentity.of("manifest", "base", TrainSettings(seed=1)),
        IDENTITY.again(),
        IDENTITY.model_copy(update={"training_version": 0}),
    ],
)
def test_whatever_changes_what_is_learnt_makes_another_training(other: TrainingIdentity) -> None:
    assert other.id != IDENTITY.id


def test_how_it_runs_does_not() -> None:
    settings = TrainSettings(device="cpu", workers=0, cache="disk", checkpoint_minutes=5)

    assert TrainingIdentity.of("manifest", "base", settings).id == IDENTITY.id
