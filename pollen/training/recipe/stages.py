"""The stages of the bundled model's recipe."""

from dataclasses import replace
from typing import Final

from pollen.training.recipe.fitting import RecipeStage
from pollen.training.recipe.scenes import SceneMix
from pollen.training.settings import TrainSettings

RENDERED_SEED: Final = 7000
"""Start of the randomness of rendered frames."""

STAGES: Final = (
    RecipeStage(
        "1-collages",
        SceneMix(real=1.0, collage=1.0, blank=0.4, mosaic=0.25),
        side_px=320,
        scale=0.5,
        steps=550,
        seed=11,
    ),
    RecipeStage(
        "2-everything",
        SceneMix(real=1.0, collage=1.0, blank=0.3, rendered=0.6, mosaic=0.15),
        side_px=320,
        scale=0.5,
        steps=1200,
        rate=1e-3,
        last_rate=9e-4,
        seed=12,
    ),
    RecipeStage(
        "3-larger",
        SceneMix(real=1.2, collage=1.0, blank=0.25, rendered=0.6, mosaic=0.1, zoom=1.6),
        side_px=320,
        scale=0.75,
        steps=950,
        rate=9e-4,
        last_rate=8e-4,
        seed=13,
    ),
    RecipeStage(
        "4-finish",
        SceneMix(real=1.5, collage=1.0, blank=0.2, rendered=0.4, mosaic=0.05, zoom=1.5, hard=0.3),
        side_px=320,
        scale=0.75,
        steps=6200,
        rate=8e-4,
        last_rate=1e-5,
        seed=14,
    ),
    RecipeStage(
        "5-whole",
        SceneMix(real=2.0, collage=1.0, blank=0.2, rendered=0.3, zoom=1.35, hard=0.6, colour=1.25),
        side_px=480,
        scale=0.75,
        steps=1700,
        rate=3e-4,
        last_rate=1e-5,
        seed=15,
        mean_every=500,
    ),
)
"""The scenes of each stage, in order. A change of them raises `TRAINING_VERSION`."""

SEEDS_APART: Final = 1000
"""Between the stages' seeds of two seeds of a training."""


def window() -> tuple[int, float]:
    """Return the side of the model's input and its working scale: those of the last stage."""
    return STAGES[-1].side_px, STAGES[-1].scale


def stages_of(settings: TrainSettings) -> tuple[RecipeStage, ...]:
    """Return the stages with the steps and the seed that are set; the defaults are those of `STAGES`."""
    share, seed = settings.recipe_share, SEEDS_APART * settings.seed
    return tuple(
        replace(
            stage,
            steps=max(round(share * stage.steps), 1),
            mean_every=stage.mean_every and max(round(share * stage.mean_every), 1),
            seed=stage.seed + seed,
        )
        for stage in STAGES
    )
