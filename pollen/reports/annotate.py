"""Annotated pictures: grains outlined by their class and by the result of the counting rules.

The legend (`pollen.reports.legend`) is a strip below the picture, so it hides no grain and the picture keeps
its size.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import FloatArray, Pixels
from pollen.classes import GrainClass
from pollen.counting.rules import CountedFrame, Exclusion
from pollen.detection.settings import EdgeRule
from pollen.reports.legend import (
    ALLOWED_LINE,
    CLASS_COLOURS,
    EXCLUSION_MARKS,
    FORBIDDEN_LINE,
    HALO,
    INK,
    Caption,
    Colour,
    excluded_colour,
    legend_strip,
)

__all__ = ["UNDRAWN_FLAG", "Caption", "annotate", "encode_jpeg", "thumbnail", "thumbnail_within"]

#: Flag of a counted picture whose annotated picture can't be written: that has `.jpg` added to the name.
UNDRAWN_FLAG = "no annotated picture: its name is too long or can't be used"

#: Longest side a JPEG file can hold, pixels.
JPEG_LONGEST_PX = 65_535

#: No picture is made smaller than this to save bytes.
_LEAST_PX = 64
#: cv2 takes coordinates as whole 1/8 pixels.
_SHIFT = 3
Lines = list[NDArray[np.int32]]


def annotate(
    frame_pixels: Pixels, counted: CountedFrame, caption: Caption, *, scale: float
) -> Pixels:
    """Draw the grains into a copy of the picture and put the legend below it.

    Solid line: counted; dashed and greyed: not counted, with a letter for the reason; a dot:
    overlapping but counted.

    Args:
        frame_pixels: `(h, w, 3)` RGB; the frame, already resampled by `scale`.
        counted: The grains of the frame, in pixels of the full frame.
        caption: Texts of the legend beside the counts.
        scale: Picture pixels per frame pixel.

    Returns:
        `(h + legend, w, 3)` RGB.
    """
    height, width = frame_pixels.shape[:2]
    strip = legend_strip(width, counted, caption, scale=scale)
    sheet = np.concatenate([frame_pixels, strip])
    picture = sheet[:height]
    line = line_width_px(width, height)
    _draw_edge_lines(picture, caption.edge_rule, line)
    _draw_outlines(picture, counted, line, scale)
    _draw_marks(picture, counted, line, scale)
    return sheet


def line_width_px(width_px: int, height_px: int) -> int:
    """Return a line width that reads well when the picture is shown at the size of a screen."""
    return max(2, round(max(width_px, height_px) / 1000))


def encode_jpeg(pixels: Pixels, quality: int = 90) -> bytes:
    """Encode a picture.

    Colour is kept at full resolution: thin coloured lines on magenta smear otherwise.

    Args:
        pixels: `(h, w, 3)` RGB.
        quality: 1..100.

    Raises:
        ValueError: If a side is longer than the format allows.
    """
    if max(pixels.shape[:2]) > JPEG_LONGEST_PX:
        raise ValueError(
            f"a picture of {pixels.shape[1]} x {pixels.shape[0]} px can't be a JPEG: sides of at "
            f"most {JPEG_LONGEST_PX} px were expected; draw it smaller"
        )
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


def decode_jpeg(data: bytes) -> Pixels:
    """Return the pixels `(h, w, 3)` RGB of a picture made by `encode_jpeg`."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if pixels is None:
        raise ValueError("expected a JPEG written by encode_jpeg, got something else")
    return np.asarray(pixels, np.uint8)


def thumbnail(pixels: Pixels, longest_px: int, quality: int = 85) -> bytes:
    """Return a small JPEG of a picture, its longer side at most `longest_px`; never scaled up."""
    height, width = pixels.shape[:2]
    ratio = min(1.0, longest_px / max(height, width))
    size = max(1, round(width * ratio)), max(1, round(height * ratio))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if ratio < 1 else pixels
    return encode_jpeg(np.asarray(small, np.uint8), quality)


def thumbnail_within(pixels: Pixels, longest_px: int, most_bytes: int) -> bytes:
    """Return a small JPEG of at most `most_bytes`: first of lower quality, then smaller, until it fits.

    A picture below 64 px is returned as it is: it is small enough with any content.
    """
    while True:
        for quality in (85, 75, 60):
            encoded = thumbnail(pixels, longest_px, quality)
            if len(encoded) <= most_bytes or longest_px < _LEAST_PX:
                return encoded
        longest_px = longest_px * 4 // 5


