"""The record rows of one frame: what was counted, and every grain's measures."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pollen import __version__
from pollen.classes import GrainClass
from pollen.counting import CountedFrame
from pollen.detector import Profile
from pollen.model_card import ModelCard
from pollen.planning import Item
from pollen.tables import GRAIN_RECORD, Status

#: A median grain that differs from the model's by more than this factor is flagged.
SCALE_FACTOR = 1.5
#: Fewer grains than this say little about the scale.
SCALE_GRAINS = 10
SCALE_FLAG = "scale differs from the model's"

Row = dict[str, object]


@dataclass(frozen=True)
class Origin:
    """Where a frame comes from and what counted it; the same in all its rows.

    Attributes:
        item: The input object.
        image_sha256: Of its bytes, ``None`` where they could not be read.
        batch: Id of the batch.
        profile: What decides the numbers.
    """

    item: Item
    image_sha256: str | None
    batch: str
    profile: Profile

    def row(self, filename: str, committed_ms: int) -> Row:
        """The columns every image record has, whatever became of the frame."""
        return {
            "key": self.item.key,
            "version": self.item.version,
            "filename": filename,
            "transient": False,
            "edge_rule": self.profile.edge_rule,
            "overlap_rule": self.profile.overlap_rule,
            "model_version": self.profile.model_version,
            "model_sha256": self.profile.model_sha256,
            "settings_fingerprint": self.profile.fingerprint,
            "code_version": __version__,
            "image_sha256": self.image_sha256,
            "device": self.profile.device,
            "batch": self.batch,
            "committed_ms": committed_ms,
        }


def failed_row(
    origin: Origin, filename: str, reason: str, committed_ms: int, *, transient: bool
) -> Row:
    """The record of a frame that could not be counted; ``transient`` ones are tried again by the next run."""
    return origin.row(filename, committed_ms) | {
        "status": str(Status.FAILED),
        "reason": " ".join(reason.split()),
        "transient": transient,
    }


def counted_row(
    origin: Origin,
    filename: str,
    counted: CountedFrame,
    *,
    size_px: tuple[int, int],
    pixel_size_um: float | None,
    flags: tuple[str, ...],
    committed_ms: int,
) -> Row:
    """The record of a counted frame."""
    grains = counted.grains
    row = origin.row(filename, committed_ms)
    row |= {
        "status": str(Status.OK if len(grains) else Status.EMPTY),
        "reason": "",
        "total_detected": len(grains),
        "width_px": size_px[0],
        "height_px": size_px[1],
        "pixel_size_um": pixel_size_um,
        "flags": "; ".join(flags),
    }
    for grain_class in GrainClass:
        row[grain_class.label] = counted.count(grain_class)
        row[f"excluded_{grain_class.label}"] = counted.count(grain_class, counted=False)
    if len(grains):
        row["mean_confidence"] = round(float(grains.confidence.mean()), 4)
    if counted.measured.any():
        row["median_diameter_px"] = round(
            float(np.median(grains.diameters_px[counted.measured])), 2
        )
    return row


def scale_flags(counted: CountedFrame, card: ModelCard, ratio: float) -> tuple[str, ...]:
    """A flag where the grains are of another size than those the model was trained on.

    The median grain is compared with the medians of the training pictures, which may come from
    several magnifications; where the card does not state their range, with the median of all.
    Grains cut or covered count here too: in a dense picture hardly any other is left, and what they
    lack is little beside the factor that is asked for.

    Args:
        counted: The frame.
        card: The model's card.
        ratio: Training-picture pixels per frame pixel, as the frame was resampled.
    """
    if card.grain_diameter_px is None or len(counted.grains) < SCALE_GRAINS:
        return ()
    low, high = card.grain_diameter_range_px or (card.grain_diameter_px,) * 2
    median = float(np.median(counted.grains.diameters_px)) * ratio
    return () if low / SCALE_FACTOR <= median <= high * SCALE_FACTOR else (SCALE_FLAG,)


def grain_rows(
    origin: Origin, filename: str, counted: CountedFrame, pixel_size_um: float | None
) -> pl.DataFrame:
    """The records of a frame's grains, numbered from 1 in reading order.

    Grains that overlap or are cut by a side of the frame have no sizes: what is not seen can't be
    measured. Numbers are rounded, so that the last bits of floating point do not show.
    """
    grains = counted.grains
    number = len(grains)
    partial = ~counted.measured
    areas, diameters = grains.areas_px.astype(float), grains.diameters_px.astype(float)
    areas[partial], diameters[partial] = np.nan, np.nan
    size_um = pixel_size_um if pixel_size_um is not None else np.nan
    x, y = grains.centres.T.astype(float)
    rows = pl.DataFrame(
        {
            "key": [origin.item.key] * number,
            "version": [origin.item.version] * number,
            "batch": [origin.batch] * number,
            "filename": [filename] * number,
            "particle_id": np.arange(1, number + 1),
            "class": [GrainClass(int(value)).label for value in grains.classes],
            "conf": grains.confidence.astype(float).round(4),
            "area_px": areas.round(1),
            "diameter_px": diameters.round(2),
            "is_excluded": ~counted.counted,
            "exclusion_reason": [str(reason) for reason in counted.exclusions],
            "area_um2": (areas * size_um**2).round(3),
            "diameter_um": (diameters * size_um).round(3),
            "x_px": x.round(1),
            "y_px": y.round(1),
        },
        schema=GRAIN_RECORD,
    )
    return rows.with_columns(pl.col(pl.Float64).fill_nan(None))
