"""The page of an evaluation: one HTML file that needs no other files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pollen.classes import GrainClass
from pollen.dataset.manifest import Split
from pollen.evaluation import wording
from pollen.evaluation.disagreement import Disagreement
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.figures import Closeness
from pollen.evaluation.record import Decision, ModelFigures, PartFigures
from pollen.reports.pages import environment
from pollen.statistics.intervals import ASSUMED_CORRELATION

#: Longer tables are cut to the parts with most grains, with a note.
MOST_ROWS = 200

#: Explanations of the charts by file name, in the order of the page.
_CHARTS = {
    "viability_by_group.png": "Viability of each plant: the mark should be on the black line. Plants with few grains "
    "scatter more.",
    "counts.png": "Each mark is a picture. On the line, model and person count the same.",
    "counts_bland_altman.png": "The same as differences (Bland and Altman 1986): the solid line is the mean "
    "difference; 95 % of the pictures are expected between the dashed lines.",
    "viability_bland_altman.png": "Difference of viability for each slide; read it in the same way.",
    "confusion.png": "Labelled grains by what the model called them. The right column holds grains that it missed, "
    "the bottom row grains that it found but that are not labelled.",
    "precision_recall.png": "The share of labelled grains that are found (recall) against the share of found grains "
    "that are right (precision), as the confidence threshold falls.",
    "training.png": "The course of the training. Losses should fall and level off. Val losses that rise again while "
    "train losses fall mean that the model learns the pictures by heart.",
}


@dataclass(frozen=True)
class PageData:
    """The content of the page.

    Attributes:
        new: The evaluation of the new model.
        production: The evaluation of the model in production on the same pictures, if there is one.
        split: The split of the dataset that both were measured on.
        charts: PNG files by name, from `draw_charts`, and from `draw_training` as `training.png`.
        disagreements: Pictures to look at.
        decision: What the gate decided.
        notices: Sentences about what makes the figures of one of the models look too good.
        facts: Further facts by name, such as dataset and code version.
    """

    new: Evaluation
    production: Evaluation | None
    split: Split
    charts: Mapping[str, bytes]
    disagreements: Sequence[Disagreement] = ()
    decision: Decision | None = None
    notices: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def render_page(data: PageData) -> str:
    """Return the page, without scripts or outside resources; equal evaluations give equal bytes."""
    new = data.new.figures
    production = data.production.figures if data.production else None
    closeness = Closeness.of(data.new.scores, data.production.scores) if data.production else None
    template = environment({}).get_template("evaluation.html.j2")
    return template.render(
        data=data,
        figures=new,
        sentences=wording.sentences(new, production, closeness),
        rows=wording.rows(new, production),
        tiles=_tiles(new, production),
        charts=[(name, text) for name, text in _CHARTS.items() if name in data.charts],
        parts=[
            ("Plants", "Plant", _parts(new.groups, production.groups if production else None)),
            ("Slides", "Slide", _parts(new.slides, production.slides if production else None)),
        ],
        assumed_correlation=ASSUMED_CORRELATION,
        sizes=_sizes([new] + ([production] if production else [])),
        models=[("new model", data.new.card)]
        + ([("production model", data.production.card)] if data.production else []),
    )


@dataclass(frozen=True)
class _Tile:
    """A headline figure."""

    name: str
    value: str
    note: str
    production: str


def _tiles(new: ModelFigures, production: ModelFigures | None) -> list[_Tile]:
    """Return the figures a person wants first."""
    rows = {row.name: row for row in wording.rows(new, production)}
    overall = new.overall
    wrong = new.called_wrong[GrainClass.VIABLE.label]
    notes = {
        "count error": f"{overall.found:,} grains found, {overall.grains:,} labelled",
        "viability error": f"{wording.number(overall.viability_found)} % found, "
        f"{wording.number(overall.viability_true)} % labelled",
        "viable called non-viable": ""
        if wrong.low is None or wrong.high is None
        else f"95 % interval {100 * wrong.low:.1f} to {100 * wrong.high:.1f} %",
        "mAP50, viable": "1 is perfect",
        "mAP50, non-viable": "1 is perfect",
    }
    return [
        _Tile(name, rows[name].new, note, rows[name].production) for name, note in notes.items()
    ]


def _sizes(models: Sequence[ModelFigures]) -> list[dict[str, Any]]:
    """Return how many grains of each size every model found."""
    sizes = models[0].recall_by_size
    bounds = [size.from_px for size in sizes]
    return [
        {
            "name": size.name,
            "diameters": _diameters(low, high),
            "grains": size.grains,
            "found": [figures.recall_by_size[number].found for figures in models],
        }
        for number, (size, low, high) in enumerate(
            zip(sizes, bounds, [*bounds, None][1:], strict=True)
        )
    ]


def _diameters(low: float | None, high: float | None) -> str:
    """Return the bounds of a size class in words."""
    if not low:
        return f"below {wording.number(high, 0)}"
    if high is None:
        return f"{low:.0f} and more"
    return f"{low:.0f} to {high:.0f}"


def _parts(
    new: Mapping[str, PartFigures], production: Mapping[str, PartFigures] | None
) -> dict[str, Any]:
    """Return the table of the plants or slides: those with most grains, by name."""
    largest = sorted(new, key=lambda name: (-(new[name].grains or 0), name))[:MOST_ROWS]
    return {
        "total": len(new),
        "rows": list(_part_rows(sorted(largest), new, production)),
    }


def _part_rows(
    names: Sequence[str],
    new: Mapping[str, PartFigures],
    production: Mapping[str, PartFigures] | None,
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
