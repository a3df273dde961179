"""Plants and slides of the pictures that a model is judged by."""

from pathlib import Path

from pollen.dataset.families import family_of, group_of
from pollen.dataset.labelled import LabelledPicture, Origin
from pollen.dataset.manifest import GrainCounts, ManifestImage, Split
from pollen.dataset.settings import DatasetSettings
from tasks.training.evaluate import labelled_pictures

PATTERN = DatasetSettings().sample_pattern


def image(original: str, number: int) -> ManifestImage:
    return ManifestImage(
        key=f"test/images/{number}.png",
        split=Split.TEST,
        original=original,
        sha256="0" * 64,
        label_sha256="0" * 64,
        pixels_sha256=f"{number:064x}",
        look="0" * 64,
        width_px=64,
        height_px=64,
        group=group_of(original, PATTERN),
        family=family_of(original),
        grains=GrainCounts(),
    )


def test_a_picture_whose_name_tells_no_plant_is_a_slide_of_its_own() -> None:
    names = ["1-3-F_S4x_BCrop_2.png", "1-3-F_S4x_BCrop_3.png", "field one.png", "field two.png"]
    images = [image(name, number) for number, name in enumerate(names)]
    files = [LabelledPicture(name, Path(name), "", (64, 64)) for name in names]

    origins = [picture.origin for picture in labelled_pictures(images, files, PATTERN)]

    slide = Origin("1-3-F_S4x", "1-3-F_S4x_B")
    assert origins == [
        slide,
        slide,
        Origin("field-one", "field-one", plant_known=False),
        Origin("field-two", "field-two", plant_known=False),
    ]
