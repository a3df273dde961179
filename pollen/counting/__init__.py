"""Counting: the rules for detected grains, and the record rows of a frame."""
