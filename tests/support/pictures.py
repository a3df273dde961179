"""Small rendered micrographs and the folders and buckets that hold them."""

from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
from PIL import Image

from pollen.synth import FrameSpec, render
from pollen.synth.demo_pictures import write_frame

SIDE_PX = 200


@cache
def picture(seed: int = 0, suffix: str = ".png", n_grains: int = 4) -> bytes:
    """A picture file with a few grains; another seed gives another picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder, f"frame{suffix}")
        spec = FrameSpec(
            width_px=SIDE_PX, height_px=SIDE_PX, n_grains=n_grains, touching_fraction=0
        )
        write_frame(path, render(spec, seed))
        return path.read_bytes()


@cache
def grey_in_colour() -> bytes:
    """A PNG file of a picture that lost its colours, saved in colour."""
    pixels = np.asarray(Image.open(BytesIO(picture())).convert("L").convert("RGB"))
    target = BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


@cache
def pages(number: int) -> bytes:
    """A TIFF file of several pages."""
    spec = FrameSpec(width_px=SIDE_PX, height_px=SIDE_PX, n_grains=4, touching_fraction=0)
    frames = np.stack([render(spec, 100 + page).pixels for page in range(number)])
    with TemporaryDirectory() as folder:
        path = Path(folder, "pages.tif")
        tifffile.imwrite(path, frames, photometric="rgb")
        return path.read_bytes()


def put(folder: Path, *names: str, first_seed: int = 0) -> None:
    """Write one picture per name; each looks different."""
    for seed, name in enumerate(names, first_seed):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(seed, path.suffix.lower()))
