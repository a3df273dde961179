"""How good a model is: on labelled pictures, through the product's own counting, beside another.

``evaluate`` measures one model, ``choose_thresholds`` sets what its card leaves open, and
``render_page`` tells people what came out.
"""
