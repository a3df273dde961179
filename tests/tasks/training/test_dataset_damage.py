"""Merging with damage about: a hostile zip never stops a training, a failing disk is one clear error."""

from pathlib import Path

import pytest

from pollen.dataset.exports.dataset_folder import read_dataset_folder
from pollen.dataset.exports.reading import Export
from pollen.dataset.exports.trees import Tree
from pollen.dataset.manifest import Manifest
from pollen.dataset.settings import DatasetSettings
from pollen.errors import PollenError
from tasks.storage.store import Location
from tasks.training.dataset import Staging, update_dataset
from tests.support.labelled import NAMES, export

SETTINGS = DatasetSettings()
#: A few hundred bytes that would be many gigabytes.
BOMB = "\n".join(
    [
        "a0: &a0 [viable]",
        *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)),
        "names: *a11",
    ]
)


@pytest.fixture
def staging(tmp_path: Path) -> Staging:
    chosen = Staging.below(Location(folder=tmp_path / "root"), "pollen")
    assert chosen.zips is not None
    assert chosen.zips.folder is not None
    chosen.zips.folder.mkdir(parents=True)
    (chosen.zips.folder / "good.zip").write_bytes(export(NAMES[:2]))
    return chosen


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", BOMB),
        ("data.yaml", "names: !!bool maybe"),
        ("data.yaml", "names: !!int ''"),
        ("data.yaml", "names: !!timestamp abc"),
        ("data.yaml", "[" * 60_000),
        ("data.yaml", 'names: ["\\UFFFFFFFF"]'),
        ("train/labels/x.txt", "37\n" * 700_000),
    ],
)
def test_a_hostile_zip_is_refused_and_the_others_are_merged(
    staging: Staging, file: str, text: str
) -> None:
    assert staging.zips is not None
    assert staging.zips.folder is not None
    extra = {f"a/{file}": text.encode(), "a/train/images/x.png": b""}
    (staging.zips.folder / "hostile.zip").write_bytes(export(NAMES[2:3], first_seed=2, extra=extra))
    version = update_dataset(staging, SETTINGS)
    assert len(version.manifest.images) == 2
    assert [entry.key for entry in version.merged] == ["good.zip"]
    assert version.refused == ("hostile.zip",)
    assert any(found.file.startswith(f"hostile.zip/a/{file}") for found in version.findings)
    assert len(version.findings) < 50


def test_a_file_that_vanishes_while_it_is_read_is_one_clear_error(
    staging: Staging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = update_dataset(staging, SETTINGS)

    def vanishing(tree: Tree, settings: DatasetSettings, latest: Manifest | None) -> Export:
        (tmp_path / "root/datasets/pollen" / before.manifest.images[0].key).unlink()
        return read_dataset_folder(tree, settings, latest)

    monkeypatch.setattr("tasks.training.dataset.read_dataset_folder", vanishing)
    with pytest.raises(PollenError, match=r"pollen can't be read to its end .*No such file"):
        update_dataset(staging, SETTINGS)
