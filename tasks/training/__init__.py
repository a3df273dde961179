"""The stages of training, from staged exports to a published model."""
