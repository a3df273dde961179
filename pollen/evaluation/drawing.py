"""The style of charts: readable at half their size, the same bytes for the same figures."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Blue, vermilion and black stay apart in all common forms of colour blindness (Okabe & Ito 2008);
#: what they stand for also differs in marks and lines.
NEW_COLOUR, PRODUCTION_COLOUR, LABEL_COLOUR = "#0072b2", "#d55e00", "#000000"

_DPI = 110
_STYLE: Any = {
    "font.size": 13,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "axes.titlesize": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


@contextmanager
def chart_style() -> Iterator[None]:
    """Give all charts drawn inside the same style, whatever the user's own settings."""
    from matplotlib import rc_context, rcdefaults

    with rc_context():
        rcdefaults()
        with rc_context(_STYLE):
            yield


def panels(
    width: float, height: float, number: int = 1, *, same_scale: bool = False
) -> tuple["Figure", list["Axes"]]:
    """Return a figure with panels side by side; no window system is needed.

    Args:
        width: Inches, of 110 px.
        height: Inches.
        number: Of panels.
        same_scale: Whether they share both axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI)
    parts = figure.subplots(1, number, sharex=same_scale, sharey=same_scale, squeeze=False)
    return figure, list(parts[0])


def to_png(figure: "Figure") -> bytes:
    """Encode a figure, without the version of the software, which would change the bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
