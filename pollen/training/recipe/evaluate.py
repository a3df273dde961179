"""Measure a model: ``python -m pollen.training.recipe.evaluate DATA``.

Runs the product's own detection (frames, tiles, export, decoding) at its default settings with
every grain counted (edge rule ``all``) and compares with the labels: counts, viability, mAP50.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pollen.evaluation.evaluate import Evaluation, evaluate
from pollen.evaluation.figures import Summary
from pollen.evaluation.metrics import as_metrics
from pollen.evaluation.pictures import read_pictures
from pollen.models.card import ModelCard

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent


def report(evaluation: Evaluation, worst: int = 12) -> str:
    """The evaluation as lines of text, with the ``worst`` pictures."""
    lines = [
        "box mAP50 " + ", ".join(f"{k} {_cell(v, '.4f')}" for k, v in evaluation.map50.items())
    ]
    if evaluation.diameter_error:
        bias, spread = evaluation.diameter_error
        lines.append(f"diameter error, median {bias:+.1f} %, median absolute {spread:.1f} %")
    rows = {"all": evaluation.overall, **evaluation.groups}
    head = "pictures grains  error      %  false missed confused  viability (labels)  difference"
    lines.append(f"{'plant':14s} {head}")
    lines += [_row(name, summary) for name, summary in rows.items()]
    lines.append("worst pictures (false, missed, confused):")
    ranked = sorted(evaluation.scores, key=lambda score: -score.mistakes)
    lines += [
        f"  {score.picture.name}: {score.false.sum()}, {score.missed.sum()}, {score.confused.sum()}"
        for score in ranked[:worst]
        if score.mistakes
    ]
    return "\n".join(lines)


def _row(name: str, item: Summary) -> str:
    return (
        f"{name:14s} {item.pictures:8d} {item.grains:6d} {item.count_error:6d} "
        f"{_cell(item.count_error_percent, '6.2f'):>6s} "
        f"{item.false:6d} {item.missed:6d} {item.confused:8d}  "
        f"{_cell(item.viability_found, '9.2f'):>9s} {_cell(item.viability_true, '8.2f'):>8s}  "
        f"{_cell(item.viability_error, '+10.2f'):>10s}"
    )


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


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
    pictures = read_pictures(chosen.data / chosen.split)
    with tempfile.TemporaryDirectory() as cache:
        evaluation = evaluate(pictures, chosen.weights, card, Path(cache))
    logger.info("%s", report(evaluation))
    if chosen.json:
        text = json.dumps(as_metrics(evaluation), indent=2)
        chosen.json.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
