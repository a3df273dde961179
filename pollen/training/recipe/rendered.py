"""Rendered frames as training pictures."""

import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from pollen.dataset.labelled import LabelledPicture, read_pictures
from pollen.synth import random_spec, render
from pollen.training.collage import Outline
from pollen.training.examples import Example

logger = logging.getLogger(__name__)


def render_split(folder: Path, count: int, seed: int, workers: int) -> list[Example]:
    """Render frames into `folder` (`images/` and `labels/`) and read them.

    Frames already there are kept, so a killed run goes on.

    Args:
        folder: Where they go.
        count: How many.
        seed: Start of all randomness.
        workers: Processes; below 2 it is done here.
    """
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    missing = [n for n in range(count) if not (folder / "images" / f"{n:05d}.png").exists()]
    if missing:
        logger.info("rendering %d frames", len(missing))
    if len(missing) > 1 and workers > 1:
        # Not forked: the caller may be one of many threads, and OpenCV's would not come along.
        fresh = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=fresh) as pool:
            list(pool.map(_render_one, *zip(*[(folder, n, seed) for n in missing], strict=True)))
    else:
        for number in missing:
            _render_one(folder, number, seed)
    return [_example_of(picture) for picture in read_pictures(folder)[:count]] if count else []


def _example_of(picture: LabelledPicture) -> Example:
    # In single precision, unlike the pictures of a dataset: other roundings would be another training.
    size = np.array(picture.size_px, np.float32)
    outlines = (
        Outline(grain.number, grain.points.astype(np.float32) * size) for grain in picture.grains
    )
    return Example(picture.pixels(), tuple(outlines))


def _render_one(folder: Path, number: int, seed: int) -> None:
    """Render one frame; the picture appears last and whole."""
    frame = render(random_spec(np.random.default_rng([seed, number])), seed=seed + number)
    label = folder / "labels" / f"{number:05d}.txt"
    label.write_text(frame.yolo_labels(), encoding="utf-8")
    part = folder / f"{number:05d}.part.png"
    cv2.imwrite(str(part), cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR))
    part.replace(folder / "images" / f"{number:05d}.png")
