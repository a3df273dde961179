"""The size of grains against those a model knows: of a picture, and of many together."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pollen.counting.rules import CountedFrame
from pollen.models.card import ModelCard

#: A median grain that differs from the model's by more than this factor is flagged.
SCALE_FACTOR = 1.5
#: The same of the grains of many pictures. Nearer, because what is much too large or small is not
#: found. Of `val` enlarged two and four times the bundled model finds only the grains that are 1.28 to
#: 1.42 times beyond its sizes, by sample; at their own size 1.09 at most.
POOLED_FACTOR = 1.25
#: Fewer grains than this say little about the scale of a picture or a sample ...
SCALE_GRAINS = 10
#: ... but of all pictures together some few must do: where the scale is wrong, few are found.
SCALE_GRAINS_OF_ALL = 3
#: Of fewer pictures, most may well be empty.
SCALE_PICTURES = 3
SCALE_FLAG = "scale differs from the model's"
#: The same of the grains of several pictures, none of which may have enough of them.
POOLED_FLAG = f"{SCALE_FLAG} (all its grains together)"


def size_to_model(counted: CountedFrame, card: ModelCard, ratio: float) -> float | None:
    """How much larger (above 1) or smaller the median grain is than those the model was trained on.

    The median grain is compared with the medians of the training pictures, which may come from
    several magnifications; where the card does not state their range, with the median of all.
    Grains cut or covered count here too: in a dense picture hardly any other is left, and what they
    lack is little beside the factor that is asked for.

    Args:
        counted: The frame.
        card: The model's card.
        ratio: Training-picture pixels per frame pixel, as the frame was resampled.

    Returns:
        1 within the sizes that the model knows; ``None`` where the card does not state them, and
        where there is no grain.
    """
    if card.grain_diameter_px is None or len(counted.grains) == 0:
        return None
    low, high = card.grain_diameter_range_px or (card.grain_diameter_px,) * 2
    median = float(np.median(counted.grains.diameters_px)) * ratio
    return max(median / high, min(median / low, 1.0))


def scale_flags(counted: CountedFrame, card: ModelCard, ratio: float) -> tuple[str, ...]:
    """A flag where the grains of a frame are of another size than those the model was trained on.

    Args:
        counted: The frame.
        card: The model's card.
        ratio: As for :func:`size_to_model`.
    """
    size = size_to_model(counted, card, ratio)
    off = len(counted.grains) >= SCALE_GRAINS and size is not None and _is_off(size)
    return (SCALE_FLAG,) if off else ()


@dataclass(frozen=True)
class PooledSize:
    """The size of the grains of several pictures, against those the model knows.

    Attributes:
        size: As :func:`size_to_model` says it of one picture; ``None`` where that is not known.
        grains: How many grains it was taken from.
    """

    size: float | None
    grains: int

    @classmethod
    def of(cls, counts: pl.DataFrame) -> "PooledSize":
        """Pool the grains of counted pictures.

        Only the medians of the pictures are known: the median of these, each as often as the
        picture has grains, stands for the one of all grains.

        Args:
            counts: Rows of ``pollen_counts.csv``.
        """
        told = zip(counts["size_to_model"], counts["total_detected"], strict=True)
        known = sorted((size, number) for size, number in told if size is not None and number)
        if not known:
            return cls(None, 0)
        sizes = np.array([size for size, _ in known])
        upto = np.cumsum([number for _, number in known])
        grains = int(upto[-1])
        # The mean of the two in the middle; they are one where the number is odd.
        middle = np.searchsorted(upto, [(grains + 1) // 2, grains // 2 + 1])
        return cls(float(sizes[middle].mean()), grains)

    def is_off(self, least_grains: int = SCALE_GRAINS) -> bool:
        """Whether they differ by more than :data:`POOLED_FACTOR`, as far as that many grains can tell."""
        if self.size is None or self.grains < least_grains:
            return False
        return _is_off(self.size, POOLED_FACTOR)


def mostly_empty(counted: pl.DataFrame) -> bool:
    """Whether most pictures have no grain at all, as where their scale is far from the model's.

    Args:
        counted: Rows of ``pollen_counts.csv`` of pictures that were counted.
    """
    empty = list(counted["total_detected"]).count(0)
    return counted.height >= SCALE_PICTURES and 2 * empty > counted.height


def _is_off(size: float, factor: float = SCALE_FACTOR) -> bool:
    return not 1 / factor <= size <= factor
