"""Pictures of debris without any grain, for training: what a model must not count."""

from pollen.training.negatives.making import (
    Background,
    DebrisPicture,
    DebrisStock,
    Negative,
    gather_debris,
    make_negatives,
    read_debris,
)

__all__ = [
    "Background",
    "DebrisPicture",
    "DebrisStock",
    "Negative",
    "gather_debris",
    "make_negatives",
    "read_debris",
]
