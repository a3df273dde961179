"""YOLO labels: lines of text to grains and back, classes by name, every fault with its line.

A line is a polygon (`class x1 y1 x2 y2 x3 y3 ...`) or a box (`class cx cy w h`); coordinates are
fractions of the picture's width and height.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass, parse_class
from pollen.dataset.findings import DatasetFinding, Severity

UNSURE: Final = "unsure"

#: Class names of the labels this project writes, in the order of their numbers. Grains that the
#: person who labelled was unsure of have a number of their own, so that they are never lost.
LABEL_NAMES: Final = (*(grain_class.label for grain_class in GrainClass), UNSURE)

#: Coordinates that lie outside the picture by up to this fraction of its side are moved to its border.
OVERSHOOT: Final = 0.01
#: Less than this is rounding by the tool that wrote the label, and not worth a note.
_ROUNDING: Final = 2e-6
#: Smallest area of a grain as a fraction of the picture: a hundredth of a pixel of a 12-megapixel frame.
_LEAST_AREA: Final = 1e-9
#: Written decimals: 0.004 px of a frame 4000 px wide. A box centre lies between two such coordinates.
_DECIMALS: Final = 6
_QUOTED: Final = 60
#: Findings of one kind that are told of one file. A file with more errors is not read to its end:
#: what is wrong with it is wrong with all of its lines.
MOST_TOLD: Final = 20
_NAMES_QUOTED: Final = 10


@dataclass(frozen=True, eq=False)
class LabelledGrain:
    """A grain as a person labelled it.

    Attributes:
        grain_class: None if the person was unsure.
        points: `(N, 2)` x, y of the outline, fractions of width and height in 0..1; of a box its
            four corners.
        is_box: Whether only the box around the grain is known.
    """

    grain_class: GrainClass | None
    points: NDArray[np.float64]
    is_box: bool = False

    @property
    def number(self) -> int:
        """The class number in labels that this project writes, see `LABEL_NAMES`."""
        return LABEL_NAMES.index(UNSURE) if self.grain_class is None else int(self.grain_class)


@dataclass(frozen=True)
class Labels:
    """The content of a label file.

    Attributes:
        grains: The grains of the lines without fault, in the order of the file.
        lines: The line of each grain, counted from 1.
        findings: Faulty lines (errors), doubled lines (warnings), corrected overshoots (notes); of
            each kind the first `MOST_TOLD`, and one that says how many lines there are more.
    """

    grains: tuple[LabelledGrain, ...] = ()
    lines: tuple[int, ...] = ()
    findings: tuple[DatasetFinding, ...] = ()


def parse_label_class(name: str) -> GrainClass | None:
    """Read a class name as people and exports write it; None is the third class, `unsure`.

    Raises:
        ValueError: If the name is none of the three.
    """
    if name.strip().lower() == UNSURE:
        return None
    try:
        return parse_class(name)
    except ValueError as error:
        raise ValueError(f"{error}, or '{UNSURE}'") from error


def class_number(text: str) -> int | None:
    """Return the number that a class has in a file; None if the text is no number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def read_labels(text: str, names: Mapping[int, str], file: str) -> Labels:
    """Read a label file; faults become findings, never exceptions.

    Args:
        text: The file's text. Empty text means a picture without grains.
        names: Class names by number, as the export gives them.
        file: What findings call the file.
    """
    reading = _LabelReader(names, file)
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if fields and not reading.take(number, fields):
            reading.leave(number, len(lines))
            break
    reading.sum_up()
    return Labels(tuple(reading.grains.values()), tuple(reading.grains), tuple(reading.findings))


def write_labels(grains: Sequence[LabelledGrain]) -> str:
    """Return label text in the class order `LABEL_NAMES`; empty for no grain.

    Boxes stay boxes where all are boxes. Beside polygons they are written as four corners: a reader
    that meets one polygon (Ultralytics) takes every line of that file for a polygon.
    """
    boxes = all(grain.is_box for grain in grains)
    return "".join(f"{_line(grain, as_box=boxes)}\n" for grain in grains)


