"""The model that is shipped with the project: its weights and its cards.

The detector loads `best.pt` and `model.json` under the name `bundled`; `MODEL_CARD.md` is for people.
`pollen train DATA --output PLACE --set recipe=bundled` trains by the same recipe.
"""
