"""The record rows of one frame: its counts, and the sizes of every grain."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pollen import __version__
from pollen.classes import GrainClass
from pollen.columns import GRAIN_RECORD, FrameStatus, excluded_column
from pollen.counting.rules import CountedFrame, Exclusion
from pollen.detection.batches import Item
from pollen.detection.profile import Profile

Row = dict[str, object]


@dataclass(frozen=True)
class Provenance:
    """The source of a frame and the way it was counted; the same in all its rows.

    Attributes:
        item: The picture.
        image_sha256: SHA-256 of its bytes; None if they could not be read.
        batch: Id of the batch.
        profile: Everything that decides the numbers.
    """

    item: Item
    image_sha256: str | None
    batch: str
    profile: Profile

    def row(self, filename: str, committed_ms: int) -> Row:
        """Return the columns that every image record has, counted or failed."""
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
    provenance: Provenance, filename: str, reason: str, committed_ms: int, *, transient: bool
) -> Row:
    """Return the record of a frame that could not be counted.

    Args:
        provenance: The source of the frame.
        filename: The frame's name in the tables.
        reason: What is wrong and what to do.
        committed_ms: Time of the record.
        transient: Whether the next run tries the picture again.
    """
    return provenance.row(filename, committed_ms) | {
        "status": str(FrameStatus.FAILED),
        "reason": " ".join(reason.split()),
        "transient": transient,
    }


def counted_row(
    provenance: Provenance,
    filename: str,
    counted: CountedFrame,
    *,
    size_px: tuple[int, int],
    pixel_size_um: float | None,
    flags: tuple[str, ...],
    committed_ms: int,
    size_to_model: float | None = None,
) -> Row:
    """Return the record of a counted frame; for `size_to_model` see `pollen.quality.grain_size`."""
    grains = counted.grains
    row = provenance.row(filename, committed_ms)
    row |= {
        "status": str(FrameStatus.OK if len(grains) else FrameStatus.EMPTY),
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
        for reason in (Exclusion.EDGE, Exclusion.OVERLAP):
            row[excluded_column(reason, grain_class)] = counted.left_out(grain_class, reason)
    if size_to_model is not None:
        row["size_to_model"] = round(size_to_model, 3)
    if len(grains):
        row["mean_confidence"] = round(float(grains.confidence.mean()), 4)
    if counted.measured.any():
        row["median_diameter_px"] = round(
            float(np.median(grains.diameters_px[counted.measured])), 2
        )
    return row


def grain_rows(
    provenance: Provenance, filename: str, counted: CountedFrame, pixel_size_um: float | None
) -> pl.DataFrame:
    """Return the records of a frame's grains, numbered from 1 in reading order.

    Grains that overlap or are cut by a side of the frame have no sizes, because a part of them is
    not visible. Numbers are rounded, so that the last bits of floating point do not show.
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
            "key": [provenance.item.key] * number,
            "version": [provenance.item.version] * number,
            "batch": [provenance.batch] * number,
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
