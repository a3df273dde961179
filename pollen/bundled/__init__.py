"""The model shipped with the project: its weights, its card, and the recipe that made it.

``best.pt`` and ``model.json`` are what the detector loads under the name ``bundled``;
``MODEL_CARD.md`` is for people. ``python -m pollen.bundled.train DATA --work DIR`` makes the
weights again and ``python -m pollen.bundled.evaluate DATA`` measures them.
"""
