"""Which model is in production: an append-only list of numbered promotions, and how to go back in it."""

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
        kind: ``first``: registered at set-up; ``rollback``: back to an earlier one.
        of: For a rollback, the number of the promotion it goes back to.
        note: Why, in a person's words or the gate's.
        by: Who.
        at: When.
        order: Tells this promoter's entry from another's; the same in every try of one order.
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
        """Whether this is the promotion of that very model."""
        return (self.version, self.sha256) == (version, sha256)


@dataclass(frozen=True)
class History:
    """All promotions by number; ``None`` for one that can't be read."""

    promotions: Mapping[int, Promotion | None]

    @property
    def highest(self) -> int:
        """Number of the promotion that counts; 0 where there is none."""
        return max(self.promotions, default=0)

    @property
    def current(self) -> Promotion | None:
        """What is in production; None where nothing is, or its promotion can't be read."""
        return self.promotions.get(self.highest)

    def ordered_as(self, order: str) -> int | None:
        """Number of the promotion that an order has made already."""
        numbers = (n for n, made in self.promotions.items() if made and made.order == order)
        return max(numbers, default=None)

    def was_promoted(self, version: str) -> bool:
        """Whether a version was ever put into production, by whomever and in whatever way."""
        return any(made and made.version == version for made in self.promotions.values())

    def before_current(self) -> int | None:
        """Number of the promotion to which a rollback goes.

        A rollback stands where the promotion stands that it went back to. So a second rollback goes
        one further back instead of forth again, and a promotion after rollbacks is undone to what
        they had put into production, as in a browser's list of pages.

        Returns:
            None where nothing was in production before, or the way back can't be read.
        """
        standing = self._standing(self.highest)
        if standing is None:
            return None
        earlier = max((number for number in self.promotions if number < standing), default=None)
        return None if earlier is None else self._standing(earlier)

    def latest_of(self, version: str) -> int | None:
        """Number of the last promotion proper of a version."""
        numbers = (
            number
            for number, made in self.promotions.items()
            if made and made.version == version and made.kind != "rollback"
        )
        return max(numbers, default=None)

    def _standing(self, number: int) -> int | None:
        made = self.promotions.get(number)
        if made is None:
            return None
        return number if made.of is None else made.of
