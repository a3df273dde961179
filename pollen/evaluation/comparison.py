"""A trained model beside the one in production, as Markdown for the Prefect UI.

It is made of `metrics.json` alone, so that a run that concludes an earlier one shows the same.
"""

import io
from collections.abc import Mapping
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pollen.evaluation import wording
from pollen.evaluation.record import Metrics
from pollen.reports.pages import data_url, markdown

#: Charts that are shown, with what they show.
SHOWN: Final = {
    "training.png": "Course of the training",
    "viability_by_group.png": "Viability of each plant: marks should be on the black line",
}
#: Width of a chart, and how many colours it keeps: lines and letters need few.
CHART_PX: Final = 760
COLOURS: Final = 32
#: A larger chart is shown on the page only: the server keeps what the UI shows in its database.
MOST_BYTES: Final = 28_000


def small_chart(png: bytes) -> bytes | None:
    """Return a chart small enough for the UI, as PNG; None if it can't be made so small.

    Raises:
        OSError: If it is not a picture.
    """
    try:
        # Not Image.open: Ultralytics puts its own in its place, which looks for a package at a fault.
        with PngImageFile(io.BytesIO(png)) as opened:
            chart = opened.convert("RGB")
    except SyntaxError as error:  # Pillow raises this for other kinds of files
        raise OSError(f"not a PNG picture: {error}") from error
    ratio = min(1.0, CHART_PX / chart.width)
    size = max(1, round(chart.width * ratio)), max(1, round(chart.height * ratio))
    # The usual method drops rare colours, and lines are thin: all of them would turn grey.
    few = chart.resize(size, Image.Resampling.LANCZOS).quantize(
        COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
    )
    buffer = io.BytesIO()
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue() if buffer.tell() <= MOST_BYTES else None


def chart_lines(charts: Mapping[str, bytes]) -> list[str]:
    """Return the lines that show small charts, given by name."""
    lines: list[str] = []
    for name, title in SHOWN.items():
        if name in charts:
            lines += ["", f"### {title}", "", f"![chart]({data_url(charts[name], 'png')})"]
    return lines


def comparison_lines(metrics: Metrics) -> list[str]:
    """Return the figures of both models as a table; unknown figures are dashes."""
    new, production = (
        markdown(figures.model.version or "?") for figures in (metrics.new, metrics.production)
    )
    return [
        f"### Beside the model in production, on the {markdown(metrics.split)} pictures",
        "",
        f"| figure | new: {new} | production: {production} |",
        "|---|--:|--:|",
        *(
            f"| {row.name} | {row.new} | {row.production} |"
            for row in wording.rows(metrics.new, metrics.production)
        ),
    ]
