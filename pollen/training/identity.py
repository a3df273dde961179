"""The identity of a training: equal for two trainings that learn the same."""

import hashlib
import json

from pydantic import BaseModel, ConfigDict

from pollen.training.settings import TrainSettings

#: Raised by hand whenever a change of the code makes another model of the same settings.
TRAINING_VERSION = 1


class TrainingIdentity(BaseModel):
    """Everything that decides what a training learns.

    Attributes:
        manifest: Content id of the dataset's manifest.
        base: What training starts from: the SHA-256 of weights, or the name of an untrained architecture.
        debris: Hash of the pictures of debris that negatives are made of.
        settings: Those settings that change what is learnt.
        attempt: From 1; a person who wants the same training once more gets the next.
    """

    model_config = ConfigDict(frozen=True)

    manifest: str
    base: str
    debris: str
    settings: dict[str, int | float | str]
    attempt: int = 1
    training_version: int = TRAINING_VERSION

    @classmethod
    def of(
        cls, manifest: str, base: str, debris: str, settings: TrainSettings
    ) -> "TrainingIdentity":
        """Return the identity of a training; without negatives it does not matter what they would show."""
        told = debris if settings.negatives else ""
        return cls(manifest=manifest, base=base, debris=told, settings=settings.learnt_from())

    def again(self) -> "TrainingIdentity":
        """Return the same training once more."""
        return self.model_copy(update={"attempt": self.attempt + 1})

    @property
    def id(self) -> str:
        """Short name: 16 hexadecimal digits over everything."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