@dataclass
class _LabelReader:
    """A label file under way."""

    names: Mapping[int, str]
    file: str
    grains: dict[int, LabelledGrain] = field(default_factory=dict)
    findings: list[DatasetFinding] = field(default_factory=list)
    _told: Counter[Severity] = field(default_factory=Counter)
    _seen: dict[bytes, int] = field(default_factory=dict)

    def take(self, line: int, fields: list[str]) -> bool:
        """Read one line that is not empty; return whether to read the next."""
        try:
            grain_class = self._class(fields[0])
            points, is_box = _points(fields[1:])
            points = self._inside(points, line)
            _check_area(points)
        except ValueError as fault:
            quoted = " ".join(fields)
            quoted = quoted if len(quoted) <= _QUOTED else quoted[:_QUOTED] + "..."
            self._tell(DatasetFinding.error(self.file, f"{fault} (the line is '{quoted}')", line))
        else:
            grain = LabelledGrain(grain_class, points, is_box)
            if not self._is_double(grain, line):
                self.grains[line] = grain
        return self._told[Severity.ERROR] < MOST_TOLD

    def leave(self, line: int, last: int) -> None:
        """Note that reading ends here."""
        if line < last:
            message = (
                f"{MOST_TOLD} lines are faulty: {last - line} more lines are not read. Export again"
            )
            self.findings.append(DatasetFinding.error(self.file, message, line + 1))

    def sum_up(self) -> None:
        """Note how many notes and warnings are not listed."""
        for severity, times in self._told.items():
            if times > MOST_TOLD:
                message = f"... and {times - MOST_TOLD} more lines like those before"
                self.findings.append(DatasetFinding(severity, self.file, None, message))

    def _tell(self, finding: DatasetFinding) -> None:
        self._told[finding.severity] += 1
        if self._told[finding.severity] <= MOST_TOLD:
            self.findings.append(finding)

    def _class(self, text: str) -> GrainClass | None:
        number = class_number(text)
        if number is None:
            raise ValueError(
                f"expected a class number first, got '{text[:20]}': export the labels in YOLO form"
            )
        if number not in self.names:
            first = sorted(self.names)[:_NAMES_QUOTED]
            known = ", ".join(f"{key} {self.names[key]}" for key in first)
            raise ValueError(
                f"class {number} has no name, the export names {known}: label the grain again, "
                "or add the missing class to the names"
            )
        try:
            return parse_label_class(self.names[number])
        except ValueError as error:
            raise ValueError(f"{error}: rename the class, or label the grain again") from error

    def _inside(self, points: NDArray[np.float64], line: int) -> NDArray[np.float64]:
        """Return the points; those barely outside the picture are moved to its border."""
        overshoot = float(np.max(np.maximum(-points, points - 1.0)))
        if overshoot > OVERSHOOT:
            raise ValueError(
                f"expected coordinates from 0 to 1, got one {overshoot:.3g} outside the picture "
                f"(up to {OVERSHOOT} is corrected): draw the grain inside the picture, and export "
                "fractions, not pixels"
            )
        if overshoot > _ROUNDING:
            message = f"reaches {overshoot:.2g} of a side beyond the picture: cut at its border"
            self._tell(DatasetFinding.note(self.file, message, line))
        return np.clip(points, 0.0, 1.0) + 0.0  # no negative zero

    def _is_double(self, grain: LabelledGrain, line: int) -> bool:
        """Return whether an earlier line has the same outline, which is then noted."""
        first = self._seen.setdefault(np.round(grain.points, _DECIMALS).tobytes(), line)
        if first == line:
            return False
        if self.grains[first].grain_class == grain.grain_class:
            message = f"the same grain as in line {first}: taken once. Delete one of the two"
            self._tell(DatasetFinding.warning(self.file, message, line))
        else:
            message = (
                f"the same outline as in line {first}, but of another class: one grain has one "
                "class. Delete the wrong one"
            )
            self._tell(DatasetFinding.error(self.file, message, line))
        return True


def _points(fields: list[str]) -> tuple[NDArray[np.float64], bool]:
    """Return the outline of a line's coordinates, and whether they were a box.

    Raises:
        ValueError: If not numbers, or not as many as a box or a polygon has.
    """
    if len(fields) != 4 and (len(fields) < 6 or len(fields) % 2):
        hint = (
            ": is the last one a confidence? Export labels, not predictions"
            if len(fields) == 5
            else ""
        )
        raise ValueError(
            "expected 4 numbers after the class (a box) or an even number of at least 6 (a polygon), "
            f"got {len(fields)}{hint or '. Draw the grain again'}"
        )
    try:
        values = np.array([float(text) for text in fields], np.float64)
    except ValueError as error:
        raise ValueError(f"expected numbers, got something else ({error}): export again") from error
    if not np.isfinite(values).all():
        raise ValueError("expected numbers, got nan or infinity: draw the grain again")
    if len(fields) != 4:
        return values.reshape(-1, 2), False
    (cx, cy), (width, height) = values[:2], values[2:]
    if width <= 0 or height <= 0:
        raise ValueError(f"the box is {width:g} wide and {height:g} high: draw the grain again")
    x0, x1, y0, y1 = cx - width / 2, cx + width / 2, cy - height / 2, cy + height / 2
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), True


def _check_area(points: NDArray[np.float64]) -> None:
    """Refuse an outline without an inside (shoelace formula).

    Raises:
        ValueError: If the area is zero.
    """
    x, y = points[:, 0], points[:, 1]
    area = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    if area < _LEAST_AREA:
        raise ValueError("the outline has no area (all points on a line): draw the grain again")


def _line(grain: LabelledGrain, *, as_box: bool) -> str:
    """Return one line of label text."""
    points = np.round(grain.points, _DECIMALS)
    if as_box:
        low, high = points.min(axis=0), points.max(axis=0)
        numbers = (*((low + high) / 2), *(high - low))
        decimals = _DECIMALS + 1
    else:
        numbers, decimals = tuple(points.ravel()), _DECIMALS
    return " ".join([str(grain.number), *(f"{number:.{decimals}f}" for number in numbers)])
