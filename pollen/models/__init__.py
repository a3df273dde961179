"""Models: what they say of themselves, and how their weights are read."""
