"""`pollen train`: train a model, with a Prefect server if one is configured, else without."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from flows.train import make_model, train_here
from pollen.layout import dataset_folder
from services.commands.shared import guarded, run_story
from services.console import ProgressView, say, set_up_logging
from services.exit_codes import DONE, SOME_FAILED
from services.options import parse_train_options
from tasks.progress import watched_by
from tasks.storage.store import Location, open_store
from tasks.training.dataset import Staging
from tasks.training.request import TrainRequest


class TrainingPlaces(NamedTuple):
    """Folders or `s3://` addresses as the person gave them, and the block for the latter."""

    dataset: str
    output: str
    staging: str | None = None
    debris: str | None = None
    block: str | None = None

    def parse(self, place: str | None) -> Location | None:
        """Parse one of them."""
        return Location.parse(place, self.block) if place else None


def run_training(
    places: TrainingPlaces, *, base: str | None, fresh: bool, settings: Sequence[str], verbose: bool
) -> int:
    """Train a model and print the result; return the exit code."""
    set_up_logging(verbose=verbose)

    def train() -> int:
        options = parse_train_options(settings)
        pictures = Location.parse(places.dataset, places.block)
        root = Location.parse(places.output, places.block)
        zips, debris = places.parse(places.staging), places.parse(places.debris)
        for place in filter(None, (zips, debris)):
            open_store(place).check()  # a mistyped folder would look like an empty one
        name = _name(places.dataset)
        manifests = root.below(dataset_folder(name))
        request = TrainRequest(
            staging=Staging(name=name, pictures=pictures, manifests=manifests, zips=zips),
            debris=debris,
            output=root,
            base=base,
            fresh=fresh,
            settings=options.train,
            merging=options.merging,
            gate=options.gate,
        )
        with ProgressView() as view, watched_by(view):
            summary = run_story(
                lambda: make_model(request),
                lambda: train_here(request, return_state=True),
                (pictures, root, zips, debris),
            )
        for line in (summary.message, f"Model and evaluation: {summary.place}"):
            say(line)
        return SOME_FAILED if summary.refused else DONE

    return guarded(
        train,
        stopped="stopped. Run the same command again to resume from the last complete epoch",
        kept="the complete epochs are kept",
        verbose=verbose,
    )


def _name(dataset: str) -> str:
    """Return the name of the dataset: the last part of its address, in letters that keys may have."""
    last = dataset.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-_")[:40] or "dataset"
