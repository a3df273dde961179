"""Evaluation: measure models on labelled pictures through the product's own counting, and compare two of them.

`evaluate` measures one model, `record` holds its figures, `choose_thresholds` sets what its card leaves open, the gate
decides on promotion, and `render_page` makes the page for people.
"""
