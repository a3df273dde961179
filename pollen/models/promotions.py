"""The promotions: an append-only, numbered list that names the model in production."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Promotion(BaseModel):
    """One entry of the list: from now on this model is in production.

    Attributes:
        version: The published model.
        sha256: Hash of its weights when it was promoted.
        kind: `first` if registered at set-up, `rollback` if back to an earlier one.
        of: For a rollback, the number of the promotion it goes back to.
        note: The reason, in a person's words or the gate's.
        by: The person or flow run that promoted.
        at: The time.
        order: Distinguishes entries of several promoters; the same in every try of one order.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    kind: Literal["first", "promotion", "rollback"] = "promotion"
    of: int | None = None
    note: str = ""
    by: str = ""
    at: datetime | None = None
    order: str = ""

    def names_same(self, version: str, sha256: str) -> bool:
        """Return whether this is the promotion of that very model."""
        return (self.version, self.sha256) == (version, sha256)


@dataclass(frozen=True)
class History:
    """All promotions.

    Attributes:
        promotions: By number; None for one that can't be read.
    """

    promotions: Mapping[int, Promotion | None]

    @property
    def highest(self) -> int:
        """The number of the promotion that counts; 0 if there is none."""
        return max(self.promotions, default=0)

    @property
    def current(self) -> Promotion | None:
        """The promotion in force; None if there is none or it can't be read."""
        return self.promotions.get(self.highest)

    def ordered_as(self, order: str) -> int | None:
        """Return the number of the promotion that an order has already made."""
        numbers = (n for n, made in self.promotions.items() if made and made.order == order)
        return max(numbers, default=None)

    def was_promoted(self, version: str) -> bool:
        """Return whether a version was ever put into production, by anyone and in any way."""
        return any(made and made.version == version for made in self.promotions.values())

    def before_current(self) -> int | None:
        """Return the number of the promotion to which a rollback goes.

        A rollback takes the place of the promotion that it went back to. So a second rollback goes
        one further back, not forward again, and undoing a promotion made after rollbacks returns to
        what they had put into production, as in a browser's list of pages.

        Returns:
            None if nothing was in production before, or the way back can't be read.
        """
        place = self._place(self.highest)
        if place is None:
            return None
        earlier = max((number for number in self.promotions if number < place), default=None)
        return None if earlier is None else self._place(earlier)

    def latest_of(self, version: str) -> int | None:
        """Return the number of the last promotion of a version that is not a rollback."""
        numbers = (
            number
            for number, made in self.promotions.items()
            if made and made.version == version and made.kind != "rollback"
        )
        return max(numbers, default=None)

    def _place(self, number: int) -> int | None:
        """Return the number of the promotion whose place a promotion takes, mostly its own."""
        made = self.promotions.get(number)
        if made is None:
            return None
        return number if made.of is None else made.of
