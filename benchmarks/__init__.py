"""Benchmarks that compare in one run: on a shared machine, ratios are more reliable than seconds."""
