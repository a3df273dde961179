"""The size of grains compared with those a model was trained on: of one picture, and of many together."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pollen.counting.rules import CountedFrame
from pollen.models.card import ModelCard

#: A median grain that differs from the model's by more than this factor is flagged.
SCALE_FACTOR = 1.5
#: The same for the grains of many pictures together. Smaller, because grains that are much too large
#: or small are not found at all: in `val` enlarged two and four times, the grains that the bundled
#: model finds are 1.28 to 1.42 times beyond its sizes, by sample; at their own size at most 1.09.
POOLED_FACTOR = 1.25
#: Fewer grains than this show little about the scale of a picture or a sample ...
SCALE_GRAINS = 10
#: ... but for all pictures together a few must do: if the scale is wrong, few are found.
SCALE_GRAINS_OF_ALL = 3
#: With fewer pictures than this, it may well be that most are empty.
SCALE_PICTURES = 3
SCALE_FLAG = "scale differs from the model's"
#: The same for the grains of several pictures, which may all have too few on their own.
POOLED_FLAG = f"{SCALE_FLAG} (all its grains together)"


def size_to_model(counted: CountedFrame, card: ModelCard, ratio: float) -> float | None:
    """Return the median grain's size relative to the grains that the model was trained on.

    The median grain is compared with the medians of the training pictures, which may come from
    several magnifications; if the card does not state their range, with the median of all.
    Grains that are cut or covered are included: a dense picture has hardly any others, and the part
    that is missing is small compared with the factor that is flagged.

    Args:
        counted: The frame.
        card: The model's card.
        ratio: Training-picture pixels per frame pixel, as the frame was resampled.

    Returns:
        Above 1 if the grains are larger, below if smaller; 1 within the sizes that the model knows.
        None if the card does not state them, or if there is no grain.
    """
    if card.grain_diameter_px is None or len(counted.grains) == 0:
        return None
    low, high = card.grain_diameter_range_px or (card.grain_diameter_px,) * 2
    median = float(np.median(counted.grains.diameters_px)) * ratio
    return max(median / high, min(median / low, 1.0))


def scale_flags(counted: CountedFrame, card: ModelCard, ratio: float) -> tuple[str, ...]:
    """Return a flag if the grains of a frame differ in size from those the model was trained on.

    Args:
        counted: The frame.
        card: The model's card.
        ratio: See `size_to_model`.
    """
    size = size_to_model(counted, card, ratio)
    off = len(counted.grains) >= SCALE_GRAINS and size is not None and _is_off(size)
    return (SCALE_FLAG,) if off else ()


@dataclass(frozen=True)
class PooledSize:
    """The size of the grains of several pictures, relative to those the model knows.

    Attributes:
        size: See `size_to_model`, which has it for one picture; None if it is not known.
        grains: Number of grains that it was computed from.
    """

    size: float | None
    grains: int

    @classmethod
    def of(cls, counts: pl.DataFrame) -> "PooledSize":
        """Pool the grains of counted pictures.

        Only the medians of the pictures are known. Their median, each taken as often as the picture
        has grains, stands for the median of all grains.

        Args:
            counts: Rows of `pollen_counts.csv`.
        """
        rows = zip(counts["size_to_model"], counts["total_detected"], strict=True)
        known = sorted((size, number) for size, number in rows if size is not None and number)
        if not known:
            return cls(None, 0)
        sizes = np.array([size for size, _ in known])
        upto = np.cumsum([number for _, number in known])
        grains = int(upto[-1])
        # The mean of the two in the middle; they are the same if the number is odd.
        middle = np.searchsorted(upto, [(grains + 1) // 2, grains // 2 + 1])
        return cls(float(sizes[middle].mean()), grains)

    def is_off(self, least_grains: int = SCALE_GRAINS) -> bool:
        """Return whether the size differs by more than `POOLED_FACTOR`; False with fewer grains."""
        if self.size is None or self.grains < least_grains:
            return False
        return _is_off(self.size, POOLED_FACTOR)


def mostly_empty(counted: pl.DataFrame) -> bool:
    """Return whether most pictures have no grain at all, as if their scale is far from the model's.

    Args:
        counted: Rows of `pollen_counts.csv` of pictures that were counted.
    """
    empty = list(counted["total_detected"]).count(0)
    return counted.height >= SCALE_PICTURES and 2 * empty > counted.height


def _is_off(size: float, factor: float = SCALE_FACTOR) -> bool:
    return not 1 / factor <= size <= factor
