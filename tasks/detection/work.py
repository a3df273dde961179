"""The work of a run: everything that its batches have in common."""

from dataclasses import dataclass
from typing import Self

from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.layout import records_folder
from tasks.models.resolve import Model
from tasks.storage.store import Location


@dataclass(frozen=True)
class Work:
    """Everything that the batches of a run have in common.

    Attributes:
        source: The place of the pictures.
        output: The root of the results.
        model: The model, on this machine.
        profile: Everything that decides the numbers.
        settings: The other settings: threads, drawing, sizes.
        records: Folder of the records of this model and profile, below `output`.
    """

    source: Location
    output: Location
    model: Model
    profile: Profile
    settings: DetectSettings
    records: str

    @classmethod
    def of(
        cls,
        source: Location,
        output: Location,
        model: Model,
        settings: DetectSettings,
        *,
        gpu: bool | None = None,
    ) -> Self:
        """Return the work of counting with a model and settings.

        Args:
            source: The place of the pictures.
            output: The root of the results.
            model: The model, on this machine.
            settings: How a person wants to count.
            gpu: Whether the machines that count have a GPU; None: this machine counts, and is asked.

        Raises:
            PollenError: If the model, the settings and the device do not fit together.
        """
        profile = Profile.resolve(model.card, settings, gpu=gpu)
        records = records_folder(profile.model_version, profile.fingerprint)
        return cls(source, output, model, profile, settings, records)


@dataclass(frozen=True)
class Counted:
    """The result of counting the pictures that waited.

    Attributes:
        pictures: Number of pictures that the run was to count.
        problem: The reason why some of them were not counted; None: all were.
    """

    pictures: int = 0
    problem: PollenError | None = None
