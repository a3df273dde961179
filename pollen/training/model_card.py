"""The model card for people, `model_card.md`."""

from dataclasses import dataclass

from pollen.dataset.families import tells_plant
from pollen.dataset.manifest import Manifest, Split
from pollen.dataset.settings import DatasetSettings
from pollen.evaluation.record import Metrics
from pollen.models.card import ModelCard
from pollen.training.identity import TrainingIdentity
from pollen.training.lineage import Lineage


@dataclass(frozen=True)
class Making:
    """The making of a model.

    Attributes:
        dataset: Name of the dataset.
        number: Number of its version.
        manifest: That version.
        base: What training started from, as the person named it.
        identity: Of the training.
        course: Of the training, in words.
        negatives: Pictures of debris added to the train split.
        lineage: What the model has learnt from, its base included.
    """

    dataset: str
    number: int
    manifest: Manifest
    base: str
    identity: TrainingIdentity
    course: str
    negatives: int
    lineage: Lineage


def card_text(card: ModelCard, making: Making, metrics: Metrics) -> str:
    """Return the card in Markdown; equal models give equal text."""
    gate = metrics.gate
    settings = "\n".join(f"* {name}: {value}" for name, value in making.identity.settings.items())
    reasons = "\n".join(f"* {reason}" for reason in (gate.reasons if gate else ()))
    low, high = card.grain_diameter_range_px or (None, None)
    return f"""# Model card: {card.version}

SHA-256 of `weights/best.pt`: `{card.sha256}`.

## What it is for

Counting *stained viable* and *non-viable* pollen grains in micrographs of Alexander-stained pollen like those it was
trained on. The stain shows aborted against non-aborted grains; it does not show fertility. With other stains, plants
or microscopes check pictures by eye first.

## Data

Dataset `{making.dataset}`, version {making.number} (content {making.manifest.content_id[:16]}).
{separation(making.manifest)}

| split | pictures | viable | non-viable |
|---|---|---|---|
{_rows(making.manifest)}

Negatives (made-up pictures of debris without grains) that were added to the train split: {making.negatives}.

## How it was made

Started from `{making.base}` ({making.identity.base[:16]}); {making.course}.
Training id {making.identity.id}. The confidence ({card.confidence}) and the viable odds ({card.viable_odds}: how much
likelier than non-viable a grain must be to be called viable) were chosen on val by count and viability error. The model
works at {card.working_scale} of the pictures' resolution, in tiles of {card.tile_px} px. Training grains measured
{card.grain_diameter_px} px in the median; the medians of 90 % of the pictures lie between {low} and {high} px.

{settings}

## What it reaches on `{metrics.split}`

{_figures(metrics)}

`evaluation.html` shows more, and the pictures on which it errs; `metrics.json` holds all figures.

## Promotion

{"Promoted" if gate and gate.promote else "Not promoted"} by the gate:

{reasons}

Licence: AGPL-3.0, as Ultralytics YOLO.
"""


def separation(manifest: Manifest) -> str:
    """Return one sentence on how far the splits are apart."""
    # The pattern by which the splits were made. Older manifests lack it, and a card must not fail after a training.
    pattern = manifest.settings.get("sample_pattern", DatasetSettings().sample_pattern)
    unknown = sum(not tells_plant(image.original, pattern) for image in manifest.images)
    if not unknown:
        return "No plant is in two splits."
    return (
        f"The names of {unknown} of its {len(manifest.images)} pictures tell no plant: each of them was put into a "
        "split on its own, so pictures of one plant may be in several splits."
    )


def _rows(manifest: Manifest) -> str:
    rows = []
    for split in Split:
        grains = manifest.grains(split)
        rows.append(
            f"| {split} | {len(manifest.split(split))} | {grains.viable} | {grains.non_viable} |"
        )
    return "\n".join(rows)


def _figures(metrics: Metrics) -> str:
    overall = metrics.new.overall
    maps = ", ".join(f"{name} {_known(value, '.4f')}" for name, value in metrics.new.map50.items())
    return "\n".join(
        [
            f"* {overall.pictures} pictures, {overall.grains} labelled grains, {overall.found} found",
            f"* count error: {_known(overall.count_error_percent, '.2f')} % (sum over pictures of |found - labelled|); "
            f"{overall.false} false, {overall.missed} missed",
            f"* viability: {_known(overall.viability_true, '.2f')} % labelled, "
            f"{_known(overall.viability_found, '.2f')} % found; {overall.confused} grains of the wrong class",
            f"* box mAP50: {maps}",
        ]
    )


def _known(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)
