"""Files of class names, also such as were made to break the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.dataset.exports.reading import Export
from pollen.dataset.findings import Severity
from tests.pollen.dataset.making import picture, read, roboflow


def errors(export: Export) -> dict[str, str]:
    """Where and what, of the errors."""
    return {
        found.where: found.message for found in export.findings if found.severity is Severity.ERROR
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("names: [viable", "not readable as YAML"),
        ("nc: 2", "expected 'names:'"),
        ("- viable\n- non_viable", "expected 'names:'"),
        ("names: [[viable], [non_viable]]", "expected 'names:'"),
        ("names: {[0]: viable}", "expected 'names:'"),
        ("names: {-1: viable}", "expected 'names:'"),
        ("names: {0: viable, 00: non_viable}", "two names to one class number"),
        ("names: {0: viable, 0: non_viable}", "has '0' twice in names"),
        ("names: [viable]\nnames: [non_viable]", "has 'names' twice"),
        ("names: [" + "v" * 2000 + "]", "a class name of 2000 letters"),
        ("names: {viable: 0}", "expected 'names:'"),
        ("names: {true: viable}", "expected 'names:'"),
        ("names: []", "0 class names"),
        ("names: !!python/object/apply:os.system [id]", "has the tag tag:yaml.org"),
        ("names: !!bool maybe", "has the tag"),
        ("names: !!int ''", "has the tag"),
        ("names: !!timestamp abc", "has the tag"),
        ('names: ["\\UFFFFFFFF"]', "not readable as YAML"),
        ("%YAML 1." + "9" * 5000 + "\n---\nnames: [viable]", "not readable as YAML"),
        ("names: *nothing", "an anchor or alias in line 1"),
        ("[" * 60_000, "more than 20 deep in line 1"),
        ("names: " + "{0: " * 15_000, "more than 20 deep"),
        ("- " * 30_000, "more than 20 deep"),
        ("? " * 30_000, "more than 20 deep"),
        ("names: [" + "viable, " * 2000 + "]", "2000 class names"),
        ("x: " + "y" * 300_000, "larger than 0.0655 MB"),
        ("names: [viable]\x00", "not readable as YAML"),
    ],
)
def test_unusable_class_names(names: str, message: str) -> None:
    export = read(roboflow({"a.png": picture(1)}, names=names))
    assert message in errors(export)["a.zip/data.yaml"]
    assert export.images == ()


def test_aliases_that_unpack_to_gigabytes_are_refused_at_once() -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    bomb = "\n".join(["a0: &a0 [viable]", *levels, "names: *a11"])
    assert len(bomb) < 1000
    export = read(roboflow({"a.png": picture(1)}, names=bomb))
    assert "an anchor or alias in line 1" in errors(export)["a.zip/data.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable as JSON"),
        ("[" * 30_000, "not readable as JSON"),
        ('{"categories": ' + '{"a":' * 5000, "not readable as JSON"),
        ("1" * 5000, "not readable as JSON"),
        ("[]", "expected 'categories'"),
        ('{"categories": {"id": 0}}', "expected 'categories'"),
        ('{"categories": [0]}', "got NoneType and NoneType"),
        ('{"categories": [{"id": 1e999, "name": "viable"}]}', "got float and str"),
        ('{"categories": [{"id": true, "name": "viable"}]}', "got bool and str"),
        ('{"categories": [{"id": 0, "name": ["viable"]}]}', "got int and list"),
        (
            '{"categories": [{"id": 0, "name": "viable"}, {"id": 0, "name": "non_viable"}]}',
            "two names to one class number",
        ),
    ],
)
def test_unusable_notes(text: str, message: str) -> None:
    export = read({"notes.json": text.encode(), "images/a.png": picture(1), "labels/a.txt": b""})
    assert message in errors(export)["a.zip/notes.json"]


PIECES = """names : - [ ] { } , ? 0 1 viable ' " &a *a ! !!int !!set << | > %YAML --- ... \\U # @ null
~ = "categories" "id" "name" 1e999 0x 1:2 \u00e9"""
pieces = st.sampled_from([*PIECES.split(), " ", "\n", "\t", "\u2028"])


@given(st.lists(pieces, max_size=30).map("".join), st.sampled_from(["data.yaml", "notes.json"]))
def test_no_file_of_names_stops_the_reading(text: str, file: str) -> None:
    export = read({file: f"names: {text}".encode() if "yaml" in file else text.encode()})
    assert not export.is_usable  # it holds no pictures


def test_many_files_of_names_are_not_all_read() -> None:
    files = {f"{n}/data.yaml": f"names: [x{n}]".encode() for n in range(50)}
    export = read(files | {"0/a.png": picture(1)})
    assert "holds 50 files of class names" in errors(export)["a.zip"]
    assert len(export.findings) < 10


def test_many_unknown_classes_are_not_all_noted() -> None:
    names = f"names: [{', '.join(f'x{number}' for number in range(900))}]"
    export = read(roboflow({"a.png": picture(1)}, {"a.png": ""}, names))
    assert export.is_usable
    assert len(export.findings) == 21
    assert any("880 more unknown classes" in found.message for found in export.findings)
