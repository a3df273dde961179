"""Measure a model: ``python -m pollen.bundled.evaluate DATA``.

Runs the product's own detection (frames, tiles, export, decoding) at its default settings with
every grain counted (edge rule ``all``) and compares with the labels: counts, viability, mAP50.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pollen.bundled.pictures import PICTURE_SUFFIXES, LabelledPicture, read_split
from pollen.bundled.scoring import (
    PictureScore,
    Summary,
    average_precision,
    by_plant,
    diameter_error_percent,
    score_picture,
    summarise,
)
from pollen.classes import GrainClass
from pollen.detector import Detector, Profile, detect_frames
from pollen.frames import Frame, open_frames
from pollen.grains import Grains
from pollen.model_card import ModelCard
from pollen.settings import DetectSettings, EdgeRule

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
LEAST_CONFIDENCE = 0.001
"""mAP looks at detections down to here."""


@dataclass(frozen=True)
class Evaluation:
    """What a model reached on one split.

    Attributes:
        overall: Counts and viability of all pictures together.
        plants: The same by plant.
        map50: Box mAP50 by class name.
        scores: Every picture.
    """

    overall: Summary
    plants: dict[str, Summary]
    map50: dict[str, float]
    scores: tuple[PictureScore, ...]

    @property
    def diameter_error(self) -> tuple[float, float]:
        """Median signed and absolute error of diameters, percent."""
        return diameter_error_percent(self.scores)

    def as_metrics(self) -> dict[str, Any]:
        """For the model card: plain numbers, rounded."""
        return {
            "map50": {name: round(value, 4) for name, value in self.map50.items()},
            "diameter_error_percent": {
                "median": round(self.diameter_error[0], 2),
                "median_absolute": round(self.diameter_error[1], 2),
            },
            "overall": _plain(self.overall),
            "plants": {plant: _plain(summary) for plant, summary in self.plants.items()},
        }


def _plain(summary: Summary) -> dict[str, float]:
    figures = {
        **asdict(summary),
        "count_error_percent": summary.count_error_percent,
        "viability_error": summary.viability_error,
    }
    return {name: round(float(value), 2) for name, value in figures.items()}


def detect_split(
    folder: Path, weights: Path, card: ModelCard, settings: DetectSettings, cache: Path
) -> list[Grains]:
    """Grains of every picture of ``folder``, in the order of the file names.

    Raises:
        FrameError: A picture can't be read.
    """
    detector = Detector(weights, card, Profile.resolve(card, settings), cache)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    found: list[Grains] = []
    for path in paths:
        with open_frames(path, path.name) as file:
            frames: list[Frame] = list(file.frames)
            for _, result in detect_frames(frames, detector, lambda _: detector.grid(None)):
                if isinstance(result, Exception):
                    raise result
                found.append(result)
    return found


def evaluate(root: Path, weights: Path, card: ModelCard, cache: Path) -> Evaluation:
    """Evaluate weights on a split (``root`` with ``images/`` and ``labels/``).

    Args:
        root: The split.
        weights: The ``.pt`` file.
        card: Its card, whose thresholds are used.
        cache: Folder for the exported model.
    """
    pictures = read_split(root)
    settings = DetectSettings(edge_rule=EdgeRule.ALL)
    found = detect_split(root / "images", weights, card, settings, cache)
    unsure = settings.model_copy(update={"confidence": LEAST_CONFIDENCE})
    everything = detect_split(root / "images", weights, card, unsure, cache)
    return judge(pictures, found, everything)


def judge(
    pictures: Sequence[LabelledPicture], found: Sequence[Grains], everything: Sequence[Grains]
) -> Evaluation:
    """Compare detections with labels.

    Args:
        pictures: With their labels.
        found: What the default settings report.
        everything: Detections down to ``LEAST_CONFIDENCE``.
    """
    scores = tuple(score_picture(p, grains) for p, grains in zip(pictures, found, strict=True))
    map50 = {item.label: average_precision(pictures, everything, item) for item in GrainClass}
    return Evaluation(summarise(scores), by_plant(scores), map50, scores)


def report(evaluation: Evaluation, worst: int = 12) -> str:
    """The evaluation as lines of text."""
    lines = ["box mAP50 " + ", ".join(f"{k} {v:.4f}" for k, v in evaluation.map50.items())]
    bias, spread = evaluation.diameter_error
    lines.append(f"diameter error, median {bias:+.1f} %, median absolute {spread:.1f} %")
    rows = {"all": evaluation.overall, **evaluation.plants}
    head = "pictures grains  error      %  false missed confused  viability (labels)  difference"
    lines.append(f"{'plant':14s} {head}")
    lines += [_row(name, summary) for name, summary in rows.items()]
    lines.append("worst pictures (false, missed, confused):")
    ranked = sorted(evaluation.scores, key=_mistakes, reverse=True)
    for score in ranked[:worst]:
        if _mistakes(score):
            parts = len(score.false), len(score.missed), len(score.confused)
            lines.append(f"  {score.name}: {parts[0]}, {parts[1]}, {parts[2]}")
    return "\n".join(lines)


def _mistakes(score: PictureScore) -> int:
    return len(score.false) + len(score.missed) + len(score.confused)


def _row(name: str, item: Summary) -> str:
    return (
        f"{name:14s} {item.pictures:8d} {item.grains:6d} {item.count_error:6d} "
        f"{item.count_error_percent:6.2f} {item.false:6d} {item.missed:6d} {item.confused:8d}  "
        f"{item.viability_found:9.2f} {item.viability_true:8.2f}  {item.viability_error:+10.2f}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Evaluate; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset with train/ and val/")
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", type=Path, default=HERE / "best.pt")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    card = ModelCard.of_file(chosen.weights)
    with tempfile.TemporaryDirectory() as cache:
        evaluation = evaluate(chosen.data / chosen.split, chosen.weights, card, Path(cache))
    logger.info("%s", report(evaluation))
    if chosen.json:
        text = json.dumps(evaluation.as_metrics(), indent=2)
        chosen.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
