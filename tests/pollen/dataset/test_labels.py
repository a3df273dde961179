"""Reading and writing YOLO labels."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen.classes import GrainClass
from pollen.dataset.findings import DatasetFinding, Severity
from pollen.dataset.labels import (
    LABEL_NAMES,
    MOST_TOLD,
    LabelledGrain,
    parse_label_class,
    read_labels,
    write_labels,
)

NAMES = dict(enumerate(LABEL_NAMES))
TRIANGLE = "0.1 0.1 0.5 0.1 0.5 0.5"


def only(findings: tuple[DatasetFinding, ...]) -> DatasetFinding:
    (finding,) = findings
    assert finding.file == "a.txt"
    return finding


def test_polygons_and_boxes_are_read_with_their_lines() -> None:
    labels = read_labels(
        f"1 {TRIANGLE}\r\n\n0 0.5 0.4 0.2 0.4\n2 {TRIANGLE[:-1]}6\n", NAMES, "a.txt"
    )
    assert labels.findings == ()
    assert labels.lines == (1, 3, 4)
    polygon, box, unsure = labels.grains
    assert polygon.grain_class is GrainClass.NON_VIABLE
    assert not polygon.is_box
    np.testing.assert_array_equal(polygon.points, [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5]])
    assert box.grain_class is GrainClass.VIABLE
    assert box.is_box
    np.testing.assert_allclose(box.points, [[0.4, 0.2], [0.6, 0.2], [0.6, 0.6], [0.4, 0.6]])
    assert unsure.grain_class is None
    assert unsure.number == 2


def test_classes_are_mapped_by_name_not_by_number() -> None:
    labels = read_labels(
        f"0 {TRIANGLE}\n1 0.5 0.5 0.1 0.1", {0: "Non-viable", 1: "VIABLE"}, "a.txt"
    )
    assert [grain.grain_class for grain in labels.grains] == [
        GrainClass.NON_VIABLE,
        GrainClass.VIABLE,
    ]
    assert write_labels(labels.grains).splitlines()[0].startswith("1 0.100000")


def test_empty_text_is_a_picture_without_grains() -> None:
    for text in ("", "\n", "  \r\n\t\n"):
        assert read_labels(text, NAMES, "a.txt").grains == ()
    assert write_labels(()) == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 " + TRIANGLE, "class 3 has no name, the export names 0 viable, 1 non_viable, 2 unsure"),
        ("9 " + TRIANGLE, "unknown class 'debris': expected 'viable' or 'non_viable', or 'unsure'"),
        ("viable " + TRIANGLE, "expected a class number first, got 'viable'"),
        ("-1 " + TRIANGLE, "expected a class number first"),
        ("\u0661 " + TRIANGLE, "expected a class number first"),
        ("0", "expected 4 numbers after the class .* got 0"),
        ("0 0.1 0.1 0.5", "got 3"),
        ("0 0.1 0.1 0.5 0.1 0.9", "got 5: is the last one a confidence"),
        (f"0 {TRIANGLE} 0.7", "got 7"),
        ("0 0.1 0.1 0.5 0.1 nan 0.5", "nan or infinity"),
        ("0 0.1 0.1 inf 0.1", "nan or infinity"),
        ("0 0.1 0.1 a 0.1", "something else"),
        ("0 0.1 0.1 0.5 0.1 1.02 0.5", "got one 0.02 outside the picture"),
        ("0 -64 10 20 20", "export fractions, not pixels"),
        ("0 0.1 0.1 0.5 0.5 0.3 0.3", "no area"),
        ("0 0.5 0.5 0.1 0", "the box is 0.1 wide and 0 high"),
        ("0 0.5 0.5 -0.1 0.1", "the box is -0.1 wide"),
    ],
)
def test_a_faulty_line_is_named_and_the_others_are_read(line: str, message: str) -> None:
    names = NAMES | {9: "debris"}
    labels = read_labels(f"0 0.5 0.5 0.2 0.2\n{line}\n1 {TRIANGLE}\n", names, "a.txt")
    finding = only(labels.findings)
    assert (finding.severity, finding.line) == (Severity.ERROR, 2)
    assert re.search(message, finding.message), finding.message
    assert labels.lines == (1, 3)


def test_a_small_overshoot_is_cut_with_a_note_and_rounding_without() -> None:
    labels = read_labels("0 0.1 0.1 1.004 0.1 0.5 0.5", NAMES, "a.txt")
    assert only(labels.findings).severity is Severity.NOTE
    assert labels.grains[0].points.max() == 1.0
    labels = read_labels("0 0.1 -0.000001 1.000001 0.1 0.5 0.5", NAMES, "a.txt")
    assert labels.findings == ()
    assert labels.grains[0].points.min() == 0.0


def test_the_same_grain_twice_is_taken_once() -> None:
    labels = read_labels(f"0 {TRIANGLE}\n1 0.5 0.5 0.2 0.2\n0 {TRIANGLE}", NAMES, "a.txt")
    finding = only(labels.findings)
    assert (finding.severity, finding.line) == (Severity.WARNING, 3)
    assert "line 1" in finding.message
    assert labels.lines == (1, 2)


def test_the_same_outline_in_two_classes_is_an_error() -> None:
    finding = only(read_labels(f"0 {TRIANGLE}\n1 {TRIANGLE}", NAMES, "a.txt").findings)
    assert (finding.severity, finding.line) == (Severity.ERROR, 2)
    assert "one grain has one class" in finding.message


def test_a_file_of_faulty_lines_is_left_behind_the_first_of_them() -> None:
    labels = read_labels("37\n" * 700_000, NAMES, "a.txt")
    assert len(labels.findings) == MOST_TOLD + 1
    assert {found.severity for found in labels.findings} == {Severity.ERROR}
    last = labels.findings[-1]
    assert last.line == MOST_TOLD + 1
    assert f"{700_000 - MOST_TOLD} more lines are not read" in last.message
    assert len(read_labels("37\n" * MOST_TOLD, NAMES, "a.txt").findings) == MOST_TOLD


def test_notes_are_bounded_and_hide_no_error_behind_them() -> None:
    overshoots = "".join(f"0 0.1 0.1 1.004 0.1 0.5 0.{n + 200}\n" for n in range(50))
    labels = read_labels(f"{overshoots}7\n", NAMES, "a.txt")
    notes = [found for found in labels.findings if found.severity is Severity.NOTE]
    assert len(notes) == MOST_TOLD + 1
    assert "30 more lines" in notes[-1].message
    (error,) = [found for found in labels.findings if found.severity is Severity.ERROR]
    assert error.line == 51
    assert len(labels.grains) == 50


def test_a_thousand_class_names_are_not_told_with_every_line() -> None:
    finding = only(
        read_labels("5000 0.5 0.5 0.1 0.1", dict.fromkeys(range(1000), "x"), "a.txt").findings
    )
    assert len(finding.message) < 300


def test_boxes_beside_polygons_are_written_as_polygons() -> None:
    text = f"0 0.5 0.5 0.2 0.2\n1 {TRIANGLE}\n"
    labels = read_labels(text, NAMES, "a.txt")
    written = write_labels(labels.grains)
    assert [len(line.split()) for line in written.splitlines()] == [9, 7]
    assert [len(line.split()) for line in write_labels(labels.grains[:1]).splitlines()] == [5]


def test_class_names() -> None:
    assert parse_label_class(" Unsure ") is None
    assert parse_label_class("nonviable") is GrainClass.NON_VIABLE
    with pytest.raises(ValueError, match="or 'unsure'"):
        parse_label_class("pollen")


coordinates = st.floats(0, 1).map(lambda value: round(value, 6))
classes = st.sampled_from([None, *GrainClass])


@st.composite
def grains(draw: st.DrawFn) -> LabelledGrain:
    if draw(st.booleans()):
        x0, x1 = sorted(draw(st.lists(coordinates, min_size=2, max_size=2)))
        y0, y1 = sorted(draw(st.lists(coordinates, min_size=2, max_size=2)))
        points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]
        return LabelledGrain(draw(classes), np.array(points), is_box=True)
    points = draw(st.lists(st.tuples(coordinates, coordinates).map(list), min_size=3, max_size=8))
    return LabelledGrain(draw(classes), np.array(points))


@given(st.lists(grains(), max_size=5))
def test_what_is_written_reads_back_and_is_written_the_same(labelled: list[LabelledGrain]) -> None:
    text = write_labels(labelled)
    first = read_labels(text, NAMES, "a.txt")
    for line, grain in zip(first.lines, first.grains, strict=True):
        np.testing.assert_allclose(grain.points, labelled[line - 1].points, atol=1e-9)
        assert grain.grain_class is labelled[line - 1].grain_class
    # Faulty drawings (no area, doubles) are dropped by the first reading; then nothing changes.
    kept = write_labels(first.grains)
    second = read_labels(kept, NAMES, "a.txt")
    assert second.findings == ()
    assert write_labels(second.grains) == kept


@given(st.text(max_size=200))
def test_no_text_makes_reading_fail(text: str) -> None:
    labels = read_labels(text, NAMES, "a.txt")
    for grain in labels.grains:
        assert grain.points.min() >= 0
        assert grain.points.max() <= 1
