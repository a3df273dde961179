"""A detection run in short, as Markdown: what a person sees of it in the Prefect UI.

Names of files are other people's text, and are escaped. The whole stays small however many pictures
there are: whoever wants all of them finds the tables and the report.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from pollen import layout
from pollen.columns import FrameStatus
from pollen.reports.detection import ReportData, Thumbnail, flags_of, headline, warnings_of
from pollen.reports.pages import code, data_url, markdown
from pollen.statistics.intervals import percent
from pollen.statistics.samples import ONE_PLANT

#: Longer lists are cut, with a note where the whole one is.
MOST_ROWS = 20
#: Letters shown of a name and of a reason.
NAME_LETTERS = 70
REASON_LETTERS = 300

LOGIN_NOTE = (
    "Links open in the browser only where the bucket lets everybody read: otherwise they end with a request to log in "
    "or with *access denied*, and the same files are found with the program you upload pictures with, at the s3 "
    "addresses."
)


@dataclass(frozen=True)
class Highlights:
    """Pictures to look at, small.

    Attributes:
        least_certain: Those that the model was least sure about; the first one least.
        most_certain: Those it was most sure about; the first one most.
    """

    least_certain: tuple[Thumbnail, ...] = ()
    most_certain: tuple[Thumbnail, ...] = ()


def _no_link(_key: str) -> str:
    return ""


def markdown_summary(
    data: ReportData, highlights: Highlights = Highlights(), link: Callable[[str], str] = _no_link
) -> str:
    """The run in short.

    Args:
        data: What the report is made of.
        highlights: Pictures to show.
        link: Where a browser finds a file, by its key below the root; empty where it finds none.
    """
    parts = [
        _headline_lines(data),
        _failed_lines(data.counts),
        _flag_lines(data.counts),
        _sample_lines(data.samples),
        _picture_lines(
            "Least certain pictures: look at these first", highlights.least_certain, link
        ),
        _picture_lines("Most certain pictures", highlights.most_certain, link),
        _file_lines(data, link),
        _model_lines(data),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _headline_lines(data: ReportData) -> list[str]:
    """Images, grains, viability."""
    first = headline(data.counts, data.settings.sample_pattern)
    result = "no grain counted"
    if first.viability:
        interval = first.viability.interval
        bounds = f"95 % interval {_interval_words(interval.low, interval.high)}"
        if first.viability.one_plant:
            bounds += f", {ONE_PLANT}"
        result = f"**{percent(interval.estimate)}** stained viable ({bounds})"
    return [
        f"**{first.images:,}** images counted ({first.empty:,} without grains), "
        f"**{first.failed:,}** failed; **{first.counted:,}** grains counted of {first.detected:,} "
        f"found; {result}."
    ]


def _failed_lines(counts: pl.DataFrame) -> list[str]:
    """The failed images with their reasons; as a list, for the UI breaks no lines in tables."""
    failed = counts.filter(pl.col("input_present") & (pl.col("status") == str(FrameStatus.FAILED)))
    if failed.height == 0:
        return []
    return [
        f"### Failed images ({failed.height:,})",
        "",
        *(
            f"* **{row['filename']}**: {row['reason']}"
            for row in failed_rows(failed.sort("filename").head(MOST_ROWS))
        ),
        *_rest(failed.height, layout.COUNTS_TABLE),
    ]


def failed_rows(failed: pl.DataFrame) -> list[dict[str, str]]:
    """Failed images with their reasons as the cells of a table, which the UI takes for Markdown too.

    Args:
        failed: Rows of ``pollen_counts.csv``.
    """
    cells = failed.select("filename", pl.col("reason").fill_null("")).iter_rows()
    return [
        {"filename": _name(filename), "reason": markdown(_short(reason, REASON_LETTERS))}
        for filename, reason in cells
    ]


def _flag_lines(counts: pl.DataFrame) -> list[str]:
    """The flags with the number of images that have them."""
    present = counts.filter(pl.col("input_present"))
    counted = present.filter(pl.col("status") != str(FrameStatus.FAILED))
    flags = flags_of(present)
    lines = [f"* **{markdown(warning)}**" for warning in warnings_of(counted)]
    lines += [
        f"* {len(flag.filenames):,} flagged: {markdown(_short(flag.text, REASON_LETTERS))}. {flag.meaning}".rstrip()
        for flag in flags[:MOST_ROWS]
    ]
    return ["### To be careful about", "", *lines] if lines else []


def _sample_lines(samples: pl.DataFrame) -> list[str]:
    """The samples with their viability."""
    if samples.height == 0:
        return []
    return [
        f"### Samples ({samples.height:,})",
        "",
        "| sample | images | failed | viable | non-viable | stained viable | 95 % interval |",
        "|---|--:|--:|--:|--:|--:|---|",
        *_sample_rows(samples),
        *_rest(samples.height, layout.SAMPLES_TABLE),
    ]


def _sample_rows(samples: pl.DataFrame) -> Iterator[str]:
    for row in samples.head(MOST_ROWS).to_dicts():
        viability, bounds = "", ""
        if row["viability"] is not None:
            viability = percent(row["viability"])
            bounds = _interval_words(row["viability_low"], row["viability_high"])
        yield (
            f"| {_name(row['sample'])} | {row['images']:,} | {row['failed_images']:,} | {row['viable']:,} "
            f"| {row['non_viable']:,} | {viability} | {bounds} |"
        )


def _picture_lines(
    title: str, pictures: Sequence[Thumbnail], link: Callable[[str], str]
) -> list[str]:
    """Pictures side by side, their names above them."""
    if not pictures:
        return []
    names = [
        f"{number}. {_name(picture.filename)}, {markdown(picture.note)}"
        + _open(link(layout.annotated_key(picture.filename)))
        for number, picture in enumerate(pictures, 1)
    ]
    # In a table, for elsewhere the UI puts them one below the other. Without their names: an
    # alternative text ends at brackets.
    numbers = range(1, len(pictures) + 1)
    shown = [f"![picture {n}]({data_url(each.jpeg)})" for n, each in enumerate(pictures, 1)]
    table = [_row(f"{n}" for n in numbers), _row("---" for _ in numbers), _row(shown)]
    return [f"### {title}", "", *names, "", *table]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _file_lines(data: ReportData, link: Callable[[str], str]) -> list[str]:
    """Where the files are."""
    files = {
        "report": layout.REPORT,
        "one row per image": layout.COUNTS_TABLE,
        "one row per sample": layout.SAMPLES_TABLE,
        "one row per grain": layout.GRAINS_TABLE,
    }
    lines = ["### Files", ""]
    for title, key in files.items():
        lines.append(f"* {title}: {code(_place(data, key))}{_open(link(key))}")
        if key == layout.GRAINS_TABLE and data.grains_as_of:
            lines[-1] += f" (as of {markdown(data.grains_as_of)})"
    lines.append(f"* annotated pictures: {code(_place(data, layout.ANNOTATED))}")
    if link(layout.REPORT):
        lines += ["", LOGIN_NOTE]
    return lines


def _model_lines(data: ReportData) -> list[str]:
    """How it was counted."""
    return [
        f"Model {markdown(data.model_version)}, settings `{data.settings_fingerprint}`, edge rule "
        f"`{data.settings.edge_rule}`, overlap rule `{data.settings.overlap_rule}`."
    ]


def _open(url: str) -> str:
    """A link, where there is one. Its text is a word of ours: the UI shows escapes in it as they are."""
    return f" ([open]({url}))" if url else ""


def _place(data: ReportData, key: str) -> str:
    return f"{data.destination}/{key}" if data.destination else key


def _name(text: str) -> str:
    return markdown(_short(text, NAME_LETTERS))


def _short(text: str, letters: int) -> str:
    """A long text without its middle: both ends tell more than it."""
    if len(text) <= letters:
        return text
    head = letters // 2
    return f"{text[:head]}\N{HORIZONTAL ELLIPSIS}{text[head + 1 - letters :]}"


def _interval_words(low: float, high: float) -> str:
    """The bounds in words."""
    return f"{percent(low)} to {percent(high)}"


def _rest(total: int, table: str) -> list[str]:
    """A note where not everything is shown."""
    if total <= MOST_ROWS:
        return []
    return ["", f"{total - MOST_ROWS:,} more in `{table}`."]
