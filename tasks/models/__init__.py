"""The registry of models in the bucket."""
