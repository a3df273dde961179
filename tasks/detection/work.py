"""What all batches of a run have in common."""

from dataclasses import dataclass

from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from tasks.models.resolve import Model
from tasks.storage.store import Location


@dataclass(frozen=True)
class Work:
    """Where pictures come from, where results go, and how they are counted.

    Attributes:
        source: Where the pictures are.
        output: The root below which results go.
        model: The model, on this machine.
        profile: Everything that decides the numbers.
        settings: The rest: threads, drawing, sizes.
        records: Folder of the records of this model and profile, below ``output``.
    """

    source: Location
    output: Location
    model: Model
    profile: Profile
    settings: DetectSettings
    records: str


@dataclass(frozen=True)
class Counted:
    """What became of the pictures that waited.

    Attributes:
        pictures: How many the run set out to count; 0 where none waited.
        problem: Why some of them are not counted; None: they all are.
    """

    pictures: int = 0
    problem: PollenError | None = None
