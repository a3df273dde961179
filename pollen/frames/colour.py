"""From stored samples to 8-bit RGB, independent of the values that a picture happens to hold.

Colour is the viability signal: a frame stretched to its own minimum and maximum would make a pale
grain red. So samples are scaled by how many bits the camera has, which only the file can tell, and
by nothing else; colour profiles (ICC) are left alone too, since the model saw none applied.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pollen.arrays import Pixels
from pollen.frames.frame_error import FrameError

GREY_REASON = (
    "the picture is grey (one channel): the colour of the stain tells viable from non-viable "
    "grains, so export it in colour (RGB)"
)
GREY_RGB_REASON = (
    "the picture is grey although saved in colour (red, green and blue are the same in every "
    "pixel): the colour of the stain tells viable from non-viable grains, so export it in colour "
    "(RGB) from what the camera recorded"
)
DARK_16_BIT_BELOW = 4096
# Notes become flags, which tables separate by a semicolon: none may hold one.
DARK_16_BIT_NOTE = (
    "16-bit picture without a bit depth in its metadata and with no value above 4095: it was read "
    "as full 16 bit and may be far too dark (if the camera has 12 bits, export with that bit depth "
    "or as 8 bit)"
)

STORED_ORDER_NOTE = (
    "three channels without names were taken as red, green and blue, in this order: check the "
    "colours of the annotated picture"
)
_COLOURS = ("red", "green", "blue")
_RGB_OF_COLOUR = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def to_8_bit(samples: Pixels | NDArray[np.uint16], bits: int) -> Pixels:
    """Scale samples of a `bits`-bit camera to 8 bit: 0 stays 0 and 2**bits - 1 becomes 255.

    Values above what `bits` allows (metadata that are wrong) become 255.

    Args:
        samples: Any shape, uint8 or uint16.
        bits: Significant bits, 1 to 16; 8 leaves uint8 as it is.
    """
    if samples.dtype == np.uint8 and bits == 8:
        return samples.astype(np.uint8, copy=False)
    rows = np.ascontiguousarray(samples, samples.dtype).reshape(samples.shape[0], -1)
    scaled = cv2.convertScaleAbs(rows, alpha=255 / (2**bits - 1))  # type: ignore[arg-type]
    return np.asarray(scaled, np.uint8).reshape(samples.shape)


def over_white(rgb: Pixels, alpha: Pixels, *, premultiplied: bool = False) -> Pixels:
    """Blend colour over white, as transparent pixels show in a bright field.

    Args:
        rgb: `(height, width, 3)` uint8.
        alpha: `(height, width)` uint8, 255 is opaque.
        premultiplied: Whether the colour already contains alpha (TIFF "associated alpha").
    """
    if alpha.min() == 255:
        return rgb
    opacity = alpha[..., None].astype(np.float32) / 255
    colour = rgb if premultiplied else rgb * opacity
    blended: Pixels = np.clip(np.rint(colour + 255 * (1 - opacity)), 0, 255).astype(np.uint8)
    return blended


def rgb_order(
    names: Sequence[str], colours: Sequence[tuple[int, int, int] | None]
) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Return the indices of the red, green and blue channel, and notes about them.

    Some exports store red, green and blue as channels of their own. They are put together only if
    the file says which is which, or says nothing at all (then in stored order, with a note):
    fluorescence channels are no colours of a stain and are refused.

    Args:
        names: The channels' names, empty if unnamed.
        colours: The channels' display colours (red, green, blue), None if not stated.

    Raises:
        FrameError: If these are not three channels, or not red, green and blue.
    """
    if len(names) == 3:
        stated = [_stated_colour(name, colour) for name, colour in zip(names, colours, strict=True)]
        if sorted(filter(None, stated)) == sorted(_COLOURS):
            red, green, blue = (stated.index(colour) for colour in _COLOURS)
            return (red, green, blue), ()
        if not any(map(_is_named, names)) and not any(colours):
            return (0, 1, 2), (STORED_ORDER_NOTE,)
    listed = ", ".join(name or f"channel {index}" for index, name in enumerate(names, 1))
    raise FrameError(
        f"the picture has {len(names)} separate grey channels ({listed}), expected one colour "
        "picture: the colour of the stain tells viable from non-viable grains, so export it in "
        "colour (RGB)"
    )


def _stated_colour(name: str, colour: tuple[int, int, int] | None) -> str | None:
    plain = name.strip().lower()
    for word in _COLOURS:
        if plain in (word, word[0]) or (not _is_named(name) and colour == _RGB_OF_COLOUR[word]):
            return word
    return None


def _is_named(name: str) -> bool:
    """Return whether a name says anything; `C:0`, `Channel:0:1` and the like are only numbers."""
    plain = name.strip().lower().replace("channel", "").replace("c", "")
    return any(character.isalpha() for character in plain)
