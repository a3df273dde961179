"""Draw the course of a training, from the table that Ultralytics or the bundled recipe writes."""

from pathlib import Path

import polars as pl

from pollen.evaluation.drawing import (
    LABEL_COLOUR,
    NEW_COLOUR,
    PRODUCTION_COLOUR,
    chart_style,
    panels,
    to_png,
)

#: Names of the losses and their colours, in the order drawn.
_LOSSES = {
    "box_loss": ("boxes", NEW_COLOUR),
    "seg_loss": ("masks", "#009e73"),
    "cls_loss": ("classes", PRODUCTION_COLOUR),
    "dfl_loss": ("box edges", "#cc79a7"),
}
_MAPS = {
    "metrics/mAP50(B)": ("mAP50", NEW_COLOUR, "-"),
    "metrics/mAP50-95(B)": ("mAP50-95", LABEL_COLOUR, "--"),
}


def draw_training(results_csv: Path) -> bytes | None:
    """Draw losses and mAP by epoch, or by step.

    Args:
        results_csv: `results.csv` of an Ultralytics run, or of the bundled recipe.

    Returns:
        A PNG, or `None` if there is no table or it is empty.
    """
    if not results_csv.is_file() or not results_csv.read_text(encoding="utf-8").strip():
        return None
    table = pl.read_csv(results_csv, infer_schema_length=None, truncate_ragged_lines=True)
    table = table.rename({name: name.strip() for name in table.columns})
    unit = next((name for name in ("epoch", "step") if name in table.columns), None)
    if not table.height or unit is None:
        return None
    # Numbers of a training that went wrong may be "inf" or "nan"; those points are not drawn.
    table = table.select(pl.all().cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False))
    with chart_style():
        return _draw(table, unit)


def _draw(table: pl.DataFrame, unit: str) -> bytes:
    epochs = table[unit].to_list()
    # Ultralytics writes zeros for runs that are not validated.
    known = {name for name in table.columns if (table[name].fill_null(0) != 0).any()}
    figure, (losses, maps) = panels(11.6, 5.0, 2)
    marker = "o" if table.height == 1 else None  # one point makes no line
    for part, line in (("train", "-"), ("val", ":")):
        for name, (label, colour) in _LOSSES.items():
            if f"{part}/{name}" in known:
                values = table[f"{part}/{name}"].to_list()
                losses.plot(
                    epochs, values, line, marker=marker, color=colour, label=f"{label}, {part}"
                )
    for name, (label, colour, line) in _MAPS.items():
        if name in known:
            maps.plot(
                epochs,
                table[name].to_list(),
                line,
                marker=marker,
                color=colour,
                linewidth=2,
                label=label,
            )
    losses.set(title="Losses", xlabel=unit, ylabel="loss")
    maps.set(title="Precision of boxes on val", xlabel=unit, ylabel="mAP", ylim=(0, 1.02))
    losses.legend(ncols=2, fontsize=11)
    if known & set(_MAPS):
        maps.legend(loc="lower right")
    else:
        maps.text(
            0.5, 0.5, "not measured during this training", ha="center", transform=maps.transAxes
        )
    figure.suptitle(f"Training (n = {max(filter(None, epochs), default=0):.0f} {unit}s)")
    return to_png(figure)
