"""From stored samples to 8-bit RGB, without ever looking at the picture's own range.

Colour is the viability signal: a frame stretched to its own minimum and maximum would make a pale
grain red. So samples are scaled by how many bits the camera has, which only the file can tell, and
by nothing else; colour profiles (ICC) are left alone too, since the model saw none applied.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

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


def to_8_bit(samples: NDArray[np.uint8] | NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Samples of a `bits`-bit camera as 8 bit: 0 stays 0 and 2**bits - 1 becomes 255.

    Values above what `bits` allows (metadata that are wrong) become 255.

    Args:
        samples: any shape, uint8 or uint16.
        bits: significant bits, 1 to 16; 8 leaves uint8 as it is.
    """
    if samples.dtype == np.uint8 and bits == 8:
        return samples.astype(np.uint8, copy=False)
    rows = np.ascontiguousarray(samples, samples.dtype).reshape(samples.shape[0], -1)
    scaled = cv2.convertScaleAbs(rows, alpha=255 / (2**bits - 1))  # type: ignore[arg-type]
    return np.asarray(scaled, np.uint8).reshape(samples.shape)


def over_white(
    rgb: NDArray[np.uint8], alpha: NDArray[np.uint8], *, premultiplied: bool = False
) -> NDArray[np.uint8]:
    """Colour over a white ground, as transparent pixels show in a bright field.

    Args:
        rgb: (height, width, 3) uint8.
        alpha: (height, width) uint8, 255 opaque.
        premultiplied: the colour already contains alpha (TIFF "associated alpha").
    """
    if alpha.min() == 255:
        return rgb
    opacity = alpha[..., None].astype(np.float32) / 255
    colour = rgb if premultiplied else rgb * opacity
    blended: NDArray[np.uint8] = np.clip(np.rint(colour + 255 * (1 - opacity)), 0, 255).astype(
        np.uint8
    )
    return blended
