"""Laws of bit depth, channels and pixel size."""

from importlib import import_module
from pkgutil import iter_modules

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollen import frames
from pollen.frames import FrameError
from pollen.frames.colour import STORED_ORDER_NOTE, over_white, rgb_order, to_8_bit
from pollen.frames.metadata import LARGEST_UM, SMALLEST_UM, pixel_size_um
from pollen.frames.orientation import oriented, oriented_box
from pollen.statistics.samples import FLAG_SEPARATOR

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@given(st.integers(9, 16))
def test_every_value_of_every_bit_depth_is_rounded_to_the_nearest(bits: int) -> None:
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256, 1)
    exact = np.minimum(values.astype(float) * 255 / (2**bits - 1), 255)
    np.testing.assert_array_equal(to_8_bit(values, bits), np.rint(exact))


@given(st.integers(0, 255), st.integers(0, 255), st.integers(9, 16))
def test_scaling_does_not_depend_on_the_rest_of_the_picture(
    value: int, other: int, bits: int
) -> None:
    pair = to_8_bit(np.array([[[value]], [[other]]], np.uint16), bits)
    alone = to_8_bit(np.array([[[value]]], np.uint16), bits)
    assert pair[0, 0, 0] == alone[0, 0, 0]


def test_no_note_holds_what_separates_flags() -> None:
    modules = [
        import_module(f"{frames.__name__}.{module.name}")
        for module in iter_modules(frames.__path__)
    ]
    notes = [
        text for module in modules for name, text in vars(module).items() if name.endswith("_NOTE")
    ]
    assert len(set(notes)) >= 4
    assert [note for note in notes if FLAG_SEPARATOR.strip() in note] == []


def test_8_bit_stays() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    assert to_8_bit(values, 8) is values


def test_premultiplied_colour_is_not_multiplied_again() -> None:
    colour, alpha = np.full((1, 1, 3), 50, np.uint8), np.full((1, 1), 102, np.uint8)
    assert over_white(colour, alpha)[0, 0, 0] == round(50 * 0.4 + 153)
    assert over_white(colour, alpha, premultiplied=True)[0, 0, 0] == 50 + 153


@given(
    st.integers(1, 8),
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 5), st.integers(1, 5)),
)
def test_a_region_of_the_turned_picture_is_the_turned_region(
    orientation: int, place: tuple[int, int, int, int]
) -> None:
    stored = np.arange(12 * 10 * 3, dtype=np.uint16).astype(np.uint8).reshape(12, 10, 3)
    shown = oriented(stored, orientation)
    x0, y0, width, height = place
    box = (x0, y0, x0 + width, y0 + height)
    left, top, right, bottom = oriented_box(box, (10, 12), orientation)
    np.testing.assert_array_equal(
        oriented(stored[top:bottom, left:right], orientation),
        shown[y0 : y0 + height, x0 : x0 + width],
    )


@pytest.mark.parametrize(
    ("names", "colours", "order"),
    [
        (("Red", "Green", "Blue"), (None, None, None), (0, 1, 2)),
        (("b", "R", "G"), (None, None, None), (1, 2, 0)),
        (("", "", ""), (BLUE, GREEN, RED), (2, 1, 0)),
        (("Channel:0:0", "Channel:0:1", "C:2"), (GREEN, RED, BLUE), (1, 0, 2)),
    ],
)
def test_channels_are_ordered_by_what_they_say(
    names: tuple[str, ...],
    colours: tuple[tuple[int, int, int] | None, ...],
    order: tuple[int, int, int],
) -> None:
    assert rgb_order(names, colours) == (order, ())


def test_channels_that_say_nothing_are_taken_in_order_with_a_note() -> None:
    assert rgb_order(("", "C:1", ""), (None,) * 3) == ((0, 1, 2), (STORED_ORDER_NOTE,))


@pytest.mark.parametrize(
    ("names", "colours"),
    [
        (("DAPI", "FITC", "TRITC"), (BLUE, GREEN, RED)),
        (("Red", "Red", "Blue"), (None, None, None)),
        (("", "", ""), (RED, RED, BLUE)),
        (("Red", "Green"), (None, None)),
        (("", "", "", ""), (None,) * 4),
    ],
)
def test_other_channels_are_no_colour_picture(
    names: tuple[str, ...], colours: tuple[tuple[int, int, int] | None, ...]
) -> None:
    with pytest.raises(FrameError, match=f"{len(names)} separate grey channels"):
        rgb_order(names, colours)


@pytest.mark.parametrize(
    ("x", "unit"),
    [
        (2.5e-7, "m"),
        (0.25, "µm"),
        (0.25, "\\u00B5m"),
        (0.25, "Micron"),
        (250, "nm"),
        (2.5e-4, "mm"),
    ],
)
def test_units_of_length(x: float, unit: str) -> None:
    assert pixel_size_um(x, x, unit) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("x", "y", "unit"),
    [
        (None, None, "um"),
        (0.25, 0.25, "pixel"),
        (0.25, 0.25, ""),
        (0.25, 0.26, "um"),
        (float("nan"), 1, "um"),
        (float("inf"), float("inf"), "um"),
        (0.0, 0.0, "m"),
        (-0.25, -0.25, "um"),
    ],
)
def test_what_is_no_pixel_size(x: float | None, y: float | None, unit: str) -> None:
    assert pixel_size_um(x, y, unit) is None


@given(st.floats(allow_nan=False))
def test_a_pixel_size_is_that_of_a_microscope(x: float) -> None:
    size = pixel_size_um(x, x, "um")
    assert (size == x) if SMALLEST_UM <= x <= LARGEST_UM else (size is None)
