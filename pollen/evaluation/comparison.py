"""A trained model beside the one in production, as Markdown: what a person sees in the Prefect UI.

Made of ``metrics.json`` alone, so that a run that concludes an earlier one says the same.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pollen.classes import GrainClass
from pollen.reports.pages import data_url, markdown

#: Charts that are shown, with what they show.
SHOWN: Final = {
    "training.png": "Course of the training",
    "viability_by_group.png": "Viability of every plant: marks should lie on the black line",
}
#: Width of a chart, and how many colours it keeps: lines and letters need few.
CHART_PX: Final = 760
COLOURS: Final = 32
#: A chart that weighs more is left to the page: the server keeps it in its database.
MOST_BYTES: Final = 28_000


def small_chart(png: bytes) -> bytes | None:
    """A chart small enough to be shown, as PNG; None where it can't be made so small.

    Raises:
        OSError: It is no picture.
    """
    try:
        # Not Image.open: Ultralytics puts its own in its place, which looks for a package at a fault.
        with PngImageFile(io.BytesIO(png)) as opened:
            chart = opened.convert("RGB")
    except SyntaxError as error:  # how Pillow says that it is another kind of file
        raise OSError(f"not a PNG picture: {error}") from error
    ratio = min(1.0, CHART_PX / chart.width)
    size = max(1, round(chart.width * ratio)), max(1, round(chart.height * ratio))
    # The usual method gives rare colours away, and lines are thin: all of them would be about grey.
    few = chart.resize(size, Image.Resampling.LANCZOS).quantize(
        COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue() if buffer.tell() <= MOST_BYTES else None


def chart_lines(charts: Mapping[str, bytes]) -> list[str]:
    """Small charts by name, with what they show."""
    lines: list[str] = []
    for name, title in SHOWN.items():
        if name in charts:
            lines += ["", f"### {title}", "", f"![chart]({data_url(charts[name], 'png')})"]
    return lines


def comparison_lines(told: Mapping[str, Any]) -> list[str]:
    """The figures of both models as a table.

    Args:
        told: What ``metrics.json`` says; what it does not say is shown as a dash.
    """
    new, production = told.get("new", {}), told.get("production", {})
    versions = [
        markdown(str(each.get("model", {}).get("version", "?"))) for each in (new, production)
    ]
    return [
        f"### Beside the model in production, on the {markdown(str(told.get('split', '?')))} pictures",
        "",
        f"| figure | new: {versions[0]} | production: {versions[1]} |",
        "|---|--:|--:|",
        *(
            f"| {name} | {_cell(take, new)} | {_cell(take, production)} |"
            for name, take in _FIGURES.items()
        ),
    ]


Take = Callable[[Mapping[str, Any]], str]


def _cell(take: Take, figures: Mapping[str, Any]) -> str:
    try:
        return take(figures)
    except (KeyError, TypeError, ValueError):  # not measured, or written by another version
        return "-"


def _overall(name: str, form: str) -> Take:
    return lambda figures: form.format(figures["overall"][name])


def _map50(item: GrainClass) -> Take:
    return lambda figures: f"{figures['map50'][item.label]:.3f}"


def _wrong(item: GrainClass) -> Take:
    return lambda figures: f"{100 * figures['called_wrong'][item.label]['fraction']:.2f} %"


_FIGURES: Final[Mapping[str, Take]] = {
    "labelled grains": _overall("grains", "{:,d}"),
    "found grains": _overall("found", "{:,d}"),
    "count error": _overall("count_error_percent", "{:.2f} %"),
    "viability error, points": _overall("viability_error", "{:+.2f}"),
    "viable called non-viable": _wrong(GrainClass.VIABLE),
    "non-viable called viable": _wrong(GrainClass.NON_VIABLE),
    "missed grains": _overall("missed", "{:,d}"),
    "false grains": _overall("false", "{:,d}"),
    "mAP50, viable": _map50(GrainClass.VIABLE),
    "mAP50, non-viable": _map50(GrainClass.NON_VIABLE),
}
