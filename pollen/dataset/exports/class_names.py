"""Class names of an export: files that anybody may have written, read without trust.

YAML is read as plain text in lists and mappings. Whatever else it can say (tags that make objects,
anchors by which a few hundred bytes become gigabytes) is refused.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Final

import yaml

from pollen.dataset.exports.trees import Tree, TreeError
from pollen.dataset.findings import DatasetFinding
from pollen.dataset.labels import LABEL_NAMES, UNSURE, class_number, parse_label_class

#: A file of class names holds a few names; a larger one is something else.
_MOST_BYTES: Final = 1 << 16
_MOST_CLASSES: Final = 1000
_LONGEST_NAME: Final = 100
#: Levels of YAML: names have two, what Roboflow says of an export three.
_DEEPEST: Final = 20
#: Unknown class names that are noted one by one.
_NOTED: Final = 20

#: What parsers raise at text made to break them, beside their own errors: endless depth, numbers
#: beyond all measure, escapes of letters that do not exist.
_BROKEN: Final = (
    yaml.YAMLError,
    RecursionError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
)


def names_files(names: Iterable[str]) -> list[str]:
    """Return the files with class names, the most reliable kind first, and of one kind the least deep one first."""
    ranks = {name: rank for rank, name in enumerate(_READERS)}
    found = [
        (ranks[path.name.lower()], len(path.parts), name)
        for name in names
        if (path := PurePosixPath(name)).name.lower() in ranks
    ]
    return [name for _, _, name in sorted(found)]


def classes_of(names: Mapping[int, str]) -> dict[int, str]:
    """Return class names by number in this project's spelling; unknown ones as they are."""
    return {number: _one_spelling(name) for number, name in names.items()}


def _one_spelling(name: str) -> str:
    try:
        found = parse_label_class(name)
    except ValueError:
        return name
    return UNSURE if found is None else found.label


def read_names(tree: Tree, source: str) -> tuple[str, dict[int, str]]:
    """Return the form of the export and class names by number.

    Raises:
        TreeError: If the file does not give names.
    """
    data = tree.read(source, _MOST_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TreeError(f"expected text in UTF-8 ({error}): export again") from error
    try:
        form, names = _READERS[PurePosixPath(source).name.lower()](text)
    except _BROKEN as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        kind = "JSON" if source.lower().endswith(".json") else "YAML"
        raise TreeError(f"is not readable as {kind} ({detail}): export again") from error
    if not names or len(names) > _MOST_CLASSES:
        raise TreeError(
            f"gives {len(names)} class names, expected {', '.join(LABEL_NAMES[:2])} and perhaps "
            f"{LABEL_NAMES[2]}: export again"
        )
    longest = max(map(len, names.values()))
    if longest > _LONGEST_NAME:
        raise TreeError(
            f"has a class name of {longest} letters, more than {_LONGEST_NAME}: use shorter names"
        )
    return form, names


def about_names(names: Mapping[int, str], file: str) -> list[DatasetFinding]:
    """Return findings on the class names."""
    findings = []
    known = {}
    for number, name in sorted(names.items()):
        try:
            known[number] = parse_label_class(name)
        except ValueError as error:
            message = f"{error}; nothing is lost as long as no label uses it"
            findings.append(DatasetFinding.note(file, message))
    if len(findings) > _NOTED:
        message = f"... and {len(findings) - _NOTED} more unknown classes"
        findings[_NOTED:] = [DatasetFinding.note(file, message)]
    usual = {n: parse_label_class(name) for n, name in enumerate(LABEL_NAMES)}
    if any(usual.get(number, "none") != found for number, found in known.items()):
        given = ", ".join(f"{number} {names[number]}" for number in sorted(names)[:_NOTED])
        message = (
            f"numbers its classes in another order ({given}): the names count, not the numbers"
        )
        findings.append(DatasetFinding.note(file, message))
    return findings


def _check_plain(text: str) -> None:
    """Refuse YAML with tags, anchors or aliases, and of a depth for which the parser takes hours.

    Raises:
        TreeError: If it has some.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        tag = getattr(event, "tag", None)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if tag is not None:
            what = f"the tag {tag[:40]}"
        elif getattr(event, "anchor", None) is not None:
            what = "an anchor or alias"
        elif depth > _DEEPEST:
            what = f"lists in lists, more than {_DEEPEST} deep"
        else:
            continue
        line = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
        raise TreeError(
            f"has {what}{line}, which a list of class names does not need: write the names out, or export again"
        )


def _from_yaml(text: str) -> tuple[str, dict[int, str]]:
    _check_plain(text)
    root = yaml.compose(text, Loader=yaml.BaseLoader)  # every scalar is text
    top = _entries(root, "the top level") if isinstance(root, yaml.MappingNode) else {}
    names = top.get("names")
    if isinstance(names, yaml.SequenceNode):
        found = {number: _text(node) for number, node in enumerate(names.value)}
    elif isinstance(names, yaml.MappingNode):
        found = {_number(key): _text(node) for key, node in _entries(names, "names").items()}
        if len(found) < len(names.value):  # 0 and 00
            raise TreeError("gives two names to one class number: delete one of the two")
    else:
        raise TreeError(_expected("nothing" if names is None else "plain text"))
    return "Roboflow" if "roboflow" in top else "Ultralytics YOLO", found


def _entries(node: yaml.MappingNode, where: str) -> dict[str, yaml.Node]:
    """Return a mapping's values by its keys, each of which has to be text and unique."""
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise TreeError(_expected("a structure where a number was expected"))
        if key.value in found:
            raise TreeError(f"has '{key.value[:40]}' twice in {where}: delete one of the two")
        found[key.value] = value
    return found


def _text(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise TreeError(_expected("a structure where a name was expected"))
    return str(node.value)


def _number(text: str) -> int:
    number = class_number(text)
    if number is None:
        raise TreeError(_expected(f"'{text[:40]}' where a number was expected"))
    return number


def _expected(got: str) -> str:
    return f"expected 'names:' with a list of class names or with numbers and names, got {got}: export again"


def _from_json(text: str) -> tuple[str, dict[int, str]]:
    content = json.loads(text)
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, list):
        raise TreeError("expected 'categories' with id and name, found none: export again")
    found: dict[int, str] = {}
    for one in categories:
        number, name = (one.get("id"), one.get("name")) if isinstance(one, dict) else (None, None)
        if type(number) is not int or number < 0 or not isinstance(name, str):
            raise TreeError(
                "expected 'categories' with id (a number) and name (text), got "
                f"{type(number).__name__} and {type(name).__name__}: export again"
            )
        if found.setdefault(number, name) != name:
            raise TreeError("gives two names to one class number: delete one of the two")
    return "Label Studio YOLO", found


def _from_lines(form: str) -> Callable[[str], tuple[str, dict[int, str]]]:
    def read(text: str) -> tuple[str, dict[int, str]]:
        lines = enumerate(text.rstrip().splitlines())
        return form, {number: line.strip() for number, line in lines if line.strip()}

    return read


#: Files that give class names, the most reliable first.
_READERS: Final[dict[str, Callable[[str], tuple[str, dict[int, str]]]]] = {
    "data.yaml": _from_yaml,
    "data.yml": _from_yaml,
    "obj.names": _from_lines("CVAT YOLO 1.1"),
    "classes.txt": _from_lines("Label Studio YOLO"),
    "notes.json": _from_json,
}

#: Their names, in lower case.
NAMES_FILES: Final = frozenset(_READERS)
