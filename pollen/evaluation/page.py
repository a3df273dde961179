"""The page of an evaluation: one HTML file that stands alone, for people."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isinf
from typing import Any, Literal

from pollen.classes import GrainClass
from pollen.evaluation import wording
from pollen.evaluation.disagreement import Disagreement
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.figures import SizeRecall, Summary
from pollen.evaluation.gate import Decision
from pollen.reports.pages import environment
from pollen.statistics.intervals import ASSUMED_CORRELATION

MOST_ROWS = 200
"""Longer tables are cut to the parts with most grains, with a note."""

#: What each chart shows and how to read it, in the order of the page. Keys are file names.
_CHARTS = {
    "viability_by_group.png": "Viability of every plant: the mark should lie on the black line. Plants "
    "with few grains scatter more.",
    "counts.png": "Each mark is a picture. On the line, the model counts as the person did.",
    "counts_bland_altman.png": "The same as differences (Bland and Altman 1986): the solid line is the "
    "mean difference, 95 % of the pictures are expected between the dashed ones.",
    "viability_bland_altman.png": "Difference of viability for each slide, read in the same way.",
    "confusion.png": "What became of every labelled grain. The right column holds grains that were "
    "missed, the lowest row grains found where none is labelled.",
    "precision_recall.png": "How many of the labelled grains are found (recall) at which share of right "
    "ones (precision), while the least confidence falls.",
    "training.png": "The course of the training. Losses should fall and level off; val losses that rise "
    "again while train losses fall mean that the model learns the pictures by heart.",
}


@dataclass(frozen=True)
class PageData:
    """What the page is made of.

    Attributes:
        new: The model that is judged.
        production: The model in production on the same pictures, where there is one.
        split: On which split of the dataset.
        charts: PNG files by name, from :func:`pollen.evaluation.charts.draw_charts` and as
            ``training.png`` :func:`pollen.evaluation.curves.draw_training`.
        disagreements: Pictures to look at.
        decision: What the gate says.
        notices: What flatters one of the models.
        facts: What else to state at the end, such as dataset and code version, by name.
    """

    new: Evaluation
    production: Evaluation | None
    split: Literal["test", "val"]
    charts: Mapping[str, bytes]
    disagreements: Sequence[Disagreement] = ()
    decision: Decision | None = None
    notices: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def render_page(data: PageData) -> str:
    """The page, without scripts or outside resources; equal evaluations give equal bytes."""
    new, production = data.new, data.production
    template = environment({}).get_template("evaluation.html.j2")
    return template.render(
        data=data,
        sentences=wording.sentences(new, production),
        rows=wording.rows(new, production),
        tiles=_tiles(new, production),
        charts=[(name, text) for name, text in _CHARTS.items() if name in data.charts],
        parts=[
            ("Plants", "Plant", _parts(new.groups, production.groups if production else None)),
            ("Slides", "Slide", _parts(new.slides, production.slides if production else None)),
        ],
        assumed_correlation=ASSUMED_CORRELATION,
        sizes=_sizes([new] + ([production] if production else [])),
        models=[("new model", new)] + ([("production model", production)] if production else []),
    )


@dataclass(frozen=True)
class _Tile:
    """A headline figure."""

    name: str
    value: str
    note: str
    production: str


def _tiles(new: Evaluation, production: Evaluation | None) -> list[_Tile]:
    """The figures a person wants first."""
    rows = {row.name: row for row in wording.rows(new, production)}
    summary = new.overall
    interval = new.called_wrong[GrainClass.VIABLE].interval
    notes = {
        "count error": f"{summary.found:,} grains found, {summary.grains:,} labelled",
        "viability error": f"points: {wording.number(summary.viability_found)} % found, "
        f"{wording.number(summary.viability_true)} % labelled",
        "viable called non-viable": f"95 % interval {100 * interval.low:.1f} to "
        f"{100 * interval.high:.1f} %"
        if interval
        else "",
        "mAP50, viable": "1 is perfect",
        "mAP50, non-viable": "1 is perfect",
    }
    return [
        _Tile(name, rows[name].new, note, rows[name].production) for name, note in notes.items()
    ]


def _sizes(models: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """How many grains of each size every model found."""
    return [
        {
            "name": parts[0].name,
            "diameters": _diameters(parts[0]),
            "grains": parts[0].grains,
            "found": [part.found for part in parts],
        }
        for parts in zip(*(model.sizes for model in models), strict=True)
    ]


def _diameters(size: SizeRecall) -> str:
    """The bounds of a size class in words."""
    if size.low_px == 0:
        return f"below {size.high_px:.0f}"
    if isinf(size.high_px):
        return f"{size.low_px:.0f} and more"
    return f"{size.low_px:.0f} to {size.high_px:.0f}"


def _parts(new: Mapping[str, Summary], production: Mapping[str, Summary] | None) -> dict[str, Any]:
    """The table of the plants or slides: those with most grains, by name."""
    largest = sorted(new, key=lambda name: (-new[name].grains, name))[:MOST_ROWS]
    return {
        "total": len(new),
        "rows": list(_part_rows(sorted(largest), new, production)),
    }


def _part_rows(
    names: Sequence[str], new: Mapping[str, Summary], production: Mapping[str, Summary] | None
) -> Iterator[dict[str, Any]]:
    for name in names:
        own = new[name]
        models = [own] + ([production[name]] if production else [])
        yield {
            "name": name,
            "pictures": own.pictures,
            "grains": own.grains,
            "labelled": wording.number(own.viability_true),
            "models": [
                {
                    "grains": item.found,
                    "count": f"{item.bias:+d}" if item.bias else "0",
                    "found": wording.number(item.viability_found),
                    "error": wording.signed(item.viability_error),
                }
                for item in models
            ],
        }
