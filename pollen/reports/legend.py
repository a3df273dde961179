"""The strip below an annotated picture: what the colours mean, the counts, and a scale bar."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import floor, log10
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pollen.arrays import Pixels
from pollen.classes import GrainClass
from pollen.counting.rules import CountedFrame, Exclusion
from pollen.detection.settings import EdgeRule
from pollen.statistics.intervals import percent, viability_interval

Colour = tuple[int, int, int]

#: Blue and yellow stay apart in all common forms of colour blindness, and both are far from
#: magenta, pink and grey; with a dark halo they read on any of these.
CLASS_COLOURS: dict[GrainClass, Colour] = {
    GrainClass.VIABLE: (64, 186, 255),
    GrainClass.NON_VIABLE: (255, 214, 0),
}
HALO: Colour = (16, 18, 24)
PAPER: Colour = (24, 27, 33)
INK: Colour = (238, 240, 244)
QUIET: Colour = (168, 174, 186)
#: Grains that touch a line of this colour are left out; the other sides are drawn in `ALLOWED_LINE`.
FORBIDDEN_LINE: Colour = (255, 96, 48)
ALLOWED_LINE: Colour = (238, 240, 244)

#: Letters that mark the reason on excluded grains.
EXCLUSION_MARKS = {Exclusion.EDGE: "E", Exclusion.OVERLAP: "O"}

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Caption:
    """Texts of the legend beside the counts.

    Attributes:
        filename: The frame's name as in the tables; shortened in the middle if it is too long.
        model_version: Version of the model that found the grains.
        edge_rule: The rule the grains were counted by.
        pixel_size_um: Width of a pixel of the full frame, micrometres; None if unknown.
    """

    filename: str
    model_version: str
    edge_rule: EdgeRule
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class _Entry:
    """One part of the legend.

    Attributes:
        width: Pixels.
        draw: Draws it with its left end at x and its middle at y.
    """

    width: int
    draw: Callable[[ImageDraw.ImageDraw, int, int], None]


def excluded_colour(grain_class: GrainClass) -> Colour:
    """Return the class colour mixed with grey, for grains that are not counted."""
    red, green, blue = (
        (own + grey) // 2 for own, grey in zip(CLASS_COLOURS[grain_class], (200,) * 3, strict=True)
    )
    return red, green, blue


def legend_strip(width_px: int, counted: CountedFrame, caption: Caption, *, scale: float) -> Pixels:
    """Draw the legend.

    Args:
        width_px: Width of the picture above, pixels.
        counted: The grains of the frame.
        caption: Texts of the legend beside the counts.
        scale: Picture pixels per frame pixel, as the scale bar needs it.

    Returns:
        `(h, width_px, 3)` RGB.
    """
    size = _font_size(width_px)
    font = _font(size)
    pad = max(3, size // 2)
    inner = max(1, width_px - 2 * pad)
    rows = [
        _title_entries(font, inner, caption),
        *_wrapped(_count_entries(font, counted), inner, 2 * pad),
        *_wrapped(_result_entries(font, counted, caption, scale, inner), inner, 2 * pad),
    ]
    line = round(size * 1.55)
    strip = Image.new("RGB", (width_px, pad + line * len(rows) + pad // 2), PAPER)
    pen = ImageDraw.Draw(strip)
    for number, row in enumerate(rows):
        x, y = pad, pad + number * line + line // 2
        for entry in row:
            entry.draw(pen, x, y)
            x += entry.width + 2 * pad
    return np.asarray(strip)


def scale_bar_um(um_per_px: float, longest_px: float) -> float:
    """Return the greatest round length (1, 2 or 5 times a power of ten, micrometres) that fits."""
    room = um_per_px * longest_px
    decade = 10.0 ** floor(log10(room))
    return float(next(step * decade for step in (5, 2, 1) if step * decade <= room * (1 + 1e-9)))


def shorten_middle(text: str, fits: Callable[[str], bool]) -> str:
    """Cut as little as needed out of the middle, because folder and suffix are both informative."""
    if fits(text):
        return text
    low, high = 0, len(text)
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if fits(_without_middle(text, kept)) else (low, kept - 1)
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    """Return the text with only `kept` of its characters, one more at its end if the number is odd."""
    head = kept // 2
    tail = kept - head
    return text[:head] + "…" + (text[-tail:] if tail else "")


def _font_size(width_px: int) -> int:
    """Return a letter height that is readable on a crop at 1:1 and on a full frame at screen size."""
    return max(9, min(13, width_px // 22), width_px // 84)


@lru_cache(maxsize=32)
def _font(size: int) -> Font:
    """Load DejaVu Sans (Latin, Greek, Cyrillic and more) from matplotlib's files, without importing it.

    Without matplotlib, Pillow's built-in font is used, which has Latin only. Characters that the font
    lacks appear as empty boxes; the tables have the full name.
    """
    package = importlib.util.find_spec("matplotlib")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder, "mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def _text(font: Font, text: str, colour: Colour = INK) -> _Entry:
    """Make an entry of text, vertically centred."""

    def draw(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        pen.text((x, y), text, font=font, fill=colour, anchor="lm")

    return _Entry(round(font.getlength(text)), draw)


def _title_entries(font: Font, room_px: int, caption: Caption) -> list[_Entry]:
    """Make the entries of the file name, shortened to fit, and of the model version."""
    # A name may hold a line break or a control character; one of them would spoil the strip.
    name = "".join(letter if letter.isprintable() else "?" for letter in caption.filename)
    model = _text(font, f"model {caption.model_version}", QUIET)
    left = room_px - model.width - 2 * round(font.getlength("m"))
    if left < room_px // 2:
        return [_text(font, shorten_middle(name, lambda text: font.getlength(text) <= room_px))]
    return [_text(font, shorten_middle(name, lambda text: font.getlength(text) <= left)), model]


def _count_entries(font: Font, counted: CountedFrame) -> list[_Entry]:
    """Make the entries of the colours with their counts."""
    viable, non_viable = (counted.count(grain_class) for grain_class in GrainClass)
    entries = [
        _swatch(font, CLASS_COLOURS[GrainClass.VIABLE], f"stained viable {viable}"),
        _swatch(font, CLASS_COLOURS[GrainClass.NON_VIABLE], f"non-viable {non_viable}"),
    ]
    reasons = [
        f"{mark} {reason.value} {number}"
        for reason, mark in EXCLUSION_MARKS.items()
        if (number := counted.exclusions.count(reason))
    ]
    if reasons:
        total = int(np.count_nonzero(~counted.counted))
        entries.append(
            _swatch(font, QUIET, f"not counted {total} ({', '.join(reasons)})", dashed=True)
        )
    covered = int(np.count_nonzero(counted.counted & counted.overlapping))
    if covered:
        entries.append(_dot(font, f"overlapping, not measured {covered}"))
    return entries


def _result_entries(
    font: Font, counted: CountedFrame, caption: Caption, scale: float, room_px: int
) -> list[_Entry]:
    """Make the entries of viability with its interval, the edge rule and the scale bar."""
    interval = viability_interval(*(counted.count(grain_class) for grain_class in GrainClass))
    result = "no grain counted"
    if interval:
        bounds = f"{percent(interval.low)} to {percent(interval.high)}"
        result = f"stained viable {percent(interval.estimate)} (95 % interval {bounds})"
    entries = [_text(font, result)]
    if caption.edge_rule is not EdgeRule.ALL:
        entries.append(_swatch(font, FORBIDDEN_LINE, "grains touching this line are not counted"))
    if caption.pixel_size_um:
        entries.append(_scale_bar(font, caption.pixel_size_um / scale, room_px / 5))
    return entries


def _swatch(font: Font, colour: Colour, text: str, *, dashed: bool = False) -> _Entry:
    """Make an entry of a short line as it is drawn in the picture, and its meaning."""
    unit = max(2, round(font.getlength("m")))
    label = _text(font, text)
    thick = max(2, unit // 3)
    parts = ((0, unit * 3 // 4), (unit * 5 // 4, 2 * unit)) if dashed else ((0, 2 * unit),)

    def draw(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        for start, end in parts:
            pen.rectangle(
                (x + start, y - thick // 2, x + end, y - thick // 2 + thick - 1), fill=colour
            )
        label.draw(pen, x + 5 * unit // 2, y)

    return _Entry(5 * unit // 2 + label.width, draw)


def _dot(font: Font, text: str) -> _Entry:
    """Make an entry of the dot of overlapping grains, and its meaning."""
    unit = max(2, round(font.getlength("m")))
    label = _text(font, text)
    radius = max(2, unit // 3)

    def draw(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        pen.ellipse((x, y - radius, x + 2 * radius, y + radius), fill=INK)
        label.draw(pen, x + 3 * unit // 2, y)

    return _Entry(3 * unit // 2 + label.width, draw)


def _scale_bar(font: Font, um_per_px: float, longest_px: float) -> _Entry:
    """Make an entry of a bar of a round length in micrometres."""
    length_um = scale_bar_um(um_per_px, longest_px)
    length = max(1, round(length_um / um_per_px))
    label = _text(font, f"{length_um:g} µm")
    gap = max(2, round(font.getlength("m") / 2))
    thick = max(2, gap // 2)

    def draw(pen: ImageDraw.ImageDraw, x: int, y: int) -> None:
        pen.rectangle((x, y - thick // 2, x + length - 1, y - thick // 2 + thick - 1), fill=INK)
        label.draw(pen, x + length + gap, y)

    return _Entry(length + gap + label.width, draw)


def _wrapped(entries: Sequence[_Entry], room_px: int, gap_px: int) -> list[list[_Entry]]:
    """Return entries in rows that fit; an entry wider than the strip has a row of its own."""
    rows: list[list[_Entry]] = [[]]
    used = 0
    for entry in entries:
        if rows[-1] and used + entry.width > room_px:
            rows.append([])
            used = 0
        rows[-1].append(entry)
        used += entry.width + gap_px
    return rows
