"""Pictures of known colours, and how they are read back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pollen.arrays import Pixels
from pollen.frames import FrameError, open_frames

Refusal = Callable[[Path], str]


@pytest.fixture
def picture() -> Pixels:
    """(90, 140, 3) uint8: no two corners, rows, columns or channels alike, and smooth for JPEG."""
    y, x = np.mgrid[:90, :140]
    red = 200 - x * 0.7
    green = 20 + y * 1.5
    blue = 90 + x * 0.3 + y * 0.6
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


@pytest.fixture
def read_whole() -> Callable[[Path], list[Pixels]]:
    """Reads all frames of a file named as its path."""
    return _read_all


def _read_all(path: Path) -> list[Pixels]:
    with open_frames(path, path.name) as file:
        return [frame.read() for frame in file.frames]


@pytest.fixture
def refusal() -> Refusal:
    """Opens a file and reads all of it, and gives the reason why that fails."""

    def reason(path: Path) -> str:
        with pytest.raises(FrameError) as caught:
            _read_all(path)
        return str(caught.value)

    return reason
