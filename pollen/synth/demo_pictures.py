"""The sample micrographs of the demo: three invented plants, named as the laboratory names its own.

A name like `1-3-F_S4x_B_001.jpg` carries the plant (1-3-F), its ploidy (S4x), the slide (B) and
the number of the frame.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import tifffile

from pollen.classes import GrainClass
from pollen.synth.scene import render
from pollen.synth.spec import Debris, EmptyLook, EmptySlide, FrameSpec, Optics, Stain
from pollen.synth.truth import RenderedFrame

TRUTH_NAME = "truth.csv"
_JPEG_QUALITY = 95
_LOW_PIXEL_UM, _HIGH_PIXEL_UM = 0.65, 0.36

_FULL_PLANT = FrameSpec(
    width_px=1024,
    height_px=768,
    n_grains=30,
    viable_fraction=0.97,
    grain_diameter_px=46.0,
    touching_fraction=0.25,
    stain=Stain(viable_rgb=(162.0, 20.0, 72.0), granularity=0.6),
    optics=Optics(blur_px=0.6, limb=0.7, sharpening=0.8, jpeg_quality=None),
    background=EmptySlide(rgb=(201.0, 204.0, 209.0)),
    debris=Debris(flakes=0.6, clumps=0.1),
)
_MIXED_PLANT = replace(
    _FULL_PLANT,
    n_grains=24,
    viable_fraction=0.78,
    empty_size_ratio=0.72,
    touching_fraction=0.4,
    stain=Stain(
        viable_rgb=(176.0, 28.0, 96.0),
        looks=(EmptyLook.GHOST, EmptyLook.LOBED, EmptyLook.FOLDED),
        granularity=0.8,
    ),
    background=EmptySlide(rgb=(214.0, 212.0, 206.0)),
)
_EMPTY_PLANT = replace(
    _FULL_PLANT,
    n_grains=22,
    viable_fraction=0.2,
    empty_size_ratio=0.92,
    touching_fraction=0.5,
    stain=Stain(looks=(EmptyLook.FOLDED, EmptyLook.RIBBED, EmptyLook.CRUMPLED)),
    optics=Optics(blur_px=0.55, halo=0.6, sharpening=1.1, jpeg_quality=None),
    background=EmptySlide(rgb=(186.0, 185.0, 183.0), gradient_levels=14.0),
)


@dataclass(frozen=True, slots=True)
class _Sample:
    name: str
    spec: FrameSpec


#: Ordered so that a short set already shows every kind of plant, clusters and an empty frame.
_SAMPLES: tuple[_Sample, ...] = (
    _Sample("1-3-F_S4x_B_001.jpg", _FULL_PLANT),
    _Sample(
        "5-8-J_2x_C_001.jpg",
        replace(_MIXED_PLANT, n_grains=34, touching_fraction=0.85),
    ),
    _Sample("7-4-E_4x_A_001.jpg", _EMPTY_PLANT),
    _Sample(
        "1-3-F_S4x_B_002.jpg",
        replace(
            _FULL_PLANT,
            n_grains=0,
            debris=Debris(flakes=2.0, clumps=0.6, bubbles=1.0, crystals=4.0, fibres=0.4),
        ),
    ),
    _Sample(
        "5-8-J_2x_C_002.tif",
        replace(
            _MIXED_PLANT,
            n_grains=16,
            grain_diameter_px=83.0,
            pixel_size_um=_HIGH_PIXEL_UM,
            optics=Optics(blur_px=0.8, fringe_px=1.2, limb=0.6, sharpening=0.9, jpeg_quality=None),
        ),
    ),
    _Sample(
        "1-3-F_S4x_B_003.jpg",
        replace(
            _FULL_PLANT,
            width_px=2070,
            height_px=1548,
            n_grains=110,
            scale_bar=True,
            pixel_size_um=_LOW_PIXEL_UM,
        ),
    ),
    _Sample("7-4-E_4x_A_002.jpg", replace(_EMPTY_PLANT, n_grains=12, touching_fraction=0.2)),
    _Sample("5-8-J_2x_C_003.jpg", _MIXED_PLANT),
)


def sample_frames(n: int = len(_SAMPLES), seed: int = 0) -> Iterator[tuple[str, RenderedFrame]]:
    """Render the first `n` sample micrographs, one at a time.

    Beyond the eight that are laid out by hand, further frames of the same three plants follow.

    Args:
        n: Number of frames.
        seed: Another seed gives other frames of the same plants.

    Yields:
        File name and frame.
    """
    plants = (
        ("1-3-F_S4x_B", _FULL_PLANT),
        ("5-8-J_2x_C", _MIXED_PLANT),
        ("7-4-E_4x_A", _EMPTY_PLANT),
    )
    for index in range(n):
        if index < len(_SAMPLES):
            sample = _SAMPLES[index]
        else:
            plant, spec = plants[index % 3]
            # The frames above use numbers up to 003.
            sample = _Sample(f"{plant}_{index:03d}.jpg", spec)
        yield sample.name, render(sample.spec, seed * 10_000 + index)


def write_samples(
    folder: Path, n: int = len(_SAMPLES), seed: int = 0, *, truth_csv: bool = False
) -> list[Path]:
    """Write the sample micrographs as JPEG (quality 95, 4:2:0) and TIFF with its pixel size.

    Args:
        folder: Made if it does not exist.
        n: Number of frames.
        seed: See `sample_frames`.
        truth_csv: Also write the true counts of every frame to `truth.csv`.

    Returns:
        The pictures written, in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written, rows = [], []
    for name, frame in sample_frames(n, seed):
        path = folder / name
        write_frame(path, frame)
        written.append(path)
        counts = frame.truth_counts()
        rows.append([name, *(counts[c] for c in GrainClass), len(frame.grains)])
    if truth_csv:
        with (folder / TRUTH_NAME).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["filename", *(c.label for c in GrainClass), "total"])
            table.writerows(sorted(rows))
    return written


def write_frame(path: Path, frame: RenderedFrame) -> None:
    """Write one frame; the suffix (.jpg, .png or .tif) decides the format.

    A TIFF carries the pixel size in its resolution tags if the frame has one.

    Raises:
        ValueError: If the suffix is none of these.
    """
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        _write_tiff(path, frame)
        return
    if suffix not in (".jpg", ".jpeg", ".png"):
        raise ValueError(f"{path}: can write .jpg, .png or .tif frames, not '{path.suffix}'")
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        _JPEG_QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    bgr = np.ascontiguousarray(frame.pixels[..., ::-1])
    _, encoded = cv2.imencode(suffix, bgr, settings if suffix != ".png" else [])
    path.write_bytes(encoded.tobytes())


def _write_tiff(path: Path, frame: RenderedFrame) -> None:
    if frame.pixel_size_um is None:
        tifffile.imwrite(path, frame.pixels, photometric="rgb", compression="deflate")
        return
    pixels_per_cm = 1e4 / frame.pixel_size_um
    tifffile.imwrite(
        path,
        frame.pixels,
        photometric="rgb",
        compression="deflate",
        resolution=(pixels_per_cm, pixels_per_cm),
        resolutionunit="CENTIMETER",
    )
