"""The report of a detection run: one self-contained HTML page.

It is made of the tables alone, without clock time, so equal tables give equal bytes.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote

import polars as pl
from jinja2 import Environment

from pollen import layout
from pollen.classes import GrainClass
from pollen.columns import FrameStatus, excluded_column
from pollen.counting.rules import Exclusion
from pollen.detection.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.quality.grain_size import SCALE_FLAG, SCALE_GRAINS_OF_ALL, PooledSize, mostly_empty
from pollen.reports.pages import environment
from pollen.statistics.intervals import ASSUMED_CORRELATION, ASSUMED_WEIGHT
from pollen.statistics.samples import (
    ANOTHER,
    FLAG_SEPARATOR,
    ONE_PLANT,
    SAME_PICTURE,
    Overall,
    flag_kind,
    overall_viability,
)

#: Longer tables are cut, with a note on where to find the whole table: the page must stay usable.
MOST_IMAGES = 500
MOST_SAMPLES = 1000
MOST_FAILED = 200
MOST_NAMES_PER_FLAG = 20

#: From the folder of the report to the root of the results.
_TO_ROOT = "../" * layout.REPORT.count("/")

_EDGE_RULES = {
    EdgeRule.FRAME: """Grains that touch the right or bottom side of a picture are left out of the
        counts; those that touch only the left or top side are counted (two-edge counting frame,
        Gundersen 1977). Small and large grains then have the same chance to be counted, so the
        border does not bias the viability.""",
    EdgeRule.EXCLUDE: """Grains that touch any side of a picture are left out of the counts. Large
        grains touch a side more often than small ones, and viable grains are larger, so the
        viability comes out a little too low, most of all in small pictures.""",
    EdgeRule.ALL: "Grains that touch a side of a picture are counted like all others.",
}
_OVERLAP_RULES = {
    OverlapRule.COUNT: """Overlapping grains are counted, but not measured, because a part of them is
        hidden.""",
    OverlapRule.EXCLUDE: "Overlapping grains are left out of the counts and are not measured.",
}
#: The meaning of a flag and what to do; flags that are not listed here explain themselves.
_FLAGS = {
    SAME_PICTURE
    + ANOTHER: """These files are identical, and each of them is counted. If a picture was
        uploaded twice, delete one of the two files; the column flags names the other one.""",
    SCALE_FLAG: """The grains in these pictures are more than 1.5 times larger or smaller than
        those the model was trained on, so grains may be missed or put in the wrong class. Check the
        annotated pictures. If the magnification of the microscope differs, state the diameter of a
        grain in these pictures (setting grain_diameter_px) and run them again.""",
}
#: The warning if the grains of all pictures together differ in size from those the model knows.
_SCALE_OF_ALL = """The median grain of all pictures together is {size:.2g} times the size that the
    model was trained on, so grains may be missed or put in the wrong class. Do not rely on any
    number in this report before you have checked the annotated pictures. State the diameter of a
    grain in these pictures (setting grain_diameter_px) and run them again."""
#: The warning if most pictures have no grain at all.
_MOSTLY_EMPTY = """Most pictures have no grain at all. If you can see grains in them, their size is
    probably far from what the model was trained on: state the diameter of a grain in these pictures
    (setting grain_diameter_px) and run them again."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture for the report.

    Attributes:
        filename: The frame's name as in the tables.
        jpeg: The encoded picture.
        note: The reason why it is shown, such as `mean confidence 0.61`.
    """

    filename: str
    jpeg: bytes
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """The data of a report.

    Attributes:
        counts: The rows of `pollen_counts.csv`.
        samples: The result of `pollen.statistics.samples.summarise_samples` for them.
        settings: Settings of the run.
        model_version: Version of the model.
        model_sha256: Hash of its weights.
        settings_fingerprint: Fingerprint of the profile.
        code_version: Version of this program.
        device: The device that the model ran on, in words; empty if unknown.
        thumbnails: Pictures to check first, the least certain ones.
        grain_table_note: Why the table of single grains is older than the counts; None: it is not.
        destination: The place of the results, for the summary.
    """

    counts: pl.DataFrame
    samples: pl.DataFrame
    settings: DetectSettings
    model_version: str
    model_sha256: str
    settings_fingerprint: str
    code_version: str
    device: str = ""
    thumbnails: tuple[Thumbnail, ...] = field(default=())
    grain_table_note: str | None = None
    destination: str = ""


@dataclass(frozen=True)
class ExcludedGrains:
    """Numbers of grains that are left out of the counts for one reason."""

    reason: str
    viable: int
    non_viable: int


@dataclass(frozen=True)
class Headline:
    """The numbers a person wants first; deleted inputs are in none of them but `deleted`.

    Attributes:
        images: Pictures that were counted.
        empty: Those of them without any grain.
        failed: Pictures that could not be counted.
        deleted: Pictures that are no longer there.
        viable: Grains in the counts.
        non_viable: Grains in the counts.
        detected: All grains that were found.
        left_out: Those that are not in the counts, by reason.
        viability: None if no grain was counted.
        warnings: Warnings about all pictures together.
    """

    images: int
    empty: int
    failed: int
    deleted: int
    viable: int
    non_viable: int
    detected: int
    left_out: tuple[ExcludedGrains, ...]
    viability: Overall | None
    warnings: tuple[str, ...]

    @property
    def counted(self) -> int:
        """Grains in the counts."""
        return self.viable + self.non_viable

    @property
    def excluded(self) -> int:
        """Grains found, but left out by the edge or overlap rule."""
        return self.detected - self.counted

    @property
    def without_reason(self) -> int:
        """Excluded grains whose reason an earlier version of this program did not record."""
        return self.excluded - sum(each.viable + each.non_viable for each in self.left_out)


@dataclass(frozen=True)
class Flag:
    """A flag, what it means, and the pictures that have it."""

    text: str
    meaning: str
    filenames: tuple[str, ...]


def render_report(data: ReportData) -> str:
    """Return the report as one HTML page without scripts or outside resources."""
    present = data.counts.filter(pl.col("input_present")).sort("filename")
    failed = present.filter(pl.col("status") == str(FrameStatus.FAILED))
    counted = present.filter(pl.col("status") != str(FrameStatus.FAILED))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            headline=headline(data.counts, data.settings.sample_pattern),
            one_plant=ONE_PLANT,
            failed=failed.head(MOST_FAILED).to_dicts(),
            failed_total=failed.height,
            flags=flags_of(present),
            most_names=MOST_NAMES_PER_FLAG,
            samples=data.samples.head(MOST_SAMPLES).to_dicts(),
            samples_total=data.samples.height,
            images=counted.head(MOST_IMAGES).to_dicts(),
            images_total=counted.height,
            edge_rule=_one_line(_EDGE_RULES[data.settings.edge_rule]),
            overlap_rule=_one_line(_OVERLAP_RULES[data.settings.overlap_rule]),
            like_old_script=data.settings.edge_rule is EdgeRule.EXCLUDE
            and data.settings.overlap_rule is OverlapRule.EXCLUDE,
            assumed_correlation=ASSUMED_CORRELATION,
            assumed_weight=ASSUMED_WEIGHT,
            tables={
                "counts": _TO_ROOT + layout.COUNTS_TABLE,
                "grains": _TO_ROOT + layout.GRAINS_TABLE,
                "samples": _TO_ROOT + layout.SAMPLES_TABLE,
            },
        )
    )


def headline(counts: pl.DataFrame, pattern: str) -> Headline:
    """Return the first numbers of a report.

    Args:
        counts: The rows of `pollen_counts.csv`.
        pattern: Finds the plants in names, see `pollen.statistics.samples.sample_of`.
    """
    present = counts.filter(pl.col("input_present"))
    counted = present.filter(pl.col("status") != str(FrameStatus.FAILED))
    return Headline(
        images=counted.height,
        empty=counted.filter(pl.col("status") == str(FrameStatus.EMPTY)).height,
        failed=present.height - counted.height,
        deleted=counts.height - present.height,
        viable=_sum(counted, "viable"),
        non_viable=_sum(counted, "non_viable"),
        detected=_sum(counted, "total_detected"),
        left_out=_left_out(counted),
        viability=overall_viability(counts, pattern),
        warnings=warnings_of(counted),
    )


def warnings_of(counted: pl.DataFrame) -> tuple[str, ...]:
    """Return warnings about all pictures together.

    Args:
        counted: Rows of `pollen_counts.csv` of pictures that exist and were counted.
    """
    pooled, found = PooledSize.of(counted), []
    if pooled.is_off(SCALE_GRAINS_OF_ALL):
        found.append(_SCALE_OF_ALL.format(size=pooled.size))
    if mostly_empty(counted):
        found.append(_MOSTLY_EMPTY)
    return tuple(_one_line(text) for text in found)


def _left_out(counted: pl.DataFrame) -> tuple[ExcludedGrains, ...]:
    """Return the numbers of excluded grains by reason; reasons without grains are left out."""
    found = (
        ExcludedGrains(
            str(reason),
            *(_sum(counted, excluded_column(reason, each)) for each in GrainClass),
        )
        for reason in (Exclusion.EDGE, Exclusion.OVERLAP)
    )
    return tuple(each for each in found if each.viable or each.non_viable)


def _sum(rows: pl.DataFrame, column: str) -> int:
    return int(rows[column].cast(pl.Int64).sum())


def annotated_link(filename: str) -> str:
    """Return the link from the report to an annotated picture."""
    return _TO_ROOT + quote(layout.annotated_key(filename))


def flags_of(present: pl.DataFrame) -> list[Flag]:
    """Return the flags of the pictures, the most frequent first."""
    pairs = sorted(
        (flag_kind(flag), filename)
        for filename, cell in present.select("filename", pl.col("flags").fill_null("")).iter_rows()
        for flag in cell.split(FLAG_SEPARATOR)
        if flag
    )
    flags = [
        Flag(text, _one_line(_FLAGS.get(text, "")), tuple(filename for _, filename in group))
        for text, group in groupby(pairs, key=lambda pair: pair[0])
    ]
    return sorted(flags, key=lambda flag: (-len(flag.filenames), flag.text))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """Return the templates, with the filter that only this page needs."""
    return environment({"annotated": annotated_link})


def _one_line(text: str) -> str:
    """Return a text of several source lines as one line."""
    return " ".join(text.split())
