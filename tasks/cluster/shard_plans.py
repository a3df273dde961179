"""The plan that a run on a cluster writes for its shards, and what a shard checks before it follows it."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pollen import __version__
from pollen.detection.batches import Batch
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.errors import PollenError
from pollen.layout import PLANS, plan_key, plan_number, plans_folder
from tasks.cluster.deploy_hint import DEPLOY
from tasks.detection.work import Work
from tasks.faults import NotFoundError
from tasks.stage import logger, stage
from tasks.storage.store import Location, Store, open_store

#: How long plans of other runs are kept, in seconds: no run takes longer.
KEPT_S: Final = 7 * 86400.0

_ONE_IMAGE: Final = f"give all deployments the same image, then run again. To do so, {DEPLOY}"


class _Author(BaseModel):
    """The field of a plan that every version of this program can read."""

    code_version: str


@dataclass(frozen=True)
class Part:
    """The part of a plan that one shard counts.

    Attributes:
        shard: Its number, from 1.
        of: How many parts the plan has.
        batches: What it counts.
    """

    shard: int
    of: int
    batches: tuple[Batch, ...]

    @property
    def pictures(self) -> int:
        """The number of pictures in it."""
        return pictures_in(self.batches)


@dataclass(frozen=True)
class PartCounted:
    """The result of a shard: all of its part is recorded.

    Attributes:
        part: What was counted.
        outcome: The name of the final state.
    """

    part: Part
    outcome: str = "Completed"

    @property
    def message(self) -> str:
        """The message of the final state."""
        part = self.part
        return (
            f"part {part.shard} of {part.of}: {part.pictures} pictures counted in "
            f"{len(part.batches)} batches"
        )


def pictures_in(batches: Iterable[Batch]) -> int:
    """Return the number of pictures in batches."""
    return sum(len(batch.items) for batch in batches)


class ShardPlan(BaseModel):
    """The batches that shards are to count, and how. Written whole and never changed.

    Attributes:
        code_version: The version of the program that made the plan; no other one follows it.
        id: Tells this plan from all others: the names of its shards' runs contain it.
        number: The round of the flow run, counted from 1.
        model: The model's name as shards are given it: a version, `bundled`, or a path.
        profile: Everything that decides the numbers; a shard that would count otherwise refuses.
        settings: How to count.
        pictures: The number of pictures that the flow run set out to count, in its first round.
        shards: The batches of each shard.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code_version: str = __version__
    id: str
    number: int = Field(ge=1)
    model: str
    profile: Profile
    settings: DetectSettings
    pictures: int
    shards: tuple[tuple[Batch, ...], ...]

    @property
    def waiting(self) -> int:
        """The number of pictures that this plan's shards count."""
        return sum(map(pictures_in, self.shards))

    def part(self, shard: int) -> Part:
        """Return the part of a shard, counted from 1.

        Raises:
            PollenError: If there is no such shard.
        """
        if not 1 <= shard <= len(self.shards):
            raise PollenError(
                f"the plan is for shards 1 to {len(self.shards)}, not for {shard}: shards are started by the "
                "detect/... deployments, not by hand"
            )
        return Part(shard, len(self.shards), self.shards[shard - 1])

    def check(self, profile: Profile) -> None:
        """Check that a shard would count as planned.

        Args:
            profile: The shard's own profile.

        Raises:
            PollenError: If it differs, be it in the model's weights or in what the machine has.
        """
        planned, found = asdict(self.profile), asdict(profile)
        if planned["model_sha256"] != found["model_sha256"]:
            raise PollenError(
                f"model '{self.model}' is not the one the plan was made with: expected the SHA-256 "
                f"{planned['model_sha256']}, found {found['model_sha256']}. Was it replaced meanwhile? "
                f"Otherwise {_ONE_IMAGE}"
            )
        other = [
            f"{key} {found[key]} for {planned[key]}"
            for key in planned
            if planned[key] != found[key]
        ]
        if other:
            raise PollenError(
                f"this shard would not count as planned ({', '.join(other)}): {_ONE_IMAGE}"
            )


@stage("write plan")
def write_plan(output: Location, run_id: str, number: int, data: bytes) -> str:
    """Write a plan into the bucket, where shards find it; return its key."""
    key = plan_key(run_id, number)
    open_store(output).write(key, data, "application/json")
    return key


def read_plan(store: Store, key: str) -> ShardPlan:
    """Read the plan at a key.

    Raises:
        PollenError: If it is not there, or was made by another version of this program.
    """
    try:
        data = store.read(key)
    except NotFoundError as error:
        raise PollenError(
            f"there is no plan {store.address}/{key} any more: the run that made it has ended, so there is nothing "
            "to count for it"
        ) from error
    try:
        author = _Author.model_validate_json(data).code_version
        if author == __version__:
            return ShardPlan.model_validate_json(data)
    except ValidationError as error:
        raise PollenError(
            f"this program can't read the plan {store.address}/{key} ({error.error_count()} faults): {_ONE_IMAGE}"
        ) from error
    raise PollenError(
        f"the plan {store.address}/{key} was made by version {author} of this program, and this is {__version__}: "
        f"{_ONE_IMAGE}"
    )


def last_number(output: Location, run_id: str) -> int:
    """Return the number of a flow run's last plan, 0 if it has none."""
    keys = [entry.key for entry in open_store(output).list(plans_folder(run_id))]
    return max((number for number in map(plan_number, keys) if number is not None), default=0)


def unfinished_plan(work: Work, run_id: str) -> ShardPlan | None:
    """Return the last plan of a flow run that was killed and now runs again; None if it starts anew.

    A plan for another model, other settings or another version of this program is left alone.

    Raises:
        PollenError: If the store fails.
    """
    last = last_number(work.output, run_id)
    if not last:
        return None
    try:
        plan = read_plan(open_store(work.output), plan_key(run_id, last))
    except PollenError as error:
        if error.heals:
            raise
        logger().warning("the plan of this run's earlier start is not used: %s", error)
        return None
    same = (plan.profile, plan.settings) == (work.profile, work.settings)
    return plan if same else None


def forget_plans(output: Location, run_id: str) -> None:
    """Delete a flow run's plans, and those that killed runs left; without the right to delete they stay.

    Those of other runs are deleted by their age: a run that only seemed dead still needs its own.
    """
    long_ago = time.time() - KEPT_S
    try:
        store = open_store(output)
        own = plans_folder(run_id)
        store.delete(
            [
                entry.key
                for entry in store.list(PLANS)
                if entry.key.startswith(own) or entry.modified < long_ago
            ]
        )
    except PollenError as error:
        logger().warning("plans below %s can't be deleted: %s", PLANS, error)
