"""Charts of an evaluation, as PNG files."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pollen.classes import GrainClass
from pollen.evaluation.drawing import (
    LABEL_COLOUR,
    NEW_COLOUR,
    PRODUCTION_COLOUR,
    chart_style,
    panels,
    to_png,
)
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.figures import Agreement
from pollen.evaluation.precision import RECALL_POINTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEW, _PRODUCTION = "new model", "production model"
_STYLES = {_NEW: (NEW_COLOUR, "o", "-"), _PRODUCTION: (PRODUCTION_COLOUR, "^", "--")}
_NAMES = ["viable", "non-viable", "no grain"]
#: Most groups that stay readable; those with most grains are drawn.
MOST_GROUPS = 24

Named = Sequence[tuple[str, Evaluation]]


def draw_charts(new: Evaluation, production: Evaluation | None) -> dict[str, bytes]:
    """Draw all charts that need only the evaluations.

    Args:
        new: The model that is judged.
        production: The model in production on the same pictures.

    Returns:
        PNG files by name.
    """
    both: Named = [(_NEW, new)] + ([(_PRODUCTION, production)] if production else [])
    with chart_style():
        return {
            "counts.png": _counts(both),
            "counts_bland_altman.png": _bland_altman_counts(both),
            "viability_by_group.png": _viability_by_group(both),
            "viability_bland_altman.png": _bland_altman_viability(both),
            "confusion.png": _confusion(both),
            "precision_recall.png": _precision_recall(both),
        }


def _counts(both: Named) -> bytes:
    """Draw labelled against found grains per picture, a panel for each model."""
    figure, parts = panels(5.4 * len(both) + 0.6, 5.6, len(both), same_scale=True)
    for axes, (name, evaluation) in zip(parts, both, strict=True):
        labelled = np.array([len(score.picture.truth) for score in evaluation.scores])
        found = np.array([len(score.found) for score in evaluation.scores])
        most = max(1, int(labelled.max(initial=0)), int(found.max(initial=0)))
        axes.plot([0, most], [0, most], color=LABEL_COLOUR, linewidth=1)
        _points(axes, name, labelled, found)
        axes.set(title=name, xlabel="labelled grains", aspect="equal")
        _whole_numbers(axes)
    parts[0].set_ylabel("found grains")
    figure.suptitle(f"Grains per picture ({_pictures(both)}; larger marks are several pictures)")
    return to_png(figure)


def _points(axes: "Axes", name: str, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Draw marks whose area grows with the number of equal points."""
    points, number = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    colour, mark, _ = _STYLES[name]
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=45 * np.minimum(number, 40),
        marker=mark,
        color=colour,
        alpha=0.6,
        linewidths=0,
    )


def _whole_numbers(axes: "Axes") -> None:
    """Put ticks at whole numbers on both axes."""
    from matplotlib.ticker import MaxNLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))


def _bland_altman_counts(both: Named) -> bytes:
    agreements = {name: Agreement.of_counts(evaluation.scores) for name, evaluation in both}
    return _bland_altman(
        agreements,
        "mean of found and labelled grains",
        "found - labelled, grains",
        f"Difference of counts per picture ({_pictures(both)}; larger marks are several)",
    )


def _bland_altman_viability(both: Named) -> bytes:
    agreements = {
        name: Agreement.of_viability(list(evaluation.figures.slides.values()))
        for name, evaluation in both
    }
    slides = max(len(agreement.differences) for agreement in agreements.values())
    return _bland_altman(
        agreements,
        "mean of found and labelled viability, %",
        "found - labelled, percentage points",
        f"Difference of viability per slide ({slides} slides)",
    )


def _bland_altman(agreements: Mapping[str, Agreement], x: str, y: str, title: str) -> bytes:
    """Draw difference against mean, with bias and limits of agreement, a panel for each model."""
    figure, parts = panels(5.6 * len(agreements) + 0.8, 5.2, len(agreements), same_scale=True)
    for axes, (name, agreement) in zip(parts, agreements.items(), strict=True):
        _bland_altman_panel(axes, name, agreement)
        axes.set_xlabel(x)
    parts[0].set_ylabel(y)
    figure.suptitle(title)
    return to_png(figure)


def _bland_altman_panel(axes: "Axes", name: str, agreement: Agreement) -> None:
    colour = _STYLES[name][0]
    axes.axhline(0, color=LABEL_COLOUR, linewidth=1)
    _points(axes, name, agreement.means, agreement.differences)
    axes.axhline(agreement.bias, color=colour, linewidth=2)
    text = f"{name}\nbias {agreement.bias:+.2f}"
    if agreement.limits:
        for limit in agreement.limits:
            axes.axhline(limit, color=colour, linewidth=1.5, linestyle=(0, (6, 4)))
        text += ", 95 % limits {:+.2f} to {:+.2f}".format(*agreement.limits)
    axes.set_title(text, fontsize=13)


