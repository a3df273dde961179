"""Which plants a model has learnt from, over all trainings that led to it: on these its figures flatter it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

#: Where the files beside a model's weights hold it.
LEARNT_FROM = "learnt_from"
#: Plants that a sentence names.
_NAMED = 5


class Lineage(BaseModel):
    """What a model has learnt from.

    Attributes:
        plants: Plants (or families, where names tell no plant) of training pictures, sorted, in lower case.
        complete: False: it goes back to weights of which nobody recorded what they learnt from.
    """

    model_config = ConfigDict(frozen=True)

    plants: tuple[str, ...] = ()
    complete: bool = True

    @classmethod
    def unknown(cls) -> Self:
        """That of weights of which nothing is recorded."""
        return cls(complete=False)

    @classmethod
    def recorded(cls, facts: dict[str, Any]) -> Self:
        """That in the record of a training; unknown where it has none."""
        try:
            return cls.model_validate(facts[LEARNT_FROM])
        except (KeyError, ValidationError):
            return cls.unknown()

    def and_of(self, plants: Iterable[str]) -> "Lineage":
        """That of a model that started from this one and was trained on pictures of these plants."""
        known = {*self.plants, *(plant.casefold() for plant in plants)}
        return Lineage(plants=tuple(sorted(known)), complete=self.complete)


@dataclass(frozen=True)
class Overlap:
    """How much of what a model is judged by it knows.

    Attributes:
        model: Its name.
        pictures: Pictures of plants it has learnt from.
        of: All pictures.
        plants: Those plants.
        complete: See :class:`Lineage`.
    """

    model: str
    pictures: int
    of: int
    plants: tuple[str, ...]
    complete: bool

    @classmethod
    def between(cls, model: str, lineage: Lineage, plants: Sequence[str]) -> "Overlap":
        """That between a model and pictures of these plants, one entry per picture."""
        known = set(lineage.plants)
        seen = [plant for plant in plants if plant.casefold() in known]
        return cls(model, len(seen), len(plants), tuple(sorted(set(seen))), lineage.complete)

    def notice(self, who: str, split: str, consequence: str) -> str | None:
        """One sentence that warns, where there is reason to.

        Args:
            who: What the model is here, such as "the base".
            split: What it is judged on.
            consequence: What knowing these plants means for the figures.
        """
        if self.pictures:
            named = ", ".join(self.plants[:_NAMED])
            more = len(self.plants) - _NAMED
            more_text = f" and {more} more" if more > 0 else ""
            return (
                f"{who} ({self.model}) has learnt from the plants of {self.pictures} of the {self.of} pictures of "
                f"{split} ({named}{more_text}): {consequence}"
            )
        if not self.complete:
            return (
                f"nobody recorded what {who} ({self.model}) has learnt from: if plants of {split} were among it, "
                f"{consequence}"
            )
        return None


def unknown_plants(known: Sequence[bool], split: str) -> tuple[str, ...]:
    """What a reader must know where names of pictures tell no plant.

    Args:
        known: Whether the name tells the plant, of every picture that models are judged by.
        split: Those pictures.
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
    """What a reader of the figures of a new model must know."""
    said = (
        base.notice("the base", split, "the figures flatter the new model"),
        production.notice(
            "the model in production", split, "its own figures flatter it beside the new model"
        ),
    )
    return tuple(notice for notice in said if notice)
