"""The dataset: reading exports of labelling tools, merging them, and what a manifest says of the result."""
