"""The model shipped with the project: its weights, its card, and the recipe that made it.

``best.pt`` and ``model.json`` are what the detector loads under the name ``bundled``;
``MODEL_CARD.md`` is for people. ``pollen train DATA --output PLACE --set recipe=bundled`` runs the
recipe as a training like any other; ``python -m pollen.training.recipe.train DATA --work DIR`` runs it
alone and ``python -m pollen.training.recipe.evaluate DATA`` measures weights.
"""