def _draw_edge_lines(picture: Pixels, rule: EdgeRule, line: int) -> None:
    """Draw the sides of the counting frame: solid if touching grains are left out."""
    if rule is EdgeRule.ALL:
        return
    height, width = picture.shape[:2]
    dash = 6 * line
    if rule is EdgeRule.FRAME:
        for start in range(0, max(height, width), 2 * dash):
            picture[start : start + dash, :line] = ALLOWED_LINE
            picture[:line, start : start + dash] = ALLOWED_LINE
    else:
        picture[:, :line] = FORBIDDEN_LINE
        picture[:line] = FORBIDDEN_LINE
    picture[:, -line:] = FORBIDDEN_LINE
    picture[-line:] = FORBIDDEN_LINE


def _draw_outlines(picture: Pixels, counted: CountedFrame, line: int, scale: float) -> None:
    """Draw every grain's outline: first all halos, so that no halo covers a neighbour's line."""
    groups: dict[Colour, Lines] = {}
    for outline, number, reason in zip(
        counted.grains.outlines, counted.grains.classes, counted.exclusions, strict=True
    ):
        if len(outline) == 0:
            continue
        grain_class = GrainClass(int(number))
        if reason is Exclusion.NONE:
            colour, pieces = CLASS_COLOURS[grain_class], [_evenly(outline * scale, 1.5 * line)]
        else:
            colour = excluded_colour(grain_class)
            pieces = _dashes(_evenly(outline * scale, 1.5 * line), on=3, off=4)
        groups.setdefault(colour, []).extend(_fixed_point(piece) for piece in pieces)
    for width, colour_of in (
        (line + 2 * max(1, line // 3), lambda _: HALO),
        (line, lambda own: own),
    ):
        for own, lines in groups.items():
            cv2.polylines(picture, lines, False, colour_of(own), width, cv2.LINE_AA, _SHIFT)


def _draw_marks(picture: Pixels, counted: CountedFrame, line: int, scale: float) -> None:
    """Mark excluded grains with the letter of the reason, overlapping counted ones with a dot."""
    height, width = picture.shape[:2]
    grains = counted.grains
    for centre, box, reason, overlaps in zip(
        grains.centres * scale,
        grains.boxes * scale,
        counted.exclusions,
        counted.overlapping,
        strict=True,
    ):
        room = float(min(box[2:] - box[:2]))
        if reason is not Exclusion.NONE:
            tall = int(max(5 * line, min(8 * line, room / 2)))
            x = int(np.clip(centre[0], tall, max(tall, width - tall)))
            y = int(np.clip(centre[1], tall, max(tall, height - tall)))
            _letter(picture, EXCLUSION_MARKS[reason], (x, y), tall)
        elif overlaps:
            at = _fixed_point(centre)
            for radius, colour in ((1.6 * line, HALO), (1.1 * line, INK)):
                fixed = max(1, round(radius * 2**_SHIFT))
                cv2.circle(
                    picture, (int(at[0]), int(at[1])), fixed, colour, -1, cv2.LINE_AA, _SHIFT
                )


def _letter(picture: Pixels, letter: str, centre: tuple[int, int], tall_px: int) -> None:
    """Write one ASCII letter with a dark halo around a point."""
    size = tall_px / 22  # capital letters of this font are 22 px high at size 1
    stroke = max(1, round(tall_px / 8))
    (wide, high), _ = cv2.getTextSize(letter, cv2.FONT_HERSHEY_SIMPLEX, size, stroke)
    origin = centre[0] - wide // 2, centre[1] + high // 2
    for colour, width in ((HALO, stroke + 2 * max(1, stroke)), (INK, stroke)):
        cv2.putText(
            picture, letter, origin, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA
        )


def _evenly(outline: FloatArray, step_px: float) -> FloatArray:
    """Return a closed outline at about even steps, its first point repeated at the end.

    Mask contours have a point at every pixel; fewer draw faster and smoother.

    Args:
        outline: `(K, 2)` xy, pixels.
        step_px: Distance between points, pixels.

    Returns:
        `(M, 2)` xy, pixels.
    """
    closed = np.concatenate([outline, outline[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    wanted = np.linspace(0, along[-1], max(9, round(along[-1] / step_px) + 1))
    xy = [np.interp(wanted, along, closed[:, axis]) for axis in (0, 1)]
    return np.stack(xy, axis=1).astype(np.float32)


def _dashes(path: FloatArray, on: int, off: int) -> list[FloatArray]:
    """Return the parts of a path, `on` steps drawn and `off` left out in turn."""
    return [path[start : start + on + 1] for start in range(0, len(path) - 1, on + off)]


def _fixed_point(xy: FloatArray) -> NDArray[np.int32]:
    """Return coordinates as cv2 takes them with a shift."""
    return np.asarray(np.round(xy * 2**_SHIFT), np.int32)
