"""The layout of an export: its class names, and the label of each picture.

Known forms: Roboflow (`data.yaml` with a list of names, train/valid/test), CVAT "Ultralytics YOLO"
(`data.yaml` with numbered names), CVAT "YOLO 1.1" (`obj.names`, labels beside the pictures) and
Label Studio YOLO (`classes.txt` or `notes.json`). A curated dataset has the form of the first.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from pollen.dataset.exports.class_names import (
    NAMES_FILES,
    about_names,
    classes_of,
    names_files,
    read_names,
)
from pollen.dataset.exports.trees import Tree, TreeError
from pollen.dataset.families import without_upload_prefix
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.manifest import Split
from pollen.frames import is_picture

#: Files of class names that are read: an export has one or two, a zip of several exports a few.
_MOST_NAMES_FILES: Final = 40
#: Pictures that can't be read; named here so that they are reported, not passed over.
_OTHER_PICTURES: Final = frozenset(
    {".bmp", ".webp", ".gif", ".jfif", ".heic", ".heif", ".avif", ".jp2", ".dng"}
)
_SPLIT_NAMES: Final = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VAL,
    "valid": Split.VAL,
    "validation": Split.VAL,
    "test": Split.TEST,
}
_BESIDE: Final = re.compile(r"obj_(\w+)_data", re.IGNORECASE)


@dataclass(frozen=True)
class PictureEntry:
    """A picture of an export and its label.

    Attributes:
        image: Name of the picture in the export.
        label: Name of the label file; None if there is none.
        split: The split its folder names, if any.
        fault: Why the pair can't be used; a finding says so too.
    """

    image: str
    label: str | None
    split: Split | None
    fault: str = ""


@dataclass(frozen=True)
class Layout:
    """The layout of an export.

    Attributes:
        form: The labelling tool's form, in words.
        names: Class names by number; empty if the export names none.
        pairs: Pictures with their labels, by name.
        findings: What does not fit together.
        disputed: Errors by class, in this project's spelling, that hold where a label uses the class:
            its number stands for another one in another file of class names.
    """

    form: str
    names: Mapping[int, str]
    pairs: tuple[PictureEntry, ...]
    findings: tuple[DatasetFinding, ...]
    disputed: Mapping[str, tuple[DatasetFinding, ...]] = field(default_factory=dict)


def find_layout(tree: Tree, default_names: Mapping[int, str] | None = None) -> Layout:
    """Find class names and pairs.

    Args:
        tree: The export.
        default_names: Class names where the export has no file that gives them.
    """
    findings: list[DatasetFinding] = []
    sources = names_files(tree.names)
    if not sources and default_names is None:
        findings.append(DatasetFinding.error(tree.name, _NO_NAMES))
    if len(sources) > _MOST_NAMES_FILES:
        message = (
            f"holds {len(sources)} files of class names: stage each export as a zip of its own"
        )
        findings.append(DatasetFinding.error(tree.name, message))
        sources = sources[:1]
    read = _read_all(tree, sources, findings)
    form, names = "unknown", {} if sources else dict(default_names or {})
    if sources and sources[0] in read:  # never others in place of one that can't be read
        form, names = read[sources[0]]
    root = PurePosixPath(sources[0]).parent.as_posix() if sources else "."
    pairs, faults = _pair(tree, "" if root == "." else f"{root}/")
    return Layout(form, names, pairs, (*findings, *faults), _disputed(tree.name, read))


def _read_all(
    tree: Tree, sources: Sequence[str], findings: list[DatasetFinding]
) -> dict[str, tuple[str, dict[int, str]]]:
    """Return the form and the class names of each file, and findings on them."""
    read: dict[str, tuple[str, dict[int, str]]] = {}
    for source in sources:
        file = f"{tree.name}/{source}"
        try:
            form, names = read_names(tree, source)
        except TreeError as error:
            findings.append(_unread(file, str(error), source, sources[0]))
            continue
        if classes_of(names) not in [classes_of(others) for _, others in read.values()]:
            findings += about_names(names, file)
        read[source] = form, names
    return read


def _unread(file: str, fault: str, source: str, first: str) -> DatasetFinding:
    """Return the finding for a file of class names that can't be read: an error, unless one of another kind exists."""
    one, other = PurePosixPath(source), PurePosixPath(first)
    if one.parent == other.parent and one.name.lower() != other.name.lower():
        return DatasetFinding.note(file, f"{fault}. The class names are taken from {other.name}")
    return DatasetFinding.error(file, fault)


def _disputed(
    tree_name: str, read: Mapping[str, tuple[str, dict[int, str]]]
) -> dict[str, tuple[DatasetFinding, ...]]:
    """Return the classes whose number stands for another class in another file, as the first file names them.

    Only where labels use such a number can they be misread.
    """
    (first, (_, names)), *others = read.items() if read else [("", ("", {}))]
    classes = classes_of(names)
    disputed: dict[str, tuple[DatasetFinding, ...]] = {}
    for other, (_, other_names) in others:
        for number, found in classes_of(other_names).items():
            if classes.get(number, found) == found:
                continue
            message = (
                f"{_TWO_EXPORTS} {tree_name}/{other}: class {number} is '{names[number]}' here, "
                f"'{other_names[number]}' there"
            )
            finding = DatasetFinding.error(f"{tree_name}/{first}", message)
            disputed[classes[number]] = (*disputed.get(classes[number], ()), finding)
    return disputed


