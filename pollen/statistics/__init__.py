"""Intervals and samples: how sure a viability is."""
