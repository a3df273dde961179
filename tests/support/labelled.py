"""Small labelled pictures, and the zips that labelling tools make of them."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from functools import cache

from PIL import Image

from pollen.synth import FrameSpec, render

SIDE_PX = 200
CLASSES = ("viable", "non_viable")
#: Twelve pictures of six plants.
NAMES = tuple(f"{plant}-1-A_2x_{slide}_001.png" for plant in range(1, 7) for slide in "AB")


@cache
def labelled(seed: int, n_grains: int = 5) -> tuple[bytes, str]:
    """A picture file and its YOLO outlines; another seed gives another picture."""
    spec = FrameSpec(width_px=SIDE_PX, height_px=SIDE_PX, n_grains=n_grains, touching_fraction=0)
    frame = render(spec, 5000 + seed)
    file = io.BytesIO()
    Image.fromarray(frame.pixels).save(file, "PNG")
    return file.getvalue(), frame.yolo_labels()


def export(
    names: Sequence[str] = NAMES,
    *,
    first_seed: int = 0,
    classes: Sequence[str] = CLASSES,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """A zip as Roboflow makes it, one picture per name; another first seed gives other pictures."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:

        def add(entry: str, data: str | bytes) -> None:
            archive.writestr(zipfile.ZipInfo(entry), data)  # no clock time: equal zips are equal

        add("data.yaml", f"train: train/images\nnames: [{', '.join(classes)}]\n")
        for seed, name in enumerate(names, first_seed):
            picture, label = labelled(seed)
            numbers = [
                classes.index(known) if known in classes else number
                for number, known in enumerate(CLASSES)
            ]
            lines = [f"{numbers[int(line[0])]}{line[1:]}" for line in label.splitlines()]
            add(f"train/images/{name}", picture)
            add(f"train/labels/{name.rpartition('.')[0]}.txt", "\n".join(lines))
        for name, data in (extra or {}).items():
            add(name, data)
    return file.getvalue()