_NO_NAMES: Final = (
    "has no class names: expected data.yaml (Roboflow, Ultralytics), obj.names (CVAT YOLO 1.1), or "
    "classes.txt or notes.json (Label Studio). Zip the whole export, not only its pictures"
)


_TWO_EXPORTS: Final = (
    "two exports with different class names can't be told apart: stage each as a zip of its own. The "
    "other names are in"
)


def _pair(tree: Tree, root: str) -> tuple[tuple[PictureEntry, ...], list[DatasetFinding]]:
    """Return the pictures with their labels, and findings on those without a partner."""
    images = [name for name in tree.names if _is_picture(name)]
    present = set(tree.names)
    labels = {image: _label_of(image, present) for image in images}
    by_prefix = _by_upload_prefix(
        [image for image, label in labels.items() if label is None],
        present - set(filter(None, labels.values())),
    )
    labels |= by_prefix
    used = Counter(filter(None, labels.values()))
    faulty = {
        image: f"shares its label {label} with another picture: give every picture a name of its own "
        "(not only another suffix)"
        for image, label in labels.items()
        if label and used[label] > 1
    } | {
        image: f"has no label of its name, and {label} was uploaded at another time, perhaps with another "
        "picture of that name: if the two belong together, give them one name, else delete the label"
        for image, label in by_prefix.items()
        if label and _has_upload_prefix(image) and _has_upload_prefix(label)
    }
    findings = [
        DatasetFinding.error(f"{tree.name}/{image}", fault) for image, fault in faulty.items()
    ]
    findings += [
        DatasetFinding.warning(
            f"{tree.name}/{name}",
            "a label without a picture: it is ignored. Export again with pictures, or delete it",
        )
        for name in sorted(present - set(used))
        if _is_label(name)
    ]
    if not images:
        findings.append(DatasetFinding.error(tree.name, _NO_PICTURES))
    pairs = [
        PictureEntry(image, label, _split_of(image, root), faulty.get(image, ""))
        for image, label in labels.items()
    ]
    return tuple(pairs), findings


_NO_PICTURES: Final = (
    "holds no pictures: expected .jpg, .png or .tif beside the labels. Export with pictures (CVAT: "
    "'Save images'; Label Studio: 'YOLO with images')"
)


def _is_picture(name: str) -> bool:
    return is_picture(name) or PurePosixPath(name).suffix.lower() in _OTHER_PICTURES


def _is_label(name: str) -> bool:
    """Return whether a file is in a place for labels."""
    *folders, file = PurePosixPath(name).parts
    in_place = "labels" in folders or any(_BESIDE.fullmatch(folder) for folder in folders)
    return in_place and file.endswith(".txt") and file not in NAMES_FILES


def _label_of(image: str, present: set[str]) -> str | None:
    """Return the label of a picture: in `labels/` if the picture is in `images/`, otherwise beside it."""
    path = PurePosixPath(image).with_suffix(".txt")
    candidates = [path.as_posix()]
    mirrored = _mirrored(path)
    if mirrored:
        candidates.insert(0, mirrored)
    return next((name for name in candidates if name in present), None)


def _mirrored(path: PurePosixPath) -> str | None:
    """Return the path with its last folder `images` called `labels`."""
    parts = list(path.parts)
    places = [at for at, part in enumerate(parts[:-1]) if part == "images"]
    if not places:
        return None
    parts[places[-1]] = "labels"
    return "/".join(parts)


def _by_upload_prefix(images: list[str], spare: set[str]) -> dict[str, str | None]:
    """Pair what differs only in the 8 digits that Label Studio puts before a name, if the result is unique."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in spare:
        path = PurePosixPath(name)
        if path.suffix == ".txt":
            by_name[(path.parent / without_upload_prefix(path.name)).as_posix()].append(name)
    found = {}
    for image in images:
        path = PurePosixPath(image).with_suffix(".txt")
        plain = path.with_name(without_upload_prefix(path.name))
        matches = by_name.get(_mirrored(plain) or plain.as_posix(), [])
        found[image] = matches[0] if len(matches) == 1 else None
    return found


def _has_upload_prefix(name: str) -> bool:
    file = PurePosixPath(name).name
    return without_upload_prefix(file) != file


def _split_of(image: str, root: str) -> Split | None:
    """Return the split that a folder of the picture names, the outermost one below the export's root."""
    for folder in PurePosixPath(image.removeprefix(root)).parts[:-1]:
        beside = _BESIDE.fullmatch(folder)
        name = (beside[1] if beside else folder).lower()
        if name in _SPLIT_NAMES:
            return _SPLIT_NAMES[name]
    return None
