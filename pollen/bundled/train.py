"""Make the bundled model: ``python -m pollen.bundled.train DATA --work DIR``.

Runs the stages of ``STAGES`` one after the other. It may be killed at any time: run again with
the same folder it goes on from the last checkpoint, with exactly the scenes it would have seen.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pollen.backends import quiet_ultralytics
from pollen.bundled.fitting import FitOptions, Fitter, Stage
from pollen.bundled.network import new_network
from pollen.bundled.pictures import LabelledPicture, read_split
from pollen.bundled.rendered import render_split
from pollen.bundled.scenes import SceneMaker, SceneMix, Stock, prepare

logger = logging.getLogger(__name__)

RENDERED_FRAMES: Final = 500
RENDERED_SEED: Final = 7000

STAGES: Final = (
    Stage(
        "1-collages",
        SceneMix(real=1.0, collage=1.0, blank=0.4, mosaic=0.25),
        side_px=320,
        scale=0.5,
        steps=550,
        seed=11,
    ),
    Stage(
        "2-everything",
        SceneMix(real=1.0, collage=1.0, blank=0.3, rendered=0.6, mosaic=0.15),
        side_px=320,
        scale=0.5,
        steps=1200,
        rate=1e-3,
        last_rate=9e-4,
        seed=12,
    ),
    Stage(
        "3-larger",
        SceneMix(real=1.2, collage=1.0, blank=0.25, rendered=0.6, mosaic=0.1, zoom=1.6),
        side_px=320,
        scale=0.75,
        steps=950,
        rate=9e-4,
        last_rate=8e-4,
        seed=13,
    ),
    Stage(
        "4-finish",
        SceneMix(real=1.5, collage=1.0, blank=0.2, rendered=0.4, mosaic=0.05, zoom=1.5, hard=0.3),
        side_px=320,
        scale=0.75,
        steps=6200,
        rate=8e-4,
        last_rate=1e-5,
        seed=14,
    ),
    Stage(
        "5-whole",
        SceneMix(real=2.0, collage=1.0, blank=0.2, rendered=0.3, zoom=1.35, hard=0.6, colour=1.25),
        side_px=480,
        scale=0.75,
        steps=1700,
        rate=3e-4,
        last_rate=1e-5,
        seed=15,
    ),
)
"""What the model sees, in order."""


def run_stages(
    stages: Sequence[Stage],
    real: Sequence[Stock],
    rendered: Sequence[LabelledPicture],
    folder: Path,
    options: FitOptions,
    start: Path | None = None,
) -> Path:
    """Train through all stages, each from the averaged weights of the one before.

    Args:
        stages: What to do.
        real: Prepared pictures of the train split.
        rendered: Rendered frames.
        folder: Where checkpoints go.
        options: How to run.
        start: Weights (a state dictionary) to start from; random ones without.

    Returns:
        The last checkpoint.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    network = new_network(seed=1)
    if start is not None:
        network.load_state_dict(torch.load(start, map_location="cpu", weights_only=True))
    last = folder
    for stage in stages:
        maker = SceneMaker(real, rendered, stage.mix, stage.side_px, stage.scale, stage.seed)
        fitter = Fitter(network, stage, maker, folder, options)
        fitter.resume()
        if fitter.step < stage.steps:
            fitter.run()
        last = fitter.checkpoint
        network = _averaged(fitter)
    return last


def _averaged(fitter: Fitter) -> Any:  # noqa: ANN401 - Ultralytics gives no types
    network = new_network(seed=1)
    network.load_state_dict(fitter.average.ema.state_dict())
    return network


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset with train/ and val/")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--workers", type=int, default=2, help="processes that make scenes")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    quiet_ultralytics(chosen.work / "ultralytics")
    pictures = read_split(chosen.data / "train")
    logger.info("%d pictures: cutting out grains and debris", len(pictures))
    real = [prepare(picture) for picture in pictures]
    logger.info("cut out done: %d grains", sum(len(stock.grains) for stock in real))
    folder = chosen.work / "rendered"
    rendered = render_split(folder, RENDERED_FRAMES, RENDERED_SEED, chosen.workers)
    options = FitOptions(workers=chosen.workers)
    last = run_stages(STAGES, real, rendered, chosen.work, options, chosen.start)
    logger.info("done: %s", last)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
