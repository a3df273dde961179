"""The report of a detection run: one self-contained HTML page, and a short Markdown summary.

Both are made of the tables alone, without clock time, so equal tables give equal bytes.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from urllib.parse import quote

import polars as pl
from jinja2 import Environment

from pollen import layout
from pollen.pages import environment, markdown
from pollen.samples import FLAG_SEPARATOR, overall_viability
from pollen.settings import DetectSettings, EdgeRule, OverlapRule
from pollen.stats import ASSUMED_CORRELATION, ASSUMED_WEIGHT, Interval, percent
from pollen.tables import Status

#: Longer tables are cut, with a note where the whole one is: the page must stay usable.
MOST_IMAGES = 500
MOST_SAMPLES = 1000
MOST_FAILED = 200
MOST_NAMES_PER_FLAG = 20
MOST_IN_SUMMARY = 20

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
            flags=_flags(present),
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


def markdown_summary(data: ReportData) -> str:
    """The run in short, for a Prefect artifact."""
    parts = [
        _headline_lines(data),
        _failed_lines(data.counts),
        _flag_lines(data.counts),
        _sample_lines(data.samples),
        _place_lines(data),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


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


def _flags(present: pl.DataFrame) -> list[Flag]:
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


def _interval_words(low: float, high: float) -> str:
    """The bounds in words."""
    return f"{percent(low)} to {percent(high)}"


def _headline_lines(data: ReportData) -> list[str]:
    """Images, grains, viability."""
    first = headline(data.counts)
    result = "no grain counted"
    if first.viability:
        bounds = _interval_words(first.viability.low, first.viability.high)
        result = f"**{percent(first.viability.estimate)}** stained viable (95 % interval {bounds})"
    return [
        f"**{first.images:,}** images counted ({first.empty:,} without grains), "
        f"**{first.failed:,}** failed; **{first.counted:,}** grains counted of {first.detected:,} "
        f"found; {result}.",
        "",
        f"Model {markdown(data.model_version)}, settings `{data.settings_fingerprint}`, edge rule "
        f"`{data.settings.edge_rule}`, overlap rule `{data.settings.overlap_rule}`.",
    ]


def _failed_lines(counts: pl.DataFrame) -> list[str]:
    """The failed images with their reasons."""
    failed = counts.filter(pl.col("input_present") & (pl.col("status") == str(Status.FAILED)))
    if failed.height == 0:
        return []
    rows = failed.sort("filename").select("filename", pl.col("reason").fill_null(""))
    return [
        f"### Failed images ({failed.height:,})",
        "",
        "| image | reason |",
        "|---|---|",
        *(
            f"| {markdown(filename)} | {markdown(reason)} |"
            for filename, reason in rows.head(MOST_IN_SUMMARY).iter_rows()
        ),
        *_rest(failed.height, layout.COUNTS_TABLE),
    ]


def _flag_lines(counts: pl.DataFrame) -> list[str]:
    """The flags with the number of images that have them."""
    flags = _flags(counts.filter(pl.col("input_present")))
    return [
        f"* {len(flag.filenames):,} flagged: {markdown(flag.text)}. {flag.meaning}".rstrip()
        for flag in flags
    ]


def _sample_lines(samples: pl.DataFrame) -> list[str]:
    """The samples with their viability."""
    if samples.height == 0:
        return []
    rows = []
    for row in samples.head(MOST_IN_SUMMARY).to_dicts():
        viability, bounds = "", ""
        if row["viability"] is not None:
            viability = percent(row["viability"])
            bounds = _interval_words(row["viability_low"], row["viability_high"])
        rows.append(
            f"| {markdown(row['sample'])} | {row['images']:,} | {row['viable']:,} "
            f"| {row['non_viable']:,} | {viability} | {bounds} |"
        )
    return [
        f"### Samples ({samples.height:,})",
        "",
        "| sample | images | viable | non-viable | stained viable | 95 % interval |",
        "|---|--:|--:|--:|--:|---|",
        *rows,
        *_rest(samples.height, layout.SAMPLES_TABLE),
    ]


def _rest(total: int, table: str) -> list[str]:
    """A note where not everything is shown."""
    if total <= MOST_IN_SUMMARY:
        return []
    return ["", f"{total - MOST_IN_SUMMARY:,} more in `{table}`."]


def _place_lines(data: ReportData) -> list[str]:
    """Where the files are."""
    place = f" below {markdown(data.destination)}" if data.destination else ""
    grains = f" (as of {markdown(data.grains_as_of)})" if data.grains_as_of else ""
    return [
        f"Files{place}:",
        "",
        f"* report: `{layout.REPORT}`",
        f"* one row per image: `{layout.COUNTS_TABLE}`",
        f"* one row per sample: `{layout.SAMPLES_TABLE}`",
        f"* one row per grain: `{layout.GRAINS_TABLE}`{grains}",
        f"* annotated pictures: `{layout.ANNOTATED}`",
    ]
