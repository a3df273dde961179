"""What a card says of the splits, as far as names tell plants."""

from pollen.dataset.manifest import GrainCounts, Manifest, ManifestImage, Split
from pollen.training.model_card import separation


def manifest(*names: str, **settings: str) -> Manifest:
    images = tuple(
        ManifestImage(
            key=f"train/images/{number}.png",
            split=Split.TRAIN,
            original=name,
            sha256="0" * 64,
            label_sha256="0" * 64,
            pixels_sha256=f"{number:064x}",
            look="0" * 64,
            width_px=64,
            height_px=64,
            group=name,
            family=name,
            grains=GrainCounts(),
        )
        for number, name in enumerate(names)
    )
    return Manifest(images=images, settings=settings)


def test_plants_are_kept_apart_only_where_names_tell_them() -> None:
    told = "1-3-F_S4x_BCrop_2.png"
    assert separation(manifest(told)) == "No plant is in two splits."
    assert separation(manifest(told, "field.png")).startswith("The names of 1 of its 2 pictures")
    own = manifest(told, "field.png", sample_pattern=r"^(?P<plant>[a-z]+)\.")
    assert separation(own).startswith("The names of 1 of its 2 pictures")
