"""Choose the thresholds: ``python -m pollen.training.recipe.thresholds DATA --work DIR``.

Judged by counts and viability, not by mAP, on three sets: the train split, rendered frames that
the training did not see, and ``val`` to confirm. The best pair is the one whose errors are small on
all of them, not the one that suits ``val`` alone.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pollen.evaluation.pictures import read_pictures
from pollen.evaluation.thresholds import CONFIDENCES, ODDS, Sweep, choose_thresholds, sweep
from pollen.models.card import ModelCard
from pollen.training.recipe.evaluate import HERE
from pollen.training.recipe.rendered import render_split

logger = logging.getLogger(__name__)

FRESH_FRAMES: Final = 80
FRESH_SEED: Final = 990_000
"""Far from the seeds of the frames used for training."""


def table(result: Sweep) -> str:
    """The errors, a line per confidence and a column per odds."""
    lines = [
        f"{result.name}: count error % / viability error, points / viable called non-viable %",
        "odds    " + "".join(f"{odds:>19g}" for odds in ODDS),
    ]
    for row, confidence in enumerate(CONFIDENCES):
        errors = zip(
            result.count_error_percent[row],
            result.viability_error[row],
            result.called_non_viable[row],
            strict=True,
        )
        cells = [f"{count:8.2f} /{point:4.1f} /{wrong:4.1f}" for count, point, wrong in errors]
        lines.append(f"  {confidence:.2f}  " + "".join(cells))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the sweeps; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset with train/ and val/")
    parser.add_argument("--work", type=Path, required=True, help="folder for rendered frames")
    parser.add_argument("--weights", type=Path, default=HERE / "best.pt")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    fresh = chosen.work / "fresh"
    render_split(fresh, FRESH_FRAMES, FRESH_SEED, workers=1)
    card = ModelCard.of_file(chosen.weights)
    sweeps = []
    with tempfile.TemporaryDirectory() as cache:
        for root in (chosen.data / "train", fresh, chosen.data / "val"):
            pictures = read_pictures(root)
            sweeps.append(sweep(root.name, pictures, chosen.weights, card, Path(cache)))
            logger.info("%s", table(sweeps[-1]))
    logger.info("suggested from train and rendered frames: %s", choose_thresholds(sweeps[:2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
