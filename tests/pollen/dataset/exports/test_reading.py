"""Exports of each labelling tool, and what is wrong with some."""

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pollen.dataset.exports.open_tree import open_tree
from pollen.dataset.exports.reading import MOST_KEPT, Export, read_export, read_label, read_picture
from pollen.dataset.exports.trees import TreeError
from pollen.dataset.findings import DatasetFinding, Severity
from pollen.dataset.labels import MOST_TOLD
from pollen.dataset.manifest import GrainCounts, Split
from pollen.dataset.settings import DatasetSettings
from tests.pollen.dataset.making import (
    NON_VIABLE,
    SETTINGS,
    VIABLE,
    MemoryTree,
    encoded,
    picture,
    pixels,
    read,
    roboflow,
    zipped,
)

BOTH = VIABLE + NON_VIABLE
SWAPPED = "names: ['non_viable', 'viable']\n"


def only(export: Export) -> DatasetFinding:
    (finding,) = export.findings
    return finding


def label_of(export: Export, **settings: object) -> str:
    """The label of the only picture, as it would be written."""
    (image,) = export.images
    wanted = DatasetSettings.model_validate(settings)
    return read_label(export, image.label_entry, image.label_sha256, wanted)


def errors(export: Export) -> dict[str, str]:
    """Where and what, of the errors."""
    return {
        found.where: found.message for found in export.findings if found.severity is Severity.ERROR
    }


def forms() -> dict[str, dict[str, bytes]]:
    """The same picture with the same grains, as each tool exports it; classes in the other order."""
    text = BOTH.replace("0 0.2", "x 0.2").replace("1 0.6", "0 0.6").replace("x", "1").encode()
    data = picture(1)
    return {
        "Roboflow": {
            "data.yaml": SWAPPED.encode() + b"nc: 2\nroboflow:\n  workspace: w\n",
            "README.dataset.txt": b"x",
            "valid/images/p_png.rf.0a1b2c.png": data,
            "valid/labels/p_png.rf.0a1b2c.txt": text,
        },
        "Ultralytics YOLO": {
            "data.yaml": b"names:\n  0: non_viable\n  1: viable\npath: .\ntrain: train.txt\n",
            "train.txt": b"data/images/train/p.png\n",
            "images/train/p.png": data,
            "labels/train/p.txt": text,
        },
        "CVAT YOLO 1.1": {
            "obj.data": b"classes = 2\nnames = data/obj.names\n",
            "obj.names": b"non_viable\nviable\n",
            "train.txt": b"data/obj_train_data/p.png\n",
            "obj_train_data/p.png": data,
            "obj_train_data/p.txt": text,
        },
        "Label Studio YOLO": {
            "classes.txt": b"non_viable\nviable\n",
            "notes.json": b'{"categories": [{"id": 0, "name": "Non-viable"}, {"id": 1, "name": "viable"}]}',
            "images/a1b2c3d4-p.png": data,
            "labels/a1b2c3d4-p.txt": text,
        },
    }


@pytest.mark.parametrize("form", list(forms()))
@pytest.mark.parametrize("above", ["", "my export/v2/"])
def test_every_form_reads_the_same(form: str, above: str) -> None:
    export = read({above + name: data for name, data in forms()[form].items()})
    assert export.form == form
    assert export.is_usable
    (image,) = export.images
    assert image.grains == GrainCounts(viable=1, non_viable=1)
    assert sorted(label_of(export).splitlines()) == [
        "0 0.200000 0.200000 0.400000 0.200000 0.400000 0.400000",
        "1 0.600000 0.600000 0.800000 0.600000 0.800000 0.800000",
    ]
    assert (image.facts.width_px, image.facts.height_px) == (64, 64)
    note = only(export)
    assert note.severity is Severity.NOTE
    assert "0 non_viable, 1 viable): the names count, not the numbers" in note.message


