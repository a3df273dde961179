"""Figures, side by side in one run: ratios say more than seconds on a machine that others use too."""
