"""Choose the confidence: ``python -m pollen.bundled.thresholds DATA --work DIR``.

Judged by counts and viability, not by mAP, on three sets: the train split, rendered frames that
the training did not see, and ``val`` to confirm. The best value is the one whose count error and
viability error are small on all of them, not the one that suits ``val`` alone.
"""

import argparse
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from pollen.bundled.evaluate import HERE, detect_split
from pollen.bundled.pictures import LabelledPicture, read_split
from pollen.bundled.rendered import render_split
from pollen.bundled.scoring import Summary, by_plant, score_picture, summarise
from pollen.grains import Grains
from pollen.model_card import ModelCard
from pollen.settings import DetectSettings, EdgeRule

logger = logging.getLogger(__name__)

CONFIDENCES: Final = tuple(round(0.2 + 0.05 * step, 2) for step in range(11))
LEAST_CONFIDENCE: Final = 0.1
FRESH_FRAMES: Final = 80
FRESH_SEED: Final = 990_000
"""Far from the seeds of the frames used for training."""


def at_confidence(
    pictures: Sequence[LabelledPicture], found: Sequence[Grains], confidence: float
) -> tuple[Summary, float]:
    """Summary of the detections above a confidence, and the worst plant's count error.

    Returns:
        The summary, and the largest count error of any plant with at least 5 grains, percent.
    """
    scores = [
        score_picture(picture, grains.take(grains.confidence >= confidence))
        for picture, grains in zip(pictures, found, strict=True)
    ]
    large = [plant for plant in by_plant(scores).values() if plant.grains >= 5]
    return summarise(scores), max((plant.count_error_percent for plant in large), default=0.0)


def sweep(name: str, pictures: Sequence[LabelledPicture], found: Sequence[Grains]) -> list[str]:
    """One line per confidence."""
    lines = [f"{name}: confidence, count error %, false, missed, confused, viability, worst plant"]
    for confidence in CONFIDENCES:
        summary, worst = at_confidence(pictures, found, confidence)
        lines.append(
            f"  {confidence:.2f} {summary.count_error_percent:6.2f} {summary.false:4d} "
            f"{summary.missed:4d} {summary.confused:4d} {summary.viability_error:+6.2f} "
            f"{worst:6.1f}"
        )
    return lines


def suggest(splits: Sequence[tuple[Sequence[LabelledPicture], Sequence[Grains]]]) -> float:
    """The confidence with the smallest mean over the sets of count error plus viability error."""
    costs = []
    for confidence in CONFIDENCES:
        summaries = [at_confidence(pictures, found, confidence)[0] for pictures, found in splits]
        cost = [item.count_error_percent + abs(item.viability_error) for item in summaries]
        costs.append(float(np.mean(cost)))
    return CONFIDENCES[int(np.argmin(costs))]


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
    settings = DetectSettings(edge_rule=EdgeRule.ALL, confidence=LEAST_CONFIDENCE)
    results = []
    with tempfile.TemporaryDirectory() as cache:
        for root in (chosen.data / "train", fresh, chosen.data / "val"):
            found = detect_split(root / "images", chosen.weights, card, settings, Path(cache))
            results.append((read_split(root), found))
            logger.info("%s", "\n".join(sweep(root.name, *results[-1])))
    logger.info("suggested from train and rendered frames: %.2f", suggest(results[:2]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
