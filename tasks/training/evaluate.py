"""Stages after a training: choose thresholds, write the card, evaluate the new model and the one in production."""

from collections.abc import Sequence
from dataclasses import replace

from pollen.classes import GrainClass
from pollen.dataset.families import tells_plant
from pollen.dataset.labelled import LabelledPicture, Origin, with_one_spelling
from pollen.dataset.manifest import ManifestImage
from pollen.detection.settings import DetectSettings
from pollen.evaluation.evaluate import Evaluation, evaluate
from pollen.evaluation.thresholds import choose_thresholds, sweep
from pollen.models.card import ModelCard, sha256_of
from pollen.statistics.samples import sample_of
from pollen.training.folder import LARGEST_MARGIN
from pollen.training.settings import TrainSettings
from tasks.models.resolve import Model
from tasks.stage import logger, stage
from tasks.storage.local_copies import cache_folder
from tasks.training.train import LaidOut, Trained, TrainingPlan


def labelled_pictures(
    images: Sequence[ManifestImage], pictures: Sequence[LabelledPicture], sample_pattern: str
) -> list[LabelledPicture]:
    """Return the pictures with their plants and slides, as the evaluation needs them."""
    return with_one_spelling(
        replace(picture, origin=_origin(image, sample_pattern))
        for image, picture in zip(images, pictures, strict=True)
    )


def _origin(image: ManifestImage, sample_pattern: str) -> Origin:
    """Return plant and slide; a picture whose name tells neither is a group and a slide of its own."""
    if not tells_plant(image.original, sample_pattern):
        return Origin(image.group, image.group, plant_known=False)
    return Origin(image.group, sample_of(image.original, sample_pattern).label)


def detection_settings(settings: TrainSettings) -> DetectSettings:
    """Return the settings that evaluation runs models with: those of detection, on the training's device."""
    return DetectSettings(device=settings.device)


@stage("choose thresholds of {plan.version}")
def choose_card(
    plan: TrainingPlan,
    trained: Trained,
    laid_out: LaidOut,
    validation: Sequence[LabelledPicture],
) -> ModelCard:
    """Choose confidence and viable odds on the val split, and return the card that detection needs.

    Raises:
        PollenError: If the model or a picture can't be used.
    """
    sizes, grid, settings = laid_out.sizes, laid_out.grid, plan.settings
    card = ModelCard(
        version=plan.version,
        sha256=sha256_of(trained.weights),
        task=plan.base.task,
        classes=tuple(item.label for item in GrainClass),
        tile_px=grid.tile_px,
        working_scale=grid.scale,
        grain_diameter_px=round(sizes.median_px, 1),
        grain_diameter_range_px=(round(sizes.low_px, 1), round(sizes.high_px, 1)),
        pixel_size_um=laid_out.pixel_size_um,
        max_grain_px=round(LARGEST_MARGIN * sizes.largest_px, 1),
        merge_iou=0.5,
    )
    swept = sweep(
        "val", validation, trained.weights, card, cache_folder(), detection_settings(settings)
    )
    chosen = choose_thresholds([swept])
    logger().info(
        "confidence %.2f and viable odds %.1f: count error %.2f %%, viability error %.2f points on val",
        chosen.confidence,
        chosen.viable_odds,
        chosen.count_error_percent,
        chosen.viability_error,
    )
    return chosen.on(card)


@stage("evaluate {model.card.version}")
def evaluate_model(
    model: Model, pictures: Sequence[LabelledPicture], settings: TrainSettings
) -> Evaluation:
    """Measure a model through the same counting as in detection.

    Raises:
        PollenError: If the model or a picture can't be used.
    """
    return evaluate(
        pictures, model.weights, model.card, cache_folder(), detection_settings(settings)
    )
