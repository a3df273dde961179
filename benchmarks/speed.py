"""The whole flow against the bare model, and against the old script's method; same weights."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.old_method import count
from benchmarks.pictures import folder_of, full_frames
from flows.detect import count_pictures
from pollen.arrays import Pixels
from pollen.detection.detector import Detector
from pollen.detection.profile import Profile
from pollen.detection.settings import DetectSettings
from pollen.frames import open_frames
from pollen.models.weights import quiet_ultralytics
from tasks.models.resolve import BUNDLED, resolve_model
from tasks.storage.local_copies import cache_folder
from tasks.storage.store import Location

FRAMES = 6
ROUNDS = 3


def run() -> None:
    """Measure in turn, round by round, and print the ratios' medians."""
    pictures = full_frames(FRAMES)
    settings = DetectSettings()
    model = resolve_model(BUNDLED, Location(folder=Path()))
    profile = Profile.resolve(model.card, settings)
    detector = Detector(model.weights, model.card, profile, cache_folder())
    tiles = _tiles(detector, pictures)
    old = _old_model(model.weights)
    bare, whole, before = [], [], []
    for _ in range(ROUNDS):
        bare.append(_seconds(lambda: detector._backend.run(tiles, lambda *_: None)))
        whole.append(_seconds(lambda: _whole(pictures, settings)))
        before.append(_seconds(lambda: _old(old, pictures[:1])) * FRAMES)
    ratio = [flow / alone for flow, alone in zip(whole, bare, strict=True)]
    against_old = [flow / script for flow, script in zip(whole, before, strict=True)]
    print(f"{FRAMES} frames of 4140 x 3096 px, {len(tiles)} tiles of {model.card.tile_px} px")
    print(f"  bare model      {median(bare) / FRAMES:6.2f} s per frame")
    print(
        f"  whole flow      {median(whole) / FRAMES:6.2f} s per frame, {median(ratio):.2f} x bare (budget 1.10)"
    )
    print(
        f"  old script      {median(before) / FRAMES:6.2f} s per frame; "
        f"the flow takes {median(against_old):.2f} of that (budget 0.10)"
    )


def _tiles(detector: Detector, pictures: list[Path]) -> list[Pixels]:
    """Return the tiles of all pictures, as the flow cuts them."""
    tiles: list[Pixels] = []
    for picture in pictures:
        with open_frames(picture, picture.name) as file:
            frame = file.frames[0]
            grid = detector.profile.grid(frame.pixel_size_um)
            spans = [(tile.x, tile.y) for tile in grid.tiles(frame.width_px, frame.height_px)]
            boxes = [(x.start, y.start, x.stop, y.stop) for x, y in spans]
            tiles.extend(grid.model_input(frame.read(box)) for box in boxes)
    return tiles


def _whole(pictures: list[Path], settings: DetectSettings) -> None:
    with tempfile.TemporaryDirectory(dir=pictures[0].parent) as scratch:
        source = folder_of(pictures, len(pictures), Path(scratch) / "in")
        count_pictures(
            Location(folder=source), Location(folder=Path(scratch) / "out"), BUNDLED, settings
        )


def _old_model(weights: Path) -> object:
    quiet_ultralytics(cache_folder() / "ultralytics")
    from ultralytics.models import YOLO

    return YOLO(weights)


def _old(model: object, pictures: list[Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for picture in pictures:
            count(model, picture, Path(scratch) / picture.name)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
