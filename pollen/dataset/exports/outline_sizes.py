"""Outlines far larger than the others: a box drawn around the whole picture, a click that was dragged away.

One of them is enough for a training to be refused, because the largest grain must fit the model's input.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pollen.dataset.findings import DatasetFinding
from pollen.dataset.labels import Labels

#: Times the median side from which an outline is told of. Of 2,432 real grains the largest has 3.1.
MANY_TIMES: Final = 4.0
#: Outlines that are told of one by one, the largest first.
_TOLD: Final = 20


@dataclass
class Sizes:
    """Sizes of the outlines of one export or dataset: the longer side of the box around each, pixels.

    Attributes:
        name: Of the export, as findings call it.
    """

    name: str
    _sides: list[NDArray[np.float64]] = field(default_factory=list)
    _places: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def add(self, file: str, labels: Labels, width_px: int, height_px: int) -> None:
        """Note the outlines of a picture of this size.

        Args:
            file: What findings call the label file.
            labels: What it says.
            width_px: Of the picture.
            height_px: Of the picture.
        """
        if not labels.grains:
            return
        extents = np.array([np.ptp(grain.points, axis=0) for grain in labels.grains])
        self._sides.append((extents * (width_px, height_px)).max(axis=1))
        self._places.append((file, labels.lines))

    def findings(self) -> Iterator[DatasetFinding]:
        """Yield a warning for each outline that is much larger than the median."""
        if not self._sides:
            return
        median = float(np.median(np.concatenate(self._sides)))
        large = [
            (-side, file, line)
            for (file, lines), sides in zip(self._places, self._sides, strict=True)
            if sides.max() > MANY_TIMES * median
            for line, side in zip(lines, sides.tolist(), strict=True)
            if side > MANY_TIMES * median
        ]
        for side, file, line in sorted(large)[:_TOLD]:
            message = (
                f"an outline of {-side:.0f} px, {-side / median:.0f} times the median of {median:.0f} px: is this one "
                "grain? If not, delete or redraw it; training is refused if a grain does not fit the model's input"
            )
            yield DatasetFinding.warning(file, message, line)
        if len(large) > _TOLD:
            message = (
                f"{len(large) - _TOLD} more outlines have over {MANY_TIMES:g} times the median size"
            )
            yield DatasetFinding.warning(self.name, message)
