"""Rendered pictures for the benchmarks, made once and kept."""

import tempfile
from pathlib import Path

from pollen.synth import FrameSpec, render, write_frame

CACHE = Path(tempfile.gettempdir()) / "pollen-benchmark-pictures"


def full_frames(number: int) -> list[Path]:
    """Return frames as the laboratory's camera makes them: 4140 x 3096 px, 300 grains."""
    return [
        _picture(f"full-{seed}.jpg", FrameSpec(width_px=4140, height_px=3096, n_grains=300), seed)
        for seed in range(number)
    ]


def small_frames(number: int) -> list[Path]:
    """Return crops of 640 px with a dozen grains."""
    return [_picture(f"small-{seed}.jpg", FrameSpec(), seed) for seed in range(number)]


def _picture(name: str, spec: FrameSpec, seed: int) -> Path:
    path = CACHE / name
    if not path.is_file():
        CACHE.mkdir(parents=True, exist_ok=True)
        write_frame(path, render(spec, seed))
    return path


def folder_of(pictures: list[Path], number: int, folder: Path) -> Path:
    """Make a folder of `number` pictures, the given ones linked repeatedly under new names."""
    folder.mkdir(parents=True)
    for index in range(number):
        source = pictures[index % len(pictures)]
        (folder / f"{index:05d}-{source.name}").hardlink_to(source)
    return folder
