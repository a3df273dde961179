"""Cleaning up after abandoned trainings, done by a later one; it never fails a run."""

import re
import shutil
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from pollen.errors import PollenError
from pollen.layout import CHECKPOINTS
from tasks.stage import logger
from tasks.storage.local_copies import objects_folder
from tasks.storage.store import Store, open_store
from tasks.training.checkpoints import delete_quietly
from tasks.training.train import TrainingPlan

_DAY_SECONDS: Final = 24 * 3600
_TRAINING: Final = re.compile(rf"{CHECKPOINTS}(?P<id>[0-9a-f]{{16}})/")


def tidy_up(plan: TrainingPlan) -> None:
    """Delete checkpoints of other trainings and copies of objects that were not used for `keep_days`."""
    days = plan.settings.keep_days
    try:
        drop_abandoned(open_store(plan.output), days, but=plan.id)
    except PollenError as error:
        logger().warning("checkpoints of abandoned trainings could not be deleted yet: %s", error)
    drop_unused(objects_folder(), days)


def drop_abandoned(store: Store, days: float, but: str) -> None:
    """Delete checkpoints of trainings that wrote none for so many days.

    A training that lives writes one every epoch, or every few minutes: its newest object is young.

    Args:
        store: The root of the registry.
        days: Age of the newest object.
        but: Id of the training that is to go on now, however old its checkpoints are.

    Raises:
        PollenError: If the store can't be listed.
    """
    ages: dict[str, float] = {}
    keys: dict[str, list[str]] = defaultdict(list)
    for entry in store.list(CHECKPOINTS):
        match = _TRAINING.match(entry.key)
        if match is not None and match["id"] != but:
            keys[match["id"]].append(entry.key)
            ages[match["id"]] = max(ages.get(match["id"], 0), entry.modified)
    for training, newest in sorted(ages.items()):
        if newest < time.time() - days * _DAY_SECONDS:
            logger().info(
                "training %s was abandoned more than %g days ago: its checkpoints are deleted",
                training,
                days,
            )
            delete_quietly(store, keys[training])


def drop_unused(folder: Path, days: float) -> None:
    """Delete copies of objects that no training used for so many days, as far as they can be deleted."""
    oldest = time.time() - days * _DAY_SECONDS
    dropped = 0
    for path in folder.glob("*/*"):
        try:
            if path.lstat().st_mtime >= oldest:
                continue
            if path.is_dir():  # of a download that was killed
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            logger().debug("%s can't be deleted: %s", path, error)
        else:
            dropped += 1
    if dropped:
        logger().info("%d unused copies of objects in %s were deleted", dropped, folder)
