"""`pollen train`: the story of the flow, with a Prefect server where there is one, else without."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from flows.train import TrainRequest, make_model, train_request
from pollen.layout import dataset_folder
from services.commands.running import guarded, run_story
from services.console import OUT, ProgressView, set_up_logging
from services.exit_codes import DONE, SOME_FAILED
from services.options import parse_train_options
from tasks.progress import watched_by
from tasks.storage.store import Location, open_store
from tasks.training.dataset import Staging


class TrainingPlaces(NamedTuple):
    """Folders or ``s3://`` addresses as the person gave them, and the block for the latter."""

    dataset: str
    output: str
    staging: str | None = None
    debris: str | None = None
    block: str | None = None

    def parse(self, place: str | None) -> Location | None:
        """One of them as a location."""
        return Location.parse(place, self.block) if place else None


def run_training(
    places: TrainingPlaces, *, base: str | None, fresh: bool, settings: Sequence[str], verbose: bool
) -> int:
    """Train and tell what came of it; returns the exit code."""
    set_up_logging(verbose=verbose)

    def train() -> int:
        options = parse_train_options(settings)
        pictures = Location.parse(places.dataset, places.block)
        root = Location.parse(places.output, places.block)
        zips, debris = places.parse(places.staging), places.parse(places.debris)
        for place in filter(None, (zips, debris)):
            open_store(place).check()  # a mistyped folder would count as an empty one
        name = _name(places.dataset)
        manifests = root.below(dataset_folder(name))
        request = TrainRequest(
            staging=Staging(name=name, pictures=pictures, manifests=manifests, zips=zips),
            smudges=debris,
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
                lambda: train_request(request, return_state=True),
                (pictures, root, zips, debris),
            )
        for line in (summary.message, f"Model and evaluation: {summary.place}"):
            OUT.print(line, highlight=False, markup=False, soft_wrap=True)
        return SOME_FAILED if summary.refused else DONE

    return guarded(
        train,
        stopped="stopped; the same command goes on behind the last whole epoch",
        kept="the epochs trained so far are kept",
        verbose=verbose,
    )


def _name(dataset: str) -> str:
    """The dataset's name: the last part of its address, in letters that keys may have."""
    last = dataset.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip(".-_")[:40] or "dataset"
