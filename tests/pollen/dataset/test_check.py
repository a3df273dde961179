"""Checking a folder or zip as a merge would read it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from pollen.dataset.check import CheckOutcome, CheckResult, check
from pollen.dataset.exports.trees import TreeError
from pollen.dataset.findings import DatasetFinding, Severity, has_error, in_order
from pollen.dataset.manifest import GrainCounts, Split
from tests.pollen.dataset.making import NON_VIABLE, SETTINGS, VIABLE, picture, roboflow, zipped


def written(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def as_zip(folder: Path, files: Mapping[str, bytes]) -> CheckResult:
    path = folder / "export.zip"
    path.write_bytes(zipped(files))
    return check(path, SETTINGS)


def test_a_good_export(tmp_path: Path) -> None:
    files = roboflow(
        {"1-1-A_2x_A.png": picture(1), "2-1-A_2x_A.png": picture(2)},
        {"1-1-A_2x_A.png": VIABLE, "2-1-A_2x_A.png": NON_VIABLE},
    )
    result = as_zip(tmp_path, files)
    assert result.is_usable
    assert (result.pictures, result.left_out) == (2, 0)
    assert result.grains == GrainCounts(viable=1, non_viable=1)
    assert sum(result.splits.values()) == 2
    assert result.findings == ()
    files = {name: data for name, data in files.items() if "2-1-A" not in name}
    files |= {"train/images/field 1.png": picture(3), "train/labels/field 1.txt": VIABLE.encode()}
    result = as_zip(tmp_path, files)
    assert result.verdict is CheckOutcome.LOOK
    (warning,) = result.findings
    assert warning.file == "export.zip"
    assert "1 of 2 file names do not name a plant, for example field 1.png" in warning.message


def test_an_export_with_an_error_and_one_with_a_warning(tmp_path: Path) -> None:
    result = as_zip(tmp_path, roboflow({"a.png": picture(1)}, {"a.png": "0 1\n"}))
    assert not result.is_usable
    assert (result.pictures, result.left_out) == (0, 1)
    assert result.findings[0].where == "export.zip/train/labels/a.txt, line 1"
    result = as_zip(tmp_path, roboflow({"a.png": picture(1), "b.png": picture(2)}, {"a.png": ""}))
    assert result.is_usable
    assert (result.pictures, result.left_out) == (1, 1)


def test_the_same_picture_twice_in_an_export_is_taken_once(tmp_path: Path) -> None:
    result = as_zip(
        tmp_path, roboflow({"1-1-A_2x_A.png": picture(1), "1-1-A_2x_B.png": picture(1)})
    )
    assert result.pictures == 1
    assert "1 of its pictures" in result.findings[0].message


def test_a_dataset_folder_is_checked_with_its_own_split(tmp_path: Path) -> None:
    files = {
        "train/images/1-1-A_2x_A.png": picture(1),
        "train/labels/1-1-A_2x_A.txt": VIABLE.encode(),
        "val/images/1-1-A_2x_B.png": picture(2),
        "val/labels/1-1-A_2x_B.txt": VIABLE.encode(),
        "val/images/2-2-B_2x_B.png": picture(3),
        "val/labels/2-2-B_2x_B.txt": b"",
    }
    result = check(written(tmp_path / "pollen", files), SETTINGS)
    assert result.splits == {Split.TRAIN: 1, Split.VAL: 1, Split.TEST: 0}
    chosen, leak, judged = result.findings
    assert "has no labelled grain in val" in chosen.message
    assert "has no test split" in judged.message
    assert not result.is_complete
    assert leak.file == "pollen/val/images/1-1-A_2x_B.png"
    order = {"data.yaml": b"names: [non_viable, viable]"}
    result = check(written(tmp_path / "pollen", order), SETTINGS)
    assert not result.is_usable
    assert "numbers its classes" in result.findings[0].message


def test_a_faulty_label_leaves_one_picture_of_a_dataset_out(tmp_path: Path) -> None:
    files = {
        "train/images/a.png": picture(1),
        "train/labels/a.txt": VIABLE.encode(),
        "val/images/b.png": picture(2),
        "val/labels/b.txt": b"0 1\n",
    }
    result = check(written(tmp_path / "pollen", files), SETTINGS)
    assert result.is_usable
    assert has_error(result.findings)
    assert (result.pictures, result.left_out) == (1, 1)
    none = {"train/labels/a.txt": b"0 1\n"}
    assert not check(written(tmp_path / "pollen", none), SETTINGS).is_usable


def test_a_dataset_whose_class_names_cannot_be_read_is_not_guessed_at(tmp_path: Path) -> None:
    files = {
        "train/images/a.png": picture(1),
        "train/labels/a.txt": VIABLE.encode(),
        "data.yaml": b"names: [non_viable, viable",
    }
    result = check(written(tmp_path / "pollen", files), SETTINGS)
    assert not result.is_usable
    assert "not readable as YAML" in result.findings[0].message


def test_an_unpacked_export_is_no_dataset(tmp_path: Path) -> None:
    files = roboflow({"a.png": picture(1)})
    files |= {"valid/images/b.png": picture(2), "valid/labels/b.txt": b""}
    result = check(written(tmp_path / "export", files), SETTINGS)
    assert result.pictures == 2


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(TreeError, match="check the path"):
        check(tmp_path / "none", SETTINGS)
    result = check(tmp_path, SETTINGS)
    assert not result.is_usable


def test_real_pictures(real_pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "val").symlink_to(real_pictures / "val")
    (tmp_path / "data.yaml").symlink_to(real_pictures / "data.yaml")
    result = check(tmp_path, SETTINGS)
    assert ["train" in found.message for found in result.findings] == [True, False]
    assert result.splits == {Split.TRAIN: 0, Split.VAL: 71, Split.TEST: 0}
    assert result.grains == GrainCounts(viable=375, non_viable=121)


def test_findings_are_sorted_by_weight_and_place() -> None:
    findings = [
        DatasetFinding.note("b", "n"),
        DatasetFinding.error("b", "e"),
        DatasetFinding.error("a", "late", 10),
        DatasetFinding.error("a", "early", 9),
        DatasetFinding.warning("a", "w"),
        DatasetFinding.warning("a", "w"),
    ]
    assert [str(found) for found in in_order(findings)] == [
        "error: a, line 9: early",
        "error: a, line 10: late",
        "error: b: e",
        "warning: a: w",
        "note: b: n",
    ]
    assert has_error(findings)
    assert not has_error([found for found in findings if found.severity is not Severity.ERROR])
