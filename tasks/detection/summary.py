"""The summary of a run: its numbers, how it ended, and the message of its final state."""

from dataclasses import dataclass
from enum import StrEnum

import polars as pl

from pollen.columns import FrameStatus
from pollen.frames import SUFFIXES
from pollen.quality.grain_size import SCALE_FLAG, SCALE_GRAINS_OF_ALL, PooledSize, mostly_empty
from pollen.statistics.intervals import percent
from pollen.statistics.samples import SAME_PICTURE


class Outcome(StrEnum):
    """The outcome of a run that could do its work; the values are the names of final states."""

    COMPLETED = "Completed"
    NOTHING_NEW = "NothingNew"
    WITH_FAILURES = "CompletedWithFailures"
    NO_IMAGES = "NoImages"


@dataclass(frozen=True)
class Summary:
    """The result of a run in numbers.

    Attributes:
        rows: The rows of `pollen_counts.csv`.
        counted_now: Number of pictures that this run counted.
        output: The place of the results, as people name it.
        failed_before: Names of the rows that were failed in the table before this run.
    """

    rows: pl.DataFrame
    counted_now: int
    output: str
    failed_before: frozenset[str] = frozenset()

    @property
    def present(self) -> pl.DataFrame:
        """Rows of pictures that still exist."""
        return self.rows.filter("input_present")

    @property
    def failed(self) -> pl.DataFrame:
        """Rows of present pictures that could not be counted."""
        return self.present.filter(pl.col("status") == str(FrameStatus.FAILED))

    @property
    def counted(self) -> pl.DataFrame:
        """Rows of present pictures that were counted."""
        return self.present.filter(pl.col("status") != str(FrameStatus.FAILED))

    @property
    def grains(self) -> int:
        """Counted grains of all present pictures."""
        return int(self.present["total_counted"].sum() or 0)

    @property
    def viability(self) -> float | None:
        """Stained viable over counted grains; None without grains."""
        return float(self.present["viable"].sum()) / self.grains if self.grains else None

    @property
    def off_scale(self) -> int:
        """Number of frames whose grains are of another size than the model's."""
        return self.present.filter(pl.col("flags").str.contains(SCALE_FLAG, literal=True)).height

    @property
    def all_off_scale(self) -> bool:
        """True if the grains of all pictures together are of another size than the model's."""
        return PooledSize.of(self.present).is_off(SCALE_GRAINS_OF_ALL)

    @property
    def copies(self) -> int:
        """Number of frames of pictures that exist under several names."""
        return self.present.filter(pl.col("flags").str.contains(SAME_PICTURE, literal=True)).height

    @property
    def outcome(self) -> Outcome:
        """The outcome of the run."""
        if self.present.is_empty():
            return Outcome.NO_IMAGES
        if not self.counted_now:
            return Outcome.NOTHING_NEW
        return Outcome.COMPLETED if self.failed.is_empty() else Outcome.WITH_FAILURES

    @property
    def message(self) -> str:
        """The message of the run's final state."""
        parts = [self.sentence]
        if self.outcome is Outcome.NO_IMAGES:
            kinds = ", ".join(sorted(SUFFIXES))
            parts.append(f"no pictures to count ({kinds}): upload some, or check the path")
        if not self.failed.is_empty():
            new = len(set(self.failed["filename"]) - self.failed_before)
            # These words are what deployments/automations/notify-images.yaml looks for.
            parts.append(f"{self.failed.height} failed" + (f", {new} of them new" if new else ""))
        gone = self.rows.height - self.present.height
        if gone:
            parts.append(f"{gone} counted earlier are no longer in the input")
        if self.off_scale:
            parts.append(
                f"{self.off_scale} with grains of another size than the model was trained on"
            )
        if self.all_off_scale:
            parts.append(
                "the grains of all pictures together are of another size than the model was trained on: check the "
                "annotated pictures, and state grain_diameter_px"
            )
        if mostly_empty(self.counted):
            parts.append("most have no grain: check the pictures for grains that were missed")
        if self.copies:
            parts.append(f"{self.copies} are identical to another picture")
        return "; ".join(parts)

    @property
    def sentence(self) -> str:
        """The three numbers a person wants: images, grains, viability."""
        viability = (
            f"{percent(self.viability, gap='')} viable"
            if self.viability is not None
            else "viability unknown"
        )
        images = "1 image" if self.present.height == 1 else f"{self.present.height} images"
        return f"{images}, {self.grains} grains, {viability}"
