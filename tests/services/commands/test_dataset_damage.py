"""`pollen dataset check` on folders that are damaged: always told in words, never taken for usable."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from services.exit_codes import COULD_NOT_RUN, SOME_FAILED
from tests.support.labelled import NAMES, export, labelled

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset of two pictures in train and one in val."""
    for place, split in enumerate(("train", "train", "val")):
        picture, label = labelled(place)
        for part, suffix, data in (("images", "png", picture), ("labels", "txt", label.encode())):
            path = tmp_path / "pollen" / split / part / f"{place}-1-A_2x_A.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return tmp_path / "pollen"


def test_a_dangling_link_in_a_dataset_is_1_and_named(check: Check, dataset: Path) -> None:
    (dataset / "train/images/2.png").symlink_to("gone.png")
    (dataset / "train/labels/2.txt").write_text("")
    code, told, error = check(dataset)
    assert (code, error) == (SOME_FAILED, "")
    assert "error pollen/train/images/2.png: can't be read (No such file or directory)" in told
    assert (
        "pollen can be used, without the pictures that are left out: see the errors above." in told
    )


def test_a_dangling_link_in_an_export_is_2_and_named(check: Check, dataset: Path) -> None:
    (dataset / "data.yaml").write_text("names: [viable, non_viable]")
    (dataset / "val").rename(dataset / "valid")
    (dataset / "train/images/2.png").symlink_to("gone.png")
    code, told, _ = check(dataset)
    assert code == COULD_NOT_RUN
    assert "error pollen/train/images/2.png: can't be read" in told
    assert "pollen would be refused" in told


def test_a_bad_label_in_a_dataset_only_leaves_its_picture_out(check: Check, dataset: Path) -> None:
    (dataset / "train/labels/0-1-A_2x_A.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    code, told, _ = check(dataset)
    assert code == SOME_FAILED
    assert "error pollen/train/labels/0-1-A_2x_A.txt, line 1: class 7 has no name" in told
    assert "would be refused" not in told


def test_a_dataset_without_one_good_picture_is_2(check: Check, dataset: Path) -> None:
    for label in dataset.glob("*/labels/*.txt"):
        label.write_text("7\n")
    assert check(dataset)[0] == COULD_NOT_RUN


def test_a_hostile_file_of_names_is_2(check: Check, tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "\n".join(["a0: &a0 [viable]", *levels, "names: *a11"])
    path = tmp_path / "labelled.zip"
    path.write_bytes(export(NAMES[:1], extra={"a/data.yaml": bomb.encode()}))
    code, told, _ = check(path)
    assert code == COULD_NOT_RUN
    assert "error labelled.zip/a/data.yaml: has an anchor or alias in line 1" in told


def test_a_path_that_cannot_be_looked_at_is_2(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "loop.zip"
    path.symlink_to("loop.zip")
    code, told, error = check(path)
    assert (code, told) == (COULD_NOT_RUN, "")
    assert error.startswith("Error: ")
    assert "loop.zip" in error


def test_what_nobody_foresaw_is_2_and_one_sentence(
    check: Check, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LookupError("nobody foresaw this")

    monkeypatch.setattr("services.commands.dataset.check", broken)
    code, told, error = check(dataset)
    assert (code, told) == (COULD_NOT_RUN, "")
    assert "unexpected error (LookupError: nobody foresaw this)" in error
    assert "nothing was written" in error


def test_a_name_that_is_no_text_is_2_and_can_be_printed(check: Check, dataset: Path) -> None:
    picture = os.fsencode(dataset) + b"/train/images/\xe9.png"
    Path(os.fsdecode(picture)).write_bytes(labelled(7)[0])
    code, told, _ = check(dataset)
    assert code == COULD_NOT_RUN
    assert "1 file names are not UTF-8 text" in told


def test_a_name_is_never_taken_for_markup(check: Check, dataset: Path) -> None:
    odd = dataset.rename(dataset.with_name("[red]pollen[bold]"))
    code, told, _ = check(odd)
    assert code == 0
    assert "[red]pollen[bold] can be used as it is." in told
    assert "[red]pollen[bold] (" in told


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_dataset_without_grains_to_learn_from_or_choose_by_is_1_and_says_so(
    check: Check, dataset: Path, split: str
) -> None:
    for label in dataset.glob(f"{split}/labels/*.txt"):
        label.write_text("")
    code, told, _ = check(dataset)
    assert code == SOME_FAILED
    assert f"warning pollen: has no labelled grain in {split}: " in told
    assert "pollen can't be trained on yet: the warnings above list what is missing." in told
    assert "can be used as it is" not in told


def test_a_dataset_without_test_split_says_how_models_are_judged(
    check: Check, dataset: Path
) -> None:
    _, told, _ = check(dataset)
    assert "note pollen: has no test split: models are judged on val" in told
