"""The report of a detection run: one self-contained HTML page.

Made of the tables alone, without clock time, so equal tables give equal bytes.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote

import polars as pl
from jinja2 import Environment

from pollen import layout
from pollen.pages import environment
from pollen.samples import FLAG_SEPARATOR, overall_viability
from pollen.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.stats import ASSUMED_CORRELATION, ASSUMED_WEIGHT, Interval
from pollen.tables import Status

#: Longer tables are cut, with a note where the whole one is: the page must stay usable.
MOST_IMAGES = 500
MOST_SAMPLES = 1000
MOST_FAILED = 200
MOST_NAMES_PER_FLAG = 20

#: From the folder of the report to the root of the results.
_TO_ROOT = "../" * layout.REPORT.count("/")

_EDGE_RULES = {
    EdgeRule.FRAME: """Grains that touch the right or bottom side of a picture are left out of the
        counts, those that touch only the left or top side are counted (two-edge counting frame,
        Gundersen 1977). Small and large grains then have the same chance to be counted, so the
        border does not bias the viability.""",
    EdgeRule.EXCLUDE: """Grains that touch any side of a picture are left out of the counts. Large
        grains touch a side more often than small ones, and viable grains are larger: the viability
        comes out a little too low, most of all in small pictures.""",
    EdgeRule.ALL: "Grains that touch a side of a picture are counted like all others.",
}
_OVERLAP_RULES = {
    OverlapRule.COUNT: """Overlapping grains are counted, but not measured: what is hidden has no
        size.""",
    OverlapRule.EXCLUDE: "Overlapping grains are left out of the counts and are not measured.",
}
#: What a flag means and what to do; flags that are not here explain themselves.
_FLAGS = {
    "scale differs from the model's": """The grains in these pictures are more than 1.5 times larger
        or smaller than those the model learned from, so grains may be missed or mistaken. Look at
        the annotated pictures. If the microscope's magnification differs, say how large a grain is
        in these pictures (setting grain_diameter_px) and run them again.""",
}


@dataclass(frozen=True)
class Thumbnail:
    """A small picture for the report.

    Attributes:
        filename: The frame's name as in the tables.
        jpeg: The encoded picture.
        note: Why it is shown, such as ``mean confidence 0.61``.
    """

    filename: str
    jpeg: bytes
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """What the report is made of.

    Attributes:
        counts: The rows of ``pollen_counts.csv``.
        samples: What :func:`pollen.samples.summarise_samples` made of them.
        settings: Settings of the run.
        model_version: Version of the model.
        model_sha256: Hash of its weights.
        settings_fingerprint: Fingerprint of what changes results.
        code_version: Version of this program.
        device: What the model ran on, in words; empty where unknown.
        thumbnails: Pictures to look at first, the least certain ones.
        grains_as_of: State of the table of single grains where it is older than the counts, in
            words; ``None`` where it is of the same state.
        destination: Where the results lie, for the summary.
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
    grains_as_of: str | None = None
    destination: str = ""


@dataclass(frozen=True)
class Headline:
    """The numbers a person wants first; deleted inputs are in none of them but ``deleted``."""

    images: int
    empty: int
    failed: int
    deleted: int
    viable: int
    non_viable: int
    detected: int
    viability: Interval | None

    @property
    def counted(self) -> int:
        """Grains in the counts."""
        return self.viable + self.non_viable

    @property
    def excluded(self) -> int:
        """Grains found, but left out by the edge or overlap rule."""
        return self.detected - self.counted


@dataclass(frozen=True)
class Flag:
    """A flag, what it means, and the pictures that have it."""

    text: str
    meaning: str
    filenames: tuple[str, ...]


def render_report(data: ReportData) -> str:
    """The report as one HTML page without scripts or outside resources."""
    present = data.counts.filter(pl.col("input_present")).sort("filename")
    failed = present.filter(pl.col("status") == str(Status.FAILED))
    counted = present.filter(pl.col("status") != str(Status.FAILED))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            headline=headline(data.counts),
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


def headline(counts: pl.DataFrame) -> Headline:
    """The first numbers of a report.

    Args:
        counts: The rows of ``pollen_counts.csv``.
    """
    present = counts.filter(pl.col("input_present"))
    counted = present.filter(pl.col("status") != str(Status.FAILED))
    viable, non_viable, detected = (
        int(counted[name].cast(pl.Int64).sum())
        for name in ("viable", "non_viable", "total_detected")
    )
    return Headline(
        images=counted.height,
        empty=counted.filter(pl.col("status") == str(Status.EMPTY)).height,
        failed=present.height - counted.height,
        deleted=counts.height - present.height,
        viable=viable,
        non_viable=non_viable,
        detected=detected,
        viability=overall_viability(counts),
    )


def annotated_link(filename: str) -> str:
    """Where the annotated picture lies, as a link from the report."""
    return _TO_ROOT + quote(layout.annotated_key(filename))


def flags_of(present: pl.DataFrame) -> list[Flag]:
    """The flags of the pictures, most frequent first."""
    pairs = sorted(
        (flag, filename)
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
    """Templates, with what only this page needs."""
    return environment({"annotated": annotated_link})


def _one_line(text: str) -> str:
    """A text of several source lines as one."""
    return " ".join(text.split())