def _viability_by_group(both: Named) -> bytes:
    """Draw labelled and found viability of the groups with most grains."""
    groups = both[0][1].figures.groups
    known = [name for name, item in groups.items() if item.viability_true is not None]
    largest = sorted(known, key=lambda name: (-(groups[name].grains or 0), name))[:MOST_GROUPS]
    shown = sorted(largest, reverse=True)
    figure, (axes,) = panels(9.6, 2.2 + 0.42 * max(len(shown), 1))
    rows = np.arange(len(shown))
    labelled = np.array([groups[name].viability_true for name in shown], float)
    axes.plot(labelled, rows, "|", color=LABEL_COLOUR, markersize=27, markeredgewidth=2.5)
    shifts = {_NEW: 0.14, _PRODUCTION: -0.14} if len(both) > 1 else {_NEW: 0.0}
    for name, evaluation in both:
        colour, mark, _ = _STYLES[name]
        pairs = [
            (evaluation.figures.groups[group].viability_found, row)
            for row, group in zip(rows, shown, strict=True)
        ]
        points = np.array([pair for pair in pairs if pair[0] is not None], float).reshape(-1, 2)
        axes.plot(points[:, 0], points[:, 1] + shifts[name], mark, color=colour, markersize=8)
    axes.set_yticks(rows, [f"{name}  (n = {groups[name].grains})" for name in shown])
    axes.set(xlabel="stained viable, %", xlim=(-3, 103), ylim=(-0.7, max(len(shown), 1) - 0.3))
    rest = "" if len(known) == len(shown) else f"; the {len(shown)} largest of {len(known)}"
    axes.set_title(f"Viability per group (n = labelled grains{rest})")
    names = ["labels", *(name for name, _ in both)]
    figure.legend(axes.get_lines(), names, loc="outside lower center", ncols=len(names))
    return to_png(figure)


def _confusion(both: Named) -> bytes:
    """Draw counts and row percentages, a panel for each model."""
    figure, parts = panels(5.4 * len(both) + 0.6, 5.2, len(both), same_scale=True)
    for axes, (name, evaluation) in zip(parts, both, strict=True):
        _confusion_panel(axes, evaluation.confusion)
        axes.set_title(name)
        axes.set_xlabel("the model says")
    parts[0].set_ylabel("the label says")
    grains = both[0][1].figures.overall.grains
    figure.suptitle(f"Grains by label and by model (n = {grains} labelled grains)")
    return to_png(figure)


def _confusion_panel(axes: "Axes", table: NDArray[np.int64]) -> None:
    rows = table.sum(axis=1, keepdims=True)
    # The places without grains can't be counted: false grains are shaded as a part of the labelled ones.
    rows[-1] = table[:-1].sum()
    share = np.minimum(table / np.maximum(rows, 1), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    last = len(_NAMES) - 1
    for row, column in np.ndindex(*table.shape):
        if (row, column) == (last, last):
            axes.text(column, row, "-", ha="center", va="center", color="#555555")
            continue
        percent = f"\n{100 * share[row, column]:.1f} %" if row != last else ""
        colour = "white" if share[row, column] > 0.55 else "black"
        text = f"{table[row, column]}{percent}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=14)
    axes.set_xticks(range(last + 1), [*_NAMES[:last], "no grain\n(missed)"])
    axes.set_yticks(range(last + 1), [*_NAMES[:last], "no grain\n(false)"])
    axes.tick_params(length=0)


def _precision_recall(both: Named) -> bytes:
    """Draw precision against recall at an overlap of 0.5, a panel for each class."""
    figure, parts = panels(11.6, 5.2, len(GrainClass), same_scale=True)
    for axes, item in zip(parts, GrainClass, strict=True):
        for name, evaluation in both:
            precision = evaluation.precision[item]
            colour, _, line = _STYLES[name]
            value = "no label" if precision.ap50 is None else f"{precision.ap50:.3f}"
            label = f"{name}, mAP50 {value}"
            curve = precision.curves[0]
            axes.plot(RECALL_POINTS, curve, line, color=colour, linewidth=2.2, label=label)
        labelled = both[0][1].precision[item].labelled
        axes.set_title(f"{_NAMES[item]} (n = {labelled} labelled)")
        axes.set(xlabel="recall", xlim=(0, 1.01), ylim=(0, 1.03))
        axes.legend(loc="lower left")
    parts[0].set_ylabel("precision")
    figure.suptitle("Precision and recall of boxes at an overlap of 0.5")
    return to_png(figure)


def _pictures(both: Named) -> str:
    return f"n = {len(both[0][1].scores)} pictures"
