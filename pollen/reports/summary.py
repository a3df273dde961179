"""The summary of a detection run as Markdown, for the Prefect UI.

Names of files are text from outside and are escaped. The summary stays small for any number of
pictures: the tables and the report have all of them.
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

#: Longer lists are cut, with a note on where to find the whole list.
MOST_ROWS = 20
#: Letters shown of a name and of a reason.
NAME_LETTERS = 70
REASON_LETTERS = 300

LOGIN_NOTE = (
    "Links open in the browser only if everybody may read the bucket. Otherwise the browser asks you to log in or "
    "shows *access denied*; then open the same files at their s3 addresses, with the program that you upload "
    "pictures with."
)


@dataclass(frozen=True)
class Highlights:
    """Small pictures of both ends of the model's certainty.

    Attributes:
        least_certain: Those that the model was least certain about, the least certain first.
        most_certain: Those that it was most certain about, the most certain first.
    """

    least_certain: tuple[Thumbnail, ...] = ()
    most_certain: tuple[Thumbnail, ...] = ()


def _no_link(_key: str) -> str:
    return ""


def markdown_summary(
    data: ReportData, highlights: Highlights = Highlights(), link: Callable[[str], str] = _no_link
) -> str:
    """Return the summary of a run.

    Args:
        data: The data of the report.
        highlights: Pictures to show.
        link: Returns the address of a file for browsers, by its key below the root; empty if it has none.
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
    """Return the numbers of images and grains, and the viability."""
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
    """Return the failed images with their reasons, as a list: the UI does not wrap lines in tables."""
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
    """Return failed images with their reasons as cells of a table, which the UI reads as Markdown.

    Args:
        failed: Rows of `pollen_counts.csv`.
    """
    cells = failed.select("filename", pl.col("reason").fill_null("")).iter_rows()
    return [
        {"filename": _name(filename), "reason": markdown(_short(reason, REASON_LETTERS))}
        for filename, reason in cells
    ]


def _flag_lines(counts: pl.DataFrame) -> list[str]:
    """Return the warnings, and the flags with the number of images that have them."""
    present = counts.filter(pl.col("input_present"))
    counted = present.filter(pl.col("status") != str(FrameStatus.FAILED))
    flags = flags_of(present)
    lines = [f"* **{markdown(warning)}**" for warning in warnings_of(counted)]
    lines += [
        f"* {len(flag.filenames):,} flagged: {markdown(_short(flag.text, REASON_LETTERS))}. {flag.meaning}".rstrip()
        for flag in flags[:MOST_ROWS]
    ]
    return ["### Warnings and flags", "", *lines] if lines else []


def _sample_lines(samples: pl.DataFrame) -> list[str]:
    """Return the samples with their viability."""
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
    """Return pictures side by side, with their names above them."""
    if not pictures:
        return []
    names = [
        f"{number}. {_name(picture.filename)}, {markdown(picture.note)}"
        + _open(link(layout.annotated_key(picture.filename)))
        for number, picture in enumerate(pictures, 1)
    ]
    # In a table, because the UI puts pictures elsewhere one below the other. Without their names,
    # because an alternative text ends at brackets.
    numbers = range(1, len(pictures) + 1)
    shown = [f"![picture {n}]({data_url(each.jpeg)})" for n, each in enumerate(pictures, 1)]
    table = [_row(f"{n}" for n in numbers), _row("---" for _ in numbers), _row(shown)]
    return [f"### {title}", "", *names, "", *table]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _file_lines(data: ReportData, link: Callable[[str], str]) -> list[str]:
    """Return the places of the files."""
    files = {
        "report": layout.REPORT,
        "one row per image": layout.COUNTS_TABLE,
        "one row per sample": layout.SAMPLES_TABLE,
        "one row per grain": layout.GRAINS_TABLE,
    }
    lines = ["### Files", ""]
    for title, key in files.items():
        lines.append(f"* {title}: {code(_place(data, key))}{_open(link(key))}")
        if key == layout.GRAINS_TABLE and data.grain_table_note:
            lines[-1] += f" ({markdown(data.grain_table_note)})"
    lines.append(f"* annotated pictures: {code(_place(data, layout.ANNOTATED))}")
    if link(layout.REPORT):
        lines += ["", LOGIN_NOTE]
    return lines


def _model_lines(data: ReportData) -> list[str]:
    """Return the model and the rules."""
    return [
        f"Model {markdown(data.model_version)}, settings `{data.settings_fingerprint}`, edge rule "
        f"`{data.settings.edge_rule}`, overlap rule `{data.settings.overlap_rule}`."
    ]


def _open(url: str) -> str:
    """Return a link if there is an address. Its text is a fixed word: the UI would show escapes in it."""
    return f" ([open]({url}))" if url else ""


def _place(data: ReportData, key: str) -> str:
    return f"{data.destination}/{key}" if data.destination else key


def _name(text: str) -> str:
    return markdown(_short(text, NAME_LETTERS))


def _short(text: str, letters: int) -> str:
    """Return a long text without its middle, which is less informative than both ends."""
    if len(text) <= letters:
        return text
    head = letters // 2
    return f"{text[:head]}\N{HORIZONTAL ELLIPSIS}{text[head + 1 - letters :]}"


def _interval_words(low: float, high: float) -> str:
    """Return the bounds in words."""
    return f"{percent(low)} to {percent(high)}"


def _rest(total: int, table: str) -> list[str]:
    """Return a note if not everything is shown."""
    if total <= MOST_ROWS:
        return []
    return ["", f"{total - MOST_ROWS:,} more in `{table}`."]
