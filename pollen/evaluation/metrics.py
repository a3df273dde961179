"""An evaluation as plain numbers: what ``metrics.json`` holds, and what the gate looks at."""

from typing import Any, Literal

from pollen.classes import GrainClass
from pollen.evaluation.evaluate import Evaluation
from pollen.evaluation.figures import Agreement, Rate, Summary
from pollen.evaluation.gate import EvaluationFigures, GroupFigures
from pollen.evaluation.gate import Rate as GateRate
from pollen.evaluation.matching import BACKGROUND


def as_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """Figures of one model, for JSON.

    No clock time, so equal results give equal bytes. Percentages have 2 decimals, fractions 4;
    ``None`` stands where nothing is known, such as the viability of no grain.
    """
    card = evaluation.card
    diameters = evaluation.diameter_error
    return {
        "model": {
            "version": card.version,
            "sha256": card.sha256,
            "confidence": card.confidence,
            "merge_iou": card.merge_iou,
            "viable_odds": card.viable_odds,
        },
        "map50": {name: _rounded(value, 4) for name, value in evaluation.map50.items()},
        "map50_95": {
            item.label: _rounded(evaluation.precision[item].ap50_95, 4) for item in GrainClass
        },
        "overall": summary_figures(evaluation.overall),
        "groups": {name: summary_figures(item) for name, item in evaluation.groups.items()},
        "slides": {name: summary_figures(item) for name, item in evaluation.slides.items()},
        "confusion": _confusion(evaluation),
        "called_wrong": {item.label: _rate(evaluation.called_wrong[item]) for item in GrainClass},
        "counts_per_picture": _agreement(Agreement.of_counts(evaluation.scores)),
        "viability_per_slide": _agreement(Agreement.of_viability(list(evaluation.slides.values()))),
        "recall_by_size": [
            {
                "name": size.name,
                "from_px": round(size.low_px, 1),
                "grains": size.grains,
                "found": size.found,
            }
            for size in evaluation.sizes
        ],
        "diameter_error_percent": {
            "median": _rounded(diameters[0] if diameters else None, 2),
            "median_absolute": _rounded(diameters[1] if diameters else None, 2),
        },
    }


def gate_figures(evaluation: Evaluation, split: Literal["test", "val"]) -> EvaluationFigures:
    """What the gate looks at, not rounded.

    Args:
        evaluation: Of one model.
        split: On which split of the dataset.
    """
    overall = evaluation.overall
    interval = evaluation.called_wrong[GrainClass.VIABLE].interval
    return EvaluationFigures(
        split=split,
        pictures=overall.pictures,
        grains=overall.grains,
        map50=evaluation.map50,
        map50_95=evaluation.map50_95,
        count_error_percent=overall.count_error_percent,
        viability_error_points=overall.viability_error,
        p_nonviable_given_viable=GateRate(
            value=interval.estimate if interval else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
        ),
        groups=tuple(
            GroupFigures(
                group=name, grains=item.grains, viability_error_points=item.viability_error
            )
            for name, item in evaluation.groups.items()
        ),
    )


def summary_figures(summary: Summary) -> dict[str, int | float | None]:
    """The figures of a summary."""
    return {
        "pictures": summary.pictures,
        "grains": summary.grains,
        "found": summary.found,
        "count_error": summary.count_error,
        "count_error_percent": _rounded(summary.count_error_percent, 2),
        "bias_percent": _rounded(summary.bias_percent, 2),
        "false": summary.false,
        "missed": summary.missed,
        "confused": summary.confused,
        "viability_true": _rounded(summary.viability_true, 2),
        "viability_found": _rounded(summary.viability_found, 2),
        "viability_error": _rounded(summary.viability_error, 2),
    }


def _confusion(evaluation: Evaluation) -> dict[str, dict[str, int]]:
    """Rows are labels, columns what the model said."""
    said = {item.label: int(item) for item in GrainClass}
    table = evaluation.confusion
    return {
        **{
            row: {
                **{column: int(table[number, place]) for column, place in said.items()},
                "missed": int(table[number, BACKGROUND]),
            }
            for row, number in said.items()
        },
        "no_grain": {column: int(table[BACKGROUND, place]) for column, place in said.items()},
    }


def _rate(rate: Rate) -> dict[str, Any]:
    interval = rate.interval
    return {
        "fraction": round(interval.estimate, 4) if interval else None,
        "low": round(interval.low, 4) if interval else None,
        "high": round(interval.high, 4) if interval else None,
        "events": rate.events,
        "grains": rate.grains,
        "unit": rate.unit,
        "units": rate.units,
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    limits = agreement.limits
    return {
        "n": len(agreement.differences),
        "bias": round(agreement.bias, 2),
        "limits_of_agreement": [round(limit, 2) for limit in limits] if limits else None,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    # + 0.0 turns -0.0 into 0.0.
    return None if value is None else round(float(value), digits) + 0.0
