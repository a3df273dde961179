"""`pollen dataset check`: exit codes, and findings that lead to file and line."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from services.commands.dataset import FINDINGS_SHOWN
from services.exit_codes import COULD_NOT_RUN, DONE, SOME_FAILED
from tests.support.labelled import NAMES, export, labelled
from tests.support.runs import files

Check = Callable[..., tuple[int, str, str]]

BOX = "0.5 0.5 0.2 0.2"
LABEL = "train/labels/9-1-A_2x_A.txt"


@pytest.fixture
def archive(tmp_path: Path) -> Callable[..., Path]:
    """A zip of three pictures, and one more with the label that is given."""

    def write(label: str | None = None, **values: object) -> Path:
        extra = {}
        if label is not None:
            extra = {"train/images/9-1-A_2x_A.png": labelled(90)[0], LABEL: label.encode()}
        path = tmp_path / "labelled.zip"
        path.write_bytes(export(NAMES[:3], extra=extra, **values))  # type: ignore[arg-type]
        return path

    return write


def number(told: str, name: str) -> int:
    """A row of the table."""
    found = re.search(rf"{re.escape(name)}\D+(\d+)", told)
    assert found, told
    return int(found[1])


def test_a_good_zip_is_0_and_nothing_is_written(
    check: Check, archive: Callable[..., Path], tmp_path: Path
) -> None:
    path = archive()
    before = files(tmp_path)
    code, told, error = check(path)
    assert (code, error) == (DONE, "")
    assert "labelled.zip can be used as it is." in told
    assert number(told, "pictures that can be used") == 3
    assert number(told, "viable grains") == 12
    assert number(told, "non-viable grains") == 3
    assert files(tmp_path) == before


def test_an_unsure_grain_is_1_and_named_with_its_line(
    check: Check, archive: Callable[..., Path]
) -> None:
    path = archive(f"0 {BOX}\n2 0.2 0.2 0.1 0.1\n", classes=("viable", "non_viable", "unsure"))
    code, told, _ = check(path)
    assert code == SOME_FAILED
    assert f"warning labelled.zip/{LABEL}, line 2: 1 of its grains are labelled 'unsure'" in told
    assert "labelled.zip can be used; check the warnings above first." in told
    assert number(told, "pictures left out") == 1

    code, told, _ = check(path, "unsure=cover")
    assert code == DONE
    assert number(told, "grains labelled 'unsure'") == 1
    assert number(told, "pictures left out") == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"7 {BOX}", "class 7 has no name, the export names 0 viable, 1 non_viable"),
        ("0 1.5 0.5 0.2 0.2", "expected coordinates from 0 to 1"),
        (f"0 {BOX} 0.9", "is the last one a confidence? Export labels, not predictions"),
        (f"viable {BOX}", "expected a class number first, got 'viable'"),
        (f"1 {BOX}", "the same outline as in line 1, but of another class"),
    ],
)
def test_a_faulty_line_is_2_and_named(
    check: Check, archive: Callable[..., Path], line: str, words: str
) -> None:
    code, told, _ = check(archive(f"0 {BOX}\n{line}\n"))
    assert code == COULD_NOT_RUN
    found = next(one for one in told.splitlines() if one.startswith("error"))
    assert f"labelled.zip/{LABEL}, line 2: " in found
    assert words in found
    assert "labelled.zip would be refused: correct the errors above and check again." in told


def test_a_class_nobody_knows_is_2(check: Check, archive: Callable[..., Path]) -> None:
    code, told, _ = check(archive(f"2 {BOX}\n", classes=("viable", "non_viable", "dust")))
    assert code == COULD_NOT_RUN
    assert f"error labelled.zip/{LABEL}, line 1: unknown class 'dust'" in told
    assert "rename the class, or label the grain again" in told


def test_classes_in_another_order_are_read_by_name(
    check: Check, archive: Callable[..., Path]
) -> None:
    code, told, _ = check(archive(classes=("non_viable", "viable")))
    assert code == DONE
    assert number(told, "viable grains") == 12
    assert number(told, "non-viable grains") == 3


def test_many_findings_are_cut_with_a_note(check: Check, tmp_path: Path) -> None:
    path = tmp_path / "labelled.zip"
    lonely = {f"train/labels/{at}.txt": b"" for at in range(FINDINGS_SHOWN + 5)}
    path.write_bytes(export(NAMES[:1], extra=lonely))
    code, told, _ = check(path)
    assert code == SOME_FAILED
    assert told.count("a label without a picture") == FINDINGS_SHOWN
    assert "... and 5 more findings" in told


def test_a_zip_that_broke_off_is_2(check: Check, archive: Callable[..., Path]) -> None:
    path = archive()
    path.write_bytes(path.read_bytes()[:-200])
    code, told, _ = check(path)
    assert code == COULD_NOT_RUN
    assert told.startswith("error labelled.zip: ")
    assert "would be refused" in told


def test_nothing_at_the_path_is_2(check: Check, tmp_path: Path) -> None:
    code, told, error = check(tmp_path / "typo.zip")
    assert (code, told) == (COULD_NOT_RUN, "")
    assert error.startswith("Error: there is neither a folder nor a zip at")
    assert "typo.zip: check the path" in error


def test_a_setting_that_can_not_be_used_is_2(check: Check, archive: Callable[..., Path]) -> None:
    code, told, error = check(archive(), "unsure=maybe")
    assert (code, told) == (COULD_NOT_RUN, "")
    assert "unsure: Input should be 'reject' or 'cover'" in error


def test_a_dataset_keeps_its_splits(check: Check, tmp_path: Path) -> None:
    for place, split in enumerate(("train", "val", "test")):
        picture, label = labelled(place)
        for part, name, data in (("images", "png", picture), ("labels", "txt", label.encode())):
            path = tmp_path / "pollen" / split / part / f"{place}-1-A_2x_A.{name}"
            path.parent.mkdir(parents=True)
            path.write_bytes(data)
    code, told, _ = check(tmp_path / "pollen")
    assert code == DONE
    assert [number(told, f"pictures for {split}") for split in ("train", "val", "test")] == [1] * 3
