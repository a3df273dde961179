"""The plants that a model has learnt from, over all trainings that led to it: on these its figures flatter it."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from pollen.evaluation.record import Overlap

#: Key of the lineage in the record of a training.
LEARNT_FROM = "learnt_from"
#: Most plants that a sentence names.
_NAMED = 5


class Lineage(BaseModel):
    """The plants that a model has learnt from.

    Attributes:
        plants: Plants (or families, if names tell no plant) of training pictures, sorted, in lower case.
        complete: Whether that is all. False if it goes back to weights of unknown training.
    """

    model_config = ConfigDict(frozen=True)

    plants: tuple[str, ...] = ()
    complete: bool = True

    @classmethod
    def unknown(cls) -> Self:
        """Return that of weights whose training is not recorded."""
        return cls(complete=False)

    @classmethod
    def recorded(cls, facts: dict[str, Any]) -> Self:
        """Return that in the record of a training; unknown if the record holds none."""
        try:
            return cls.model_validate(facts[LEARNT_FROM])
        except (KeyError, ValidationError):
            return cls.unknown()

    def and_of(self, plants: Iterable[str]) -> "Lineage":
        """Return that of a model that started from this one and was trained on pictures of these plants."""
        known = {*self.plants, *(plant.casefold() for plant in plants)}
        return Lineage(plants=tuple(sorted(known)), complete=self.complete)

    def overlap(self, model: str, plants: Sequence[str]) -> Overlap:
        """Return how much of the pictures of these plants, one entry per picture, the model has learnt from."""
        seen = [plant for plant in plants if plant.casefold() in self.plants]
        return Overlap(
            model=model,
            pictures=len(seen),
            of=len(plants),
            plants=tuple(sorted(set(seen))),
            complete=self.complete,
        )


def _notice(overlap: Overlap, who: str, split: str, consequence: str) -> str | None:
    """Return one sentence that warns, if there is reason to.

    Args:
        overlap: How much of the pictures the model knows.
        who: The model's part, such as "the base".
        split: The split that models are judged on.
        consequence: What knowing these plants means for the figures.
    """
    if overlap.pictures:
        named = ", ".join(overlap.plants[:_NAMED])
        more = len(overlap.plants) - _NAMED
        more_text = f" and {more} more" if more > 0 else ""
        return (
            f"{who} ({overlap.model}) has learnt from the plants of {overlap.pictures} of the {overlap.of} pictures of "
            f"{split} ({named}{more_text}): {consequence}"
        )
    if not overlap.complete:
        return (
            f"it is not recorded what {who} ({overlap.model}) has learnt from: if plants of {split} were part of it, "
            f"{consequence}"
        )
    return None


def unknown_plants(known: Sequence[bool], split: str) -> tuple[str, ...]:
    """Return what a reader of the figures must know if names of pictures tell no plant.

    Args:
        known: For each picture that models are judged by, whether its name tells the plant.
        split: The split of these pictures.
    """
    unknown = known.count(False)
    if not unknown:
        return ()
    return (
        f"the names of {unknown} of the {len(known)} pictures of {split} tell no plant: pictures of their plants may "
        "be in train too, and then the figures flatter the new model; set merging.sample_pattern to how your files "
        "are named",
    )


def notices(base: Overlap, production: Overlap, split: str) -> tuple[str, ...]:
    """Return what a reader of the figures of a new model must know, because its base or the other model know plants."""
    both = (
        _notice(base, "the base", split, "the figures flatter the new model"),
        _notice(
            production,
            "the model in production",
            split,
            "its own figures flatter it beside the new model",
        ),
    )
    return tuple(notice for notice in both if notice)
