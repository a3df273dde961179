"""Ship a model: ``python -m pollen.training.recipe.publish DATA CHECKPOINT... --confidence 0.4``.

Averages the checkpoints, writes ``best.pt`` as plain Ultralytics weights, measures it on ``val``
through the product's own detection, and writes ``model.json`` beside it.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pollen import __version__
from pollen.classes import GrainClass
from pollen.evaluation.evaluate import evaluate
from pollen.evaluation.metrics import as_metrics
from pollen.evaluation.pictures import read_pictures
from pollen.models.card import CARD_NAME, ModelCard, sha256_of
from pollen.models.weights import quiet_ultralytics
from pollen.training.folder import GrainSizes
from pollen.training.lineage import LEARNT_FROM, Lineage
from pollen.training.recipe.card_text import card_text
from pollen.training.recipe.evaluate import report
from pollen.training.recipe.fitting import Stage
from pollen.training.recipe.network import ARCHITECTURE
from pollen.training.recipe.pictures import LabelledPicture, read_split
from pollen.training.recipe.stages import RENDERED_SEED, STAGES
from pollen.training.recipe.states import average_weights, write_weights
from pollen.training.settings import TrainSettings

logger = logging.getLogger(__name__)

HERE = Path(__file__).parent
WEIGHTS_NAME = "best.pt"
TEXT_NAME = "MODEL_CARD.md"
LARGEST_GRAIN_PX = 140.0
"""Diameter of the largest grain to expect, picture pixels; the largest labelled ones have 125."""


def training_facts(
    stages: Sequence[Stage], pictures: Sequence[LabelledPicture], checkpoints: Sequence[Path]
) -> dict[str, Any]:
    """What was done, for the card: stages, data, versions, time."""
    import torch
    from ultralytics import __version__ as ultralytics_version

    classes = [outline.grain_class for picture in pictures for outline in picture.outlines]
    state = torch.load(checkpoints[-1], map_location="cpu", weights_only=True)
    return {
        "architecture": ARCHITECTURE,
        "from_scratch": True,
        "stages": [asdict(stage) for stage in stages],
        "averaged_checkpoints": len(checkpoints),
        "seconds_last_stage": round(state.get("seconds", 0)),
        "data": {
            "source": "Pollination-Ecology-Group/Pollen_viability (MIT), train split",
            "pictures": len(pictures),
            "without_grains": sum(not picture.outlines for picture in pictures),
            # The rest is debris on a plain canvas, which is named after plants too.
            "plants": len({picture.plant for picture in pictures if picture.outlines}),
            **{item.label: classes.count(int(item)) for item in GrainClass},
            "rendered_frames": TrainSettings().rendered_frames,
            "rendered_seed": RENDERED_SEED,
        },
        LEARNT_FROM: Lineage().and_of(p.plant for p in pictures).model_dump(mode="json"),
        "code_version": __version__,
        "torch": torch.__version__,
        "ultralytics": ultralytics_version,
        "precision": "bfloat16 forward and backward, float32 loss and weights",
    }


def write_card(weights: Path, facts: dict[str, Any]) -> ModelCard:
    """Write ``model.json`` beside weights and read it back.

    Args:
        weights: The file the card speaks of.
        facts: Version, scale, thresholds, metrics, training: everything but hash and names.
    """
    card = {
        "version": facts["version"],
        "weights": weights.name,
        "sha256": sha256_of(weights),
        "task": "segment",
        "classes": [item.label for item in GrainClass],
        "pixel_size_um": None,
        "max_grain_px": LARGEST_GRAIN_PX,
        "licence": "AGPL-3.0",
        **facts,
    }
    path = weights.with_name(CARD_NAME)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    part.replace(path)
    return ModelCard.read(path)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset with train/ and val/")
    parser.add_argument("checkpoints", type=Path, nargs="+", help="states to average")
    parser.add_argument("--confidence", type=float, required=True)
    parser.add_argument("--merge-iou", type=float, default=0.5)
    parser.add_argument("--viable-odds", type=float, default=1.0, help="see the model card")
    parser.add_argument("--scale", type=float, default=0.5, help="model px per picture px")
    parser.add_argument("--tile", type=int, default=320, help="side of the model's input, px")
    parser.add_argument("--version", default="bundled-1")
    parser.add_argument("--output", type=Path, default=HERE)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ship; returns the exit code."""
    chosen = _parse(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        quiet_ultralytics(Path(scratch) / "ultralytics")
        weights = chosen.output / WEIGHTS_NAME
        write_weights(average_weights(chosen.checkpoints), weights)
        pictures = read_split(chosen.data / "train")
        sizes = GrainSizes.of([picture.outlines for picture in pictures])
        facts = {
            "version": chosen.version,
            "tile_px": chosen.tile,
            "working_scale": chosen.scale,
            "grain_diameter_px": round(sizes.median_px, 1),
            "grain_diameter_range_px": (round(sizes.low_px, 1), round(sizes.high_px, 1)),
            "confidence": chosen.confidence,
            "merge_iou": chosen.merge_iou,
            "viable_odds": chosen.viable_odds,
        }
        card = write_card(weights, facts)
        judges = read_pictures(chosen.data / "val")
        evaluation = evaluate(judges, weights, card, Path(scratch) / "cache")
        training = training_facts(STAGES, pictures, chosen.checkpoints)
        measured = {"metrics": {"val": as_metrics(evaluation)}, "training": training}
        write_card(weights, {**facts, **measured})
        told = json.loads(weights.with_name(CARD_NAME).read_text(encoding="utf-8"))
        weights.with_name(TEXT_NAME).write_text(card_text(told), encoding="utf-8")
    logger.info("%s", report(evaluation))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
