"""A person's request to train a model."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pollen.dataset.manifest import Split
from pollen.dataset.settings import DatasetSettings
from pollen.evaluation.gate import GateSettings
from pollen.training.model_card import Making
from pollen.training.settings import TrainSettings
from tasks.storage.store import Location
from tasks.training.dataset import DatasetVersion, Staging
from tasks.training.train import TrainingPlan, base_name


class TrainRequest(BaseModel):
    """A person's request to train a model.

    Attributes:
        staging: The dataset, and where newly labelled exports are.
        debris: The place of pictures of debris; None: there are none.
        output: The root of the registry.
        base: The weights that training starts from; None: those that its recipe starts from.
        fresh: Whether to train once more, even if the same training was done.
        settings: How to train.
        merging: How to merge exports.
        gate: When the model is promoted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    staging: Staging
    debris: Location | None = None
    output: Location
    base: str | None = None
    fresh: bool = False
    settings: TrainSettings = TrainSettings()
    merging: DatasetSettings = DatasetSettings()
    gate: GateSettings = GateSettings()

    @property
    def base_name(self) -> str:
        """The name of the base, as a person gave it or by the recipe."""
        return base_name(self.base, self.settings)

    @property
    def base_shown(self) -> str:
        """The name of the base for records and reports: a file's name only, not its folder."""
        return Path(self.base_name).name

    def making(
        self, dataset: DatasetVersion, plan: TrainingPlan, course: str, negatives: int
    ) -> Making:
        """Return how the requested model was made, for its records.

        Args:
            dataset: The version that it was trained on.
            plan: The training.
            course: The course of the training, in words.
            negatives: The number of negatives in the train split.
        """
        learnt = (image.group for image in dataset.manifest.split(Split.TRAIN))
        return Making(
            dataset=self.staging.name,
            number=dataset.number,
            manifest=dataset.manifest,
            base=self.base_shown,
            identity=plan.identity,
            course=course,
            negatives=negatives,
            lineage=plan.base.lineage.and_of(learnt),
        )
