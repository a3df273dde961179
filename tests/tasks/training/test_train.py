"""Which trainings were done before, and what is told of the pictures of one that begins."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from pollen.dataset.labelled import LabelledPicture
from pollen.errors import PollenError
from pollen.layout import card_key, checkpoints_folder, conclusion_key, metrics_key, training_key
from pollen.training.base import Base
from pollen.training.identity import TrainingIdentity
from pollen.training.lineage import Lineage
from tasks.storage.store import Location, Store, open_store
from tasks.training.train import LaidOut, TrainingPlan, find_training, lay_out
from tests.support.training import train_settings

SETTINGS = train_settings()
BASE = Base("x", "base", "segment", Lineage())
IDENTITY = TrainingIdentity.of("pictures", "base", "", SETTINGS)
FIRST, SECOND = (f"pollen-001-{one.id[:8]}" for one in (IDENTITY, IDENTITY.again()))


@pytest.fixture
def root(tmp_path: Path) -> Location:
    return Location(folder=tmp_path / "root")


@pytest.fixture
def store(root: Location) -> Store:
    return open_store(root)


def published(store: Store, version: str, training_id: str, *, promote: bool = False) -> None:
    metrics = {
        "split": "test",
        "new": {"overall": {"grains": 1, "count_error_percent": None, "viability_error": None}},
        "production": {"model": {"sha256": "0"}},
        "gate": {"promote": promote, "reasons": []},
    }
    for key, told in (
        (card_key(version), {}),
        (training_key(version), {"training_id": training_id}),
        (metrics_key(version), metrics),
    ):
        store.write(key, json.dumps(told).encode())


def found(root: Location, dataset: str = "pollen-001", *, fresh: bool = False) -> TrainingPlan:
    return find_training(IDENTITY, dataset, BASE, SETTINGS, root, fresh=fresh)


def test_a_training_is_known_whatever_the_number_of_its_dataset(
    root: Location, store: Store
) -> None:
    assert (found(root).version, found(root).published) == (FIRST, False)
    published(store, FIRST, IDENTITY.id)

    for dataset in ("pollen-001", "pollen-002"):
        plan = found(root, dataset)
        assert (plan.version, plan.published) == (FIRST, True)

    once_more = found(root, "pollen-002", fresh=True)
    assert once_more.version == SECOND.replace("001", "002")
    assert once_more.identity.attempt == 2
    published(store, SECOND, once_more.id)
    assert found(root, "pollen-003").version == SECOND


@pytest.mark.parametrize("told", [b'{"training_id": "another"}', b"[]", b"{", None])
def test_a_name_that_only_ends_alike_is_no_proof(
    root: Location, store: Store, told: bytes | None
) -> None:
    store.write(card_key(FIRST), b"{}")
    if told is not None:
        store.write(training_key(FIRST), told)

    assert not found(root, "pollen-002").published
    assert found(root, "pollen-001").published


@pytest.mark.parametrize(
    ("promote", "checkpoints", "concluded", "fresh"),
    [
        (False, False, False, True),
        (True, False, False, False),  # stopped before its promotion: that comes first
        (False, True, False, False),  # stopped before its end was recorded
        (True, True, True, True),  # where nothing can be deleted, checkpoints stay for ever
    ],
)
def test_once_more_means_a_training_that_came_to_its_end(
    root: Location,
    store: Store,
    promote: bool,
    checkpoints: bool,
    concluded: bool,
    fresh: bool,
) -> None:
    published(store, FIRST, IDENTITY.id, promote=promote)
    if checkpoints:
        store.write(f"{checkpoints_folder(IDENTITY.id)}epoch-000001.json", b"{}")
    if concluded:
        store.write(conclusion_key(FIRST), b"{}")

    assert found(root).published
    assert found(root, fresh=True).published is not fresh


def test_once_more_helps_where_the_figures_are_damaged(root: Location, store: Store) -> None:
    published(store, FIRST, IDENTITY.id)
    store.delete([metrics_key(FIRST)])
    assert not found(root, fresh=True).published
    store.write(metrics_key(FIRST), b"{")
    assert not found(root, fresh=True).published


def picture(folder: Path, name: str, pixel_um: float | None, label: str) -> LabelledPicture:
    path = folder / name
    pixels = np.full((96, 128, 3), 200, np.uint8)
    if pixel_um is None:
        Image.fromarray(pixels).save(path, "PNG")
    else:
        per_cm = 1e4 / pixel_um
        tifffile.imwrite(path, pixels, resolution=(per_cm, per_cm), resolutionunit=3)
    return LabelledPicture(name, path, label, (128, 96))


GRAIN = "0 0.5 0.5 0.2 0.2\n"


def laid_out(folder: Path, *training: LabelledPicture) -> LaidOut:
    plan = TrainingPlan(IDENTITY, "pollen-001", BASE, SETTINGS, Location(folder=folder))
    return lay_out(training, (), training[:1], plan, folder / "laid-out")


@pytest.mark.parametrize(
    ("sizes", "expected", "words"),
    [
        ((0.5, 0.5), 0.5, ""),
        ((None, None), None, ""),
        ((0.5, None), None, "1 of 2 training pictures with grains state the size of a pixel (0.5 "),
        (
            (0.5, 0.25),
            None,
            "2 of 2 training pictures with grains state the size of a pixel (0.25, 0.5 ",
        ),
    ],
)
def test_a_pixel_size_is_claimed_only_if_all_pictures_with_grains_say_it(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sizes: tuple[float | None, ...],
    expected: float | None,
    words: str,
) -> None:
    files = [
        picture(tmp_path, f"{at}{'.tif' if size else '.png'}", size, GRAIN)
        for at, size in enumerate(sizes)
    ]

    made = laid_out(tmp_path, *files, picture(tmp_path, "empty.png", None, ""))

    assert made.pixel_size_um == expected
    assert words in caplog.text
    assert bool(words) == ("training pictures with grains" in caplog.text)


def test_a_label_too_large_is_named(tmp_path: Path) -> None:
    """Of a grain that is larger than the model's input: most often one that was drawn by mistake."""
    much = "2 0.5 0.5 1 1\n" + GRAIN
    whole = "0 0.5 0.5 0.1 0.1\n\n1 0.5 0.5 0.25 0.5\n0 0.5 0.5 1.0 1.0\n"
    files = [
        picture(tmp_path, name, None, text) for name, text in (("a.png", much), ("b.png", whole))
    ]

    with pytest.raises(PollenError, match="image_px") as told:
        laid_out(tmp_path, *files)

    assert str(told.value).startswith(
        "the largest labelled grain (128 px, in b.png, line 4 of its label) does not fit the model's input of 160 px "
        "at working scale 0.75: check that label first; if it is right, raise image_px, or lower working_scale"
    )