def test_folders_and_zips_read_the_same(tmp_path: Path) -> None:
    files = roboflow({"a.png": picture(1), "b.jpg": picture(2, ".jpg")})
    for name, data in files.items():
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "export.zip").write_bytes(zipped(files))
    taken = []
    for path in (tmp_path / "export", tmp_path / "export.zip"):
        with open_tree(path, SETTINGS.limits) as tree:
            export = read_export(tree, SETTINGS)
            data = read_picture(tree, "train/images/a.png", export.images[0].facts.sha256, SETTINGS)
            assert data == picture(1)
            with pytest.raises(TreeError, match="changed while it was merged"):
                read_picture(tree, "train/images/a.png", "0" * 64, SETTINGS)
        taken.append(export.images)
    assert taken[0] == taken[1]
    assert [image.split for image in taken[0]] == [Split.TRAIN, Split.TRAIN]


def test_limits_hold_for_folders_too(tmp_path: Path) -> None:
    for name, data in roboflow({"a.png": picture(1)}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    settings = DatasetSettings.model_validate({"limits": {"picture_megabytes": 0.001}})
    with open_tree(tmp_path, settings.limits, "mine") as tree:
        export = read_export(tree, settings)
    assert list(errors(export)) == ["mine/train/images/a.png"]
    assert "larger than 0.001 MB" in errors(export)["mine/train/images/a.png"]


def test_a_folder_that_links_to_itself_is_read_once(tmp_path: Path) -> None:
    for name, data in roboflow({"a.png": picture(1)}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "again").symlink_to(tmp_path)
    with open_tree(tmp_path, SETTINGS.limits) as tree:
        assert len(read_export(tree, SETTINGS).images) == 1


def put(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def test_files_of_a_folder_that_cannot_be_read_are_findings(tmp_path: Path) -> None:
    names = [f"{letter}.png" for letter in "abcd"]
    put(tmp_path, roboflow({name: picture(1) for name in names}))
    images, labels = tmp_path / "train/images", tmp_path / "train/labels"
    for path, target in ((images / "a.png", "gone.png"), (labels / "b.txt", "b.txt")):
        path.unlink()
        path.symlink_to(target)
    (images / "c.png").unlink()
    os.mkfifo(images / "c.png")
    with open_tree(tmp_path, SETTINGS.limits, "mine") as tree:
        export = read_export(tree, SETTINGS)
    assert {where: message[:20] for where, message in errors(export).items()} == {
        "mine/train/images/a.png": "can't be read (No su",
        "mine/train/labels/b.txt": "can't be read (Too m",
        "mine/train/images/c.png": "is a device or pipe,",
    }
    assert [image.entry for image in export.images] == ["train/images/d.png"]


def test_a_file_that_vanishes_is_a_finding(tmp_path: Path) -> None:
    put(tmp_path, roboflow({"a.png": picture(1), "b.png": picture(2)}))
    with open_tree(tmp_path, SETTINGS.limits, "mine") as tree:
        (tmp_path / "train/images/a.png").unlink()
        export = read_export(tree, SETTINGS)
    assert list(errors(export)) == ["mine/train/images/a.png"]
    assert len(export.images) == 1


def test_file_names_that_are_no_text_are_told(tmp_path: Path) -> None:
    put(tmp_path, roboflow({"a.png": picture(1)}))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/train/images/\xe9.png")).write_bytes(picture(2))
    with open_tree(tmp_path, SETTINGS.limits, "mine") as tree:
        assert "not UTF-8 text" in errors(read_export(tree, SETTINGS))["mine"]
        assert not any("xe9" in name for name in tree.names)


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, roboflow({"a.png": picture(1)}))
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # beyond the longest path there may be
        Path("d" * 250).mkdir()
        monkeypatch.chdir("d" * 250)
    with open_tree(tmp_path, SETTINGS.limits, "mine") as tree:
        export = read_export(tree, SETTINGS)
    assert "a folder can't be listed" in errors(export)["mine"]


def test_a_failing_disk_says_nothing_about_the_export() -> None:
    class Failing(MemoryTree):
        def read(self, name: str, limit_bytes: int) -> bytes:
            if name.endswith(".png"):
                raise OSError(errno.EIO, "Input/output error")
            return super().read(name, limit_bytes)

    tree = Failing("a.zip", roboflow({"a.png": picture(1)}))
    with pytest.raises(TreeError, match=r"a\.zip can't be read to its end .*Input/output error"):
        read_export(tree, SETTINGS)
    with pytest.raises(TreeError, match="check the disk"):
        read_picture(tree, "train/images/a.png", "0" * 64, SETTINGS)


def test_findings_of_an_export_are_bounded() -> None:
    names = [f"{number}.png" for number in range(MOST_KEPT // MOST_TOLD + 10)]
    labels = dict.fromkeys(names, "37\n" * (MOST_TOLD + 5))
    export = read(roboflow({name: picture(1) for name in names}, labels))
    assert len(export.findings) == MOST_KEPT + 1
    (last,) = [found for found in export.findings if found.file == "a.zip"]
    assert last.severity is Severity.ERROR
    assert f"{len(names) * (MOST_TOLD + 1) - MOST_KEPT} more findings" in last.message
    assert len(export.rejected) == len(names)


def test_label_studio_names_that_differ_in_the_prefix_are_paired() -> None:
    files = {
        "notes.json": json.dumps({"categories": [{"id": 0, "name": "Viable"}]}).encode(),
        "images/a1b2c3d4-p.png": picture(1),
        "images/20240101-q.png": picture(2),
        "labels/p.txt": VIABLE.encode(),
        "labels/q.txt": VIABLE.encode(),
    }
    export = read(files)
    assert [image.entry for image in export.images] == ["images/a1b2c3d4-p.png"]
    # A date is no prefix: q.txt may be another picture's.
    assert [one.entry for one in export.rejected] == ["images/20240101-q.png"]


def test_a_label_with_another_upload_prefix_may_be_another_pictures() -> None:
    files = {
        "classes.txt": b"viable\nnon_viable\n",
        "images/bbbbbbbb-field1.png": picture(1),
        "labels/aaaaaaaa-field1.txt": VIABLE.encode(),
    }
    export = read(files)
    assert export.images == ()
    message = errors(export)["a.zip/images/bbbbbbbb-field1.png"]
    assert "labels/aaaaaaaa-field1.txt was uploaded at another time" in message
    both = read(files | {"images/cccccccc-field1.png": picture(2)})
    assert len(errors(both)) == 2


def test_an_empty_label_means_no_grain_and_a_missing_one_is_asked_about() -> None:
    files = roboflow({"a.png": picture(1), "b.png": picture(2)}, {"a.png": ""})
    export = read(files)
    assert export.is_usable
    assert [image.entry for image in export.images] == ["train/images/a.png"]
    assert export.images[0].grains.total == 0
    (rejected,) = export.rejected
    assert rejected.entry == "train/images/b.png"
    finding = only(export)
    assert finding.severity is Severity.WARNING
    assert "empty label file" in finding.message
    export = read(files, missing_labels="empty")
    assert len(export.images) == 2
    assert only(export).severity is Severity.NOTE


def test_unsure_grains_reject_the_picture_or_stay() -> None:
    names = "names: [unsure, viable, non_viable]"
    text = "1 0.2 0.2 0.4 0.2 0.4 0.4\n0 0.6 0.6 0.8 0.6 0.8 0.8\n"
    files = roboflow({"a.png": picture(1)}, {"a.png": text}, names)
    export = read(files)
    assert export.is_usable
    assert export.images == ()
    assert export.rejected[0].reason == "1 of its grains are labelled 'unsure'"
    warning = export.findings[0]
    assert (warning.severity, warning.line) == (Severity.WARNING, 2)
    export = read(files, unsure="cover")
    assert export.images[0].grains == GrainCounts(viable=1, unsure=1)
    assert label_of(export, unsure="cover").splitlines()[1].startswith("2 ")


def test_faulty_label_lines_refuse_the_export_and_are_all_named() -> None:
    files = roboflow(
        {"a.png": picture(1), "b.png": picture(2)},
        {"a.png": VIABLE + "7 0.1 0.1 0.2 0.1 0.2 0.2\n", "b.png": "0 0.5 0.5 nan 0.1\n0 1\n"},
    )
    export = read(files)
    assert set(errors(export)) == {
        "a.zip/train/labels/a.txt, line 2",
        "a.zip/train/labels/b.txt, line 1",
        "a.zip/train/labels/b.txt, line 2",
    }
    assert {one.entry for one in export.rejected} == {"train/images/a.png", "train/images/b.png"}


def test_a_class_that_no_label_uses_is_only_noted() -> None:
    names = "names: [viable, non_viable, debris]"
    export = read(roboflow({"a.png": picture(1)}, names=names))
    assert export.is_usable
    assert "unknown class 'debris'" in only(export).message
    files = roboflow({"a.png": picture(1)}, {"a.png": "2 0.5 0.5 0.1 0.1"}, names)
    assert "unknown class 'debris'" in errors(read(files))["a.zip/train/labels/a.txt, line 1"]


def test_labels_without_pictures_and_pictures_that_share_a_label() -> None:
    files = roboflow({"a.png": picture(1), "a.jpg": picture(2, ".jpg")}, {"a.png": VIABLE})
    export = read(files | {"train/labels/gone.txt": b""})
    assert {where.rpartition("/")[2] for where in errors(export)} == {"a.png", "a.jpg"}
    assert export.images == ()
    (warning,) = [one for one in export.findings if one.severity is Severity.WARNING]
    assert warning.file == "a.zip/train/labels/gone.txt"


@pytest.mark.parametrize(
    ("data", "name", "message"),
    [
        (b"no picture", "a.png", "text"),
        (picture(1)[:-200], "a.png", "ends early|damaged"),
        (picture(1, ".jpg"), "a.png", "rename it to end in .jpg"),
        (b"BM" + bytes(100), "a.bmp", "save the picture as PNG, JPEG or TIFF"),
        (b"ZISRAWFILE" + bytes(100), "a.czi", "save the picture as PNG, JPEG or TIFF"),
        (encoded(np.zeros((1200, 1200, 3), np.uint8)), "a.png", "limit is 1 megapixels"),
        (b"", "a.jpg", "empty"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(data: bytes, name: str, message: str) -> None:
    export = read(roboflow({name: data, "good.png": picture(1)}), limits={"picture_megapixels": 1})
    (found,) = errors(export).items()
    assert found[0] == f"a.zip/train/images/{name}"
    assert any(words in found[1] for words in message.split("|")), found[1]
    assert [image.entry for image in export.images] == ["train/images/good.png"]


def test_a_file_of_several_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    tifffile.imwrite(path, np.stack([pixels(1), pixels(2)]), photometric="rgb")
    export = read(roboflow({"a.tif": path.read_bytes()}))
    assert "holds 2 pictures" in errors(export)["a.zip/train/images/a.tif"]
    tifffile.imwrite(path, pixels(1), photometric="rgb")
    assert read(roboflow({"a.tif": path.read_bytes()})).is_usable


def test_an_export_without_names_or_without_pictures() -> None:
    files = roboflow({"a.png": picture(1)})
    assert (
        "has no class names"
        in errors(read({name: data for name, data in files.items() if name != "data.yaml"}))[
            "a.zip"
        ]
    )
    assert (
        "holds no pictures"
        in errors(read({name: data for name, data in files.items() if not name.endswith(".png")}))[
            "a.zip"
        ]
    )
    assert not read({}).is_usable


def test_two_exports_in_one_zip_with_different_names() -> None:
    one = {f"one/{name}": data for name, data in roboflow({"a.png": picture(1)}).items()}
    other = roboflow({"b.png": picture(2)}, names=SWAPPED)
    assert (
        "stage each as a zip of its own"
        in errors(read(one | {f"two/{name}": data for name, data in other.items()}))[
            "a.zip/one/data.yaml"
        ]
    )
    same = roboflow({"b.png": picture(2)})
    both = read(one | {f"two/{name}": data for name, data in same.items()})
    assert both.is_usable
    assert len(both.images) == 2


SWAPPED_NAMES = {
    "cvat/obj.names": b"non_viable\nviable\n",
    "label studio/classes.txt": b"non_viable\nviable\n",
    "label studio/notes.json": json.dumps(
        {"categories": [{"id": 0, "name": "non_viable"}, {"id": 1, "name": "viable"}]}
    ).encode(),
}


@pytest.mark.parametrize("other", SWAPPED_NAMES)
def test_exports_of_two_tools_in_one_zip_with_different_names(other: str) -> None:
    one = {f"one/{name}": data for name, data in roboflow({"a.png": picture(1)}).items()}
    (place,) = {other.partition("/")[0]}
    files = one | {f"{place}/b.png": picture(2), f"{place}/b.txt": VIABLE.encode()}
    export = read(files | {other: SWAPPED_NAMES[other]})
    assert set(errors(export)) == {"a.zip/one/data.yaml"}
    message = errors(export)["a.zip/one/data.yaml"]
    assert message.endswith(f"a.zip/{other}: class 0 is 'viable' here, 'non_viable' there")
    assert export.names == {}
    same = files | {other: b"Viable\nNon-viable\ndebris\n"}
    if not other.endswith(".json"):
        assert read(same).is_usable
        assert len(read(same).images) == 2


def test_names_that_differ_only_where_no_label_is_are_no_matter() -> None:
    files = roboflow({"a.png": picture(1)}, names="names: [viable, non_viable, unsure]")
    assert read(files | {"classes.txt": b"viable\ndebris\ndust\n"}).is_usable
    assert not read(files | {"classes.txt": b"debris\nnon_viable\n"}).is_usable


def test_a_second_file_of_names_that_cannot_be_read_is_an_error_elsewhere() -> None:
    files = roboflow({"a.png": picture(1)})
    beside = read(files | {"notes.json": b"remember to label"})
    assert beside.is_usable
    assert "names are taken from data.yaml" in only(beside).message
    assert set(errors(read(files | {"other/notes.json": b"{}"}))) == {"a.zip/other/notes.json"}


def test_labels_in_another_encoding() -> None:
    files = roboflow({"a.png": picture(1)})
    export = read(files | {"train/labels/a.txt": b"\xff\xfe0\x00"})
    assert "UTF-8" in errors(export)["a.zip/train/labels/a.txt"]
    with_mark = read(files | {"train/labels/a.txt": b"\xef\xbb\xbf" + VIABLE.encode()})
    assert with_mark.is_usable


def test_known_pictures_are_not_decoded_again() -> None:
    tree = MemoryTree("a.zip", roboflow({"a.png": picture(1)}))
    facts = read_export(tree, SETTINGS).images[0].facts
    undecodable = b"no picture"
    files = MemoryTree("a.zip", roboflow({"a.png": undecodable}))
    assert not read_export(files, SETTINGS).is_usable
    known = {sha256(undecodable).hexdigest(): facts}
    assert read_export(files, SETTINGS, known=known).images[0].facts is facts


def test_a_label_that_changed_meanwhile_is_not_taken() -> None:
    files = dict(roboflow({"a.png": picture(1)}))
    export = read(files)
    (image,) = export.images
    changed = replace(
        export, tree=MemoryTree("a.zip", files | {image.label_entry: b"1 0.5 0.5 0.1 0.1"})
    )
    with pytest.raises(TreeError, match="changed while it was merged"):
        read_label(changed, image.label_entry, image.label_sha256, DatasetSettings())


def test_labels_of_a_zip_that_are_too_much_together_refuse_it_and_are_no_longer_read() -> None:
    many = {f"{number}.png": picture(number) for number in range(5)}
    text = VIABLE * 40
    files = roboflow(many, dict.fromkeys(many, text))
    most = 1.5 * len(text) / 1e6

    export = read(files, limits={"labels_megabytes": most})

    assert not export.is_usable
    assert len(export.rejected) == 3
    told = [found.message for found in export.findings if found.severity is Severity.ERROR]
    assert len(told) == 3
    assert all("label files together are larger than" in message for message in told)
    folder = replace_sha256(MemoryTree("a", files))
    limited = DatasetSettings.model_validate({"limits": {"labels_megabytes": most}})
    assert read_export(folder, limited).is_usable  # a dataset may be of any size


def replace_sha256(tree: MemoryTree) -> MemoryTree:
    """The same files as a folder, which has no hash."""
    tree.__dict__["sha256"] = ""
    return tree
